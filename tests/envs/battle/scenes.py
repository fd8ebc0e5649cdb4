"""Battles drawn in ASCII.

One character is one cell and north is up. ``.`` can be walked on, ``#`` cannot; ``a``, ``b``, ``c`` are agents 0, 1, 2
and ``A``, ``B``, ``C`` enemies 0, 1, 2 of 3m, each in the middle of its cell. Whoever is not drawn is dead. Everything
beyond the drawing can be walked on.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from qmix_lightning.envs.battle.engine import game_loop
from qmix_lightning.envs.battle.env import BattleEnvironment
from qmix_lightning.envs.battle.scenario import load_scenario
from qmix_lightning.envs.battle.state import ATTACK_MOVE, IDLE, NOBODY
from qmix_lightning.envs.battle.terrain import ground_of

UNITS = "abcABC"
ACTIONS = {"no-op": 0, "stop": 1, "north": 2, "south": 3, "east": 4, "west": 5, "A": 6, "B": 7, "C": 8}
WEST, SOUTH = 8, 8  # the cell of the drawing's south-western corner
NEVER = 1e6


class Scene:
    """One battle of 3m as drawn; agents stand idle, enemies attack-move to ``goal``, looking out at once."""

    def __init__(self, drawing: str, *, goal: tuple[float, float] = (9.0, 16.0), seed: int = 0) -> None:
        self.env = BattleEnvironment("3m", seed=seed)
        self.env.reset()
        self.units, self.clock = self.env._battles[0], self.env._clocks[0]
        rows = drawing.split()[::-1]
        walkable = np.ones((32, 32), dtype=bool)
        walkable[SOUTH : SOUTH + len(rows), WEST : WEST + len(rows[0])] = [
            [cell != "#" for cell in row] for row in rows
        ]
        scenario = replace(load_scenario("3m"), walkable=tuple(map(tuple, walkable.tolist())))
        self.env._ground[...] = ground_of(scenario)
        self.units["health"] = 0
        for name in ("cooldown", "wind_up", "hurt", "push_x", "push_y", "look"):
            self.units[name] = 0
        self.units["target"] = NOBODY
        self.units["order"] = [IDLE] * 3 + [ATTACK_MOVE] * 3
        self.units["goal_x"], self.units["goal_y"] = goal
        for y, row in enumerate(rows):
            for x, cell in enumerate(row):
                if cell in UNITS:
                    self[cell]["health"] = 45
                    self[cell]["x"], self[cell]["y"] = WEST + x + 0.5, SOUTH + y + 0.5
        self.look()

    def __getitem__(self, name: str) -> np.void:
        return self.units[UNITS.index(name)]

    def at(self, name: str) -> tuple[float, float]:
        """Where a unit stands, in cells of the drawing."""
        return float(self[name]["x"]) - WEST, float(self[name]["y"]) - SOUTH

    def put(self, name: str, x: float, y: float) -> None:
        self[name]["x"], self[name]["y"] = x + WEST, y + SOUTH

    def gap(self, one: str, two: str) -> float:
        """Distance between the edges of two marines."""
        (x, y), (u, v) = self.at(one), self.at(two)
        return float(np.hypot(u - x, v - y)) - 0.75

    def pacify(self, *names: str) -> None:
        """Let units stand where they are and never shoot."""
        for name in names:
            self[name]["order"], self[name]["cooldown"] = IDLE, NEVER

    def look(self) -> None:
        """Let the agents do anything in the next step: the drawing came after SMAC's last look at the field."""
        alive = torch.from_numpy(self.units["health"][:3] > 0)
        mask = self.env._scene["agents", "action_mask"][0]
        mask[...] = alive[:, None]
        mask[:, 0] = ~alive

    def play(self, steps: int = 1, **actions: str):
        """Play environment steps; living agents stop unless they are told otherwise."""
        for _ in range(steps):
            chosen = [actions.get(n, "stop") if self[n]["health"] > 0 else "no-op" for n in "abc"]
            outcome = self.env.step(torch.tensor([[ACTIONS[action] for action in chosen]]))
        return outcome

    def loops(self, number: int = 1) -> None:
        """Play single game loops."""
        for _ in range(number):
            game_loop(self.units, self.env._types, self.clock, self.env._ground, 3)

    def legal(self, name: str) -> set[str]:
        mask = self.env._scene["agents", "action_mask"][0, UNITS.index(name)]
        return {action for action, number in ACTIONS.items() if mask[number]}
