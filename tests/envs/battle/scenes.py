"""Battles drawn in ASCII.

One character is one cell and north is up. ``.`` can be walked on, ``#`` cannot; ``a``, ``b``, ``c`` are agents 0, 1, 2
and ``A``, ``B``, ``C`` enemies 0, 1, 2, each in the middle of its cell: marines, unless they are said to be of another
type. Whoever is not drawn is dead. Everything beyond the drawing can be walked on.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from qmix_lightning.envs.battle.engine import game_loop
from qmix_lightning.envs.battle.env import BattleEnvironment
from qmix_lightning.envs.battle.scenario import MAP_SIZE, Scenario, Squad
from qmix_lightning.envs.battle.state import ATTACK, ATTACK_MOVE, HEAL, IDLE, NOBODY
from qmix_lightning.envs.battle.unit_types import load_unit

UNITS = "abcABC"
ACTIONS = {"no-op": 0, "stop": 1, "north": 2, "south": 3, "east": 4, "west": 5, "A": 6, "B": 7, "C": 8}
HEALS = {"a": 6, "b": 7, "c": 8}
WEST, SOUTH = 8, 8  # the cell of the drawing's south-western corner
NEVER = 1e6


def arena(drawing: str, **types: str) -> Scenario:
    """The map of a drawing: three agents and three enemies, of whom those without a type are marines."""
    rows = drawing.split()[::-1]
    walkable = np.ones((MAP_SIZE, MAP_SIZE), dtype=bool)
    walkable[SOUTH : SOUTH + len(rows), WEST : WEST + len(rows[0])] = [[cell != "#" for cell in row] for row in rows]
    # Two cells of the drawing's edge are out of the units' way.
    squads = [Squad(load_unit(types.get(name, "marine")), 1, (4.0 + 4.0 * i, 4.0)) for i, name in enumerate(UNITS)]
    return Scenario(
        name="drawn",
        allies=tuple(squads[:3]),
        enemies=tuple(squads[3:]),
        walkable=tuple(map(tuple, walkable.tolist())),
        heights=((127,) * MAP_SIZE,) * MAP_SIZE,
        attack_move_to=((9.0, 16.0), (9.0, 16.0)),
        hunt=False,
        episode_limit=60,
    )


class Scene:
    """One battle as drawn; agents stand idle, enemies attack-move to ``goal``, looking out at once."""

    def __init__(
        self,
        drawing: str,
        *,
        goal: tuple[float, float] = (9.0, 16.0),
        seed: int = 0,
        options: dict[str, object] | None = None,
        **types: str,
    ) -> None:
        scenario = arena(drawing, **types)
        self.env = BattleEnvironment(scenario, seed=seed, enemy_order="creation", **(options or {}))
        self.env.reset()
        self.units, self.clock, self.law = self.env._battles[0], self.env._clocks[0], self.env._laws[0]
        self.types = [load_unit(types.get(name, "marine")) for name in UNITS]
        rows = drawing.split()[::-1]
        for name in (
            "health",
            "cooldown",
            "wind_up",
            "flight",
            "pace",
            "calm",
            "hurt",
            "shield_hurt",
            "push_x",
            "push_y",
            "look",
        ):
            self.units[name] = 0
        self.units["target"] = self.units["shooter"] = NOBODY
        self.units["order"] = [IDLE] * 3 + [ATTACK_MOVE] * 3
        self.units["goal_x"], self.units["goal_y"] = goal
        self.units["kind"] = self.units["type"] = [scenario.unit_types.index(unit) for unit in self.types]
        self.units["energy"] = [unit.heal.energy if unit.heal else 0 for unit in self.types]
        for y, row in enumerate(rows):
            for x, cell in enumerate(row):
                if cell in UNITS:
                    unit = self.types[UNITS.index(cell)]
                    self[cell]["health"], self[cell]["shield"] = unit.health, unit.shield
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
        """Distance between the edges of two units."""
        (x, y), (u, v) = self.at(one), self.at(two)
        bodies = sum(self.types[UNITS.index(name)].radius for name in (one, two))
        return float(np.hypot(u - x, v - y)) - bodies

    def pacify(self, *names: str) -> None:
        """Let units stand where they are and never shoot, nor look for anybody until they are hit."""
        for name in names:
            self[name]["order"], self[name]["cooldown"], self[name]["look"] = IDLE, NEVER, 127

    def attack(self, one: str, other: str) -> None:
        """Order a unit to attack another, or a healer to heal it, without any look at what SMAC allows."""
        healer = self.types[UNITS.index(one)].heal
        self[one]["order"], self[one]["target"] = HEAL if healer else ATTACK, UNITS.index(other)

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
            outcome = self.env.step(torch.tensor([[(ACTIONS | HEALS)[action] for action in chosen]]))
        return outcome

    def loops(self, number: int = 1) -> None:
        """Play single game loops."""
        for _ in range(number):
            game_loop(self.units, self.env.world, self.law, self.clock)

    def until(self, happens: Callable[[], bool], limit: int = 400) -> int:
        """Play single game loops until something happens; how many."""
        for number in range(1, limit + 1):
            self.loops()
            if happens():
                return number
        raise AssertionError(f"It did not happen within {limit} loops.")

    def legal(self, name: str) -> set[str]:
        mask = self.env._scene["agents", "action_mask"][0, UNITS.index(name)]
        return {action for action, number in ACTIONS.items() if mask[number]}
