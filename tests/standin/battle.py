"""The embedded simulator with one battle, game loop by game loop: all that the stand-in knows of its inside."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from qmix_lightning.envs.battle.compiling import SOURCES, kernel
from qmix_lightning.envs.battle.engine import LOOPS_BEFORE_FIRST_SIGHT, game_loop
from qmix_lightning.envs.battle.orders import EAST, FIRST_ATTACK, NORTH, SOUTH, STOP, WEST, give_order
from qmix_lightning.envs.battle.scenario import load_scenario
from qmix_lightning.envs.battle.spawning import lineup_of, spawn
from qmix_lightning.envs.battle.state import CLOCK, UNIT, start_keys, types_of
from qmix_lightning.envs.battle.terrain import BLOCKED, ground_of

__all__ = ["LOOPS_BEFORE_FIRST_SIGHT", "Battle", "Shown"]


class Shown(NamedTuple):
    """One living unit as the protocol shows it."""

    slot: int
    agent: bool
    name: str
    x: float
    y: float
    health: float
    health_max: float
    shield: float
    shield_max: float
    energy: float
    cooldown: float


@kernel
def _spawn(battles, types, clocks, ground, lineup, _=SOURCES):
    spawn(battles[0], types, clocks[0], ground, lineup)


@kernel
def _play(battles, types, clocks, ground, n_agents, loops, _=SOURCES):
    for _loop in range(loops):
        game_loop(battles[0], types, clocks[0], ground, n_agents)


@kernel
def _order(battles, n_agents, agent, action, _=SOURCES):
    give_order(battles[0], agent, n_agents, action)


class Battle:
    """One battle after the other on one of SMAC's maps, the same ones as in an environment of this seed.

    Args:
        map_name: The map.
        seed: The environment's seed.
        options: Its ``spawn_jitter``, ``enemy_order`` and ``pathing``.
    """

    def __init__(self, map_name, seed, *, spawn_jitter=0.25, enemy_order="random", pathing="inner"):
        scenario = load_scenario(map_name, pathing)
        self.n_agents = scenario.n_agents
        self.agent_names = sorted({squad.unit.name for squad in scenario.allies})
        self._unit_types = scenario.unit_types
        self._types, self._ground = types_of(scenario), ground_of(scenario)
        self._lineup = lineup_of(scenario, spawn_jitter, enemy_order)
        self._battles = np.zeros((1, scenario.n_agents + scenario.n_enemies), dtype=UNIT)
        self._clocks = np.zeros(1, dtype=CLOCK)
        start_keys(self._clocks, np.uint64(seed), 0)
        self.walkable = self._ground != BLOCKED
        self.height = np.zeros(self.walkable.shape, dtype=np.uint8)

    def spawn(self):
        """Start the next battle."""
        _spawn(self._battles, self._types, self._clocks, self._ground, self._lineup)

    def play(self, loops):
        """Play some game loops."""
        _play(self._battles, self._types, self._clocks, self._ground, self.n_agents, loops)

    def kill(self, slots):
        """Let units be dead from now on."""
        for slot in slots:
            self._battles[0, slot]["health"] = 0

    def stop(self, slot):
        """Order an agent's unit to stop."""
        self._order(slot, STOP)

    def move(self, slot, x, y):
        """Order an agent's unit to a point, which must be where SMAC's moves lead."""
        unit = self._battles[0, slot]
        east, north = x - unit["x"], y - unit["y"]
        self._order(slot, (EAST if east > 0 else WEST) if abs(east) > abs(north) else NORTH if north > 0 else SOUTH)
        if (unit["goal_x"], unit["goal_y"]) != (x, y):
            raise ValueError(f"Expected a move to {unit['goal_x'], unit['goal_y']}, got {x, y}.")

    def target(self, slot, target):
        """Order an agent's unit to attack an enemy, or to heal another agent."""
        self._order(slot, FIRST_ATTACK + target - (self.n_agents if target >= self.n_agents else 0))

    def units(self):
        """Everybody who lives."""
        for slot, unit in enumerate(self._battles[0]):
            kind = self._unit_types[unit["kind"]]
            if unit["health"] > 0:
                yield Shown(
                    slot, slot < self.n_agents, kind.name, unit["x"], unit["y"], unit["health"], kind.health, 0, 0, 0,
                    unit["cooldown"],
                )  # fmt: skip

    def _order(self, slot, action):
        _order(self._battles, self.n_agents, slot, action)
