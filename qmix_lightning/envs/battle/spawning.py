"""How a battle starts: who stands where, and in which order the units are counted."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qmix_lightning.envs.battle.compiling import inlined, subroutine
from qmix_lightning.envs.battle.movement import separate
from qmix_lightning.envs.battle.scenario import Scenario, Squad
from qmix_lightning.envs.battle.state import ATTACK_MOVE, IDLE, NOBODY, SCAN_PERIOD, start_clock, uniform

EnemyOrder = Literal["random", "creation", "sorted"]

_SPREADING_PASSES = 64
"""Enough to leave no overlap in the largest armies, so that nobody stirs before the first observation."""


class Lineup(NamedTuple):
    """The formation that every battle of a scenario starts from, one entry a unit, agents first."""

    kind: NDArray[np.int8]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    n_agents: int
    attack_x: float
    attack_y: float
    jitter: float  # cells by which each unit is displaced at most, along each axis
    enemy_order: int  # 0 as created, 1 shuffled in every battle, 2 sorted like the agents


def lineup_of(scenario: Scenario, jitter: float, enemy_order: EnemyOrder) -> Lineup:
    """Set a scenario's squads up in hexagonal rings around their points, just clear of each other."""
    types = scenario.unit_types
    squads = scenario.allies + scenario.enemies
    places = [place for squad in squads for place in _rings(squad)]
    return Lineup(
        kind=np.array([types.index(squad.unit) for squad in squads for _ in range(squad.count)], dtype=np.int8),
        x=np.array([x for x, _ in places], dtype=np.float64),
        y=np.array([y for _, y in places], dtype=np.float64),
        n_agents=scenario.n_agents,
        attack_x=scenario.attack_move_to[0],
        attack_y=scenario.attack_move_to[1],
        jitter=float(jitter),
        enemy_order=("creation", "random", "sorted").index(enemy_order),
    )


def _rings(squad: Squad) -> list[tuple[float, float]]:
    """The points of a hexagonal lattice nearest to a squad's point, nearest first, then counter-clockwise."""
    spacing = 2 * squad.unit.separation_radius
    rings = math.ceil(math.sqrt(squad.count))
    lattice = [
        (spacing * (column + row / 2), spacing * row * math.sqrt(3) / 2)
        for row in range(-rings, rings + 1)
        for column in range(-2 * rings, 2 * rings + 1)
    ]
    lattice.sort(key=lambda p: (round(math.hypot(*p), 6), math.atan2(p[1], p[0]) % (2 * math.pi)))
    return [(squad.at[0] + x, squad.at[1] + y) for x, y in lattice[: squad.count]]


@subroutine
def spawn(units: Any, types: Any, clock: Any, ground: Any, lineup: Any) -> None:
    """Start a battle anew: place, displace, spread and number its units, and send the enemies off."""
    start_clock(clock)
    n_units, n_agents = units.shape[0], lineup.n_agents
    for i in range(n_units):
        units[i].kind = lineup.kind[i]
        units[i].x = lineup.x[i] + uniform(clock, -lineup.jitter, lineup.jitter)
        units[i].y = lineup.y[i] + uniform(clock, -lineup.jitter, lineup.jitter)
        units[i].health = types[lineup.kind[i]].health
        units[i].moving = False
        units[i].cooldown = units[i].wind_up = units[i].hurt = units[i].push_x = units[i].push_y = 0.0
        units[i].target = NOBODY
        units[i].look = int(uniform(clock, 0.0, SCAN_PERIOD))
        units[i].order = IDLE if i < n_agents else ATTACK_MOVE
        units[i].goal_x, units[i].goal_y = lineup.attack_x, lineup.attack_y
    separate(units, types, ground, _SPREADING_PASSES)
    _sort(units, 0, n_agents)
    if lineup.enemy_order == 2:
        _sort(units, n_agents, n_units)
    elif lineup.enemy_order == 1:
        for i in range(n_units - 1, n_agents, -1):
            _swap(units, i, n_agents + int(uniform(clock, 0.0, i - n_agents + 1.0)))


@inlined
def _swap(units: Any, i: int, j: int) -> None:
    units[i].x, units[j].x = units[j].x, units[i].x
    units[i].y, units[j].y = units[j].y, units[i].y
    units[i].health, units[j].health = units[j].health, units[i].health
    units[i].kind, units[j].kind = units[j].kind, units[i].kind


@inlined
def _sort(units: Any, first: int, end: int) -> None:
    """Order units by type, then x, then y, as SMAC numbers its agents."""
    for i in range(first + 1, end):
        j = i
        while j > first and _precedes(units, j, j - 1):
            _swap(units, j, j - 1)
            j -= 1


@inlined
def _precedes(units: Any, i: int, j: int) -> bool:
    if units[i].kind != units[j].kind:
        return bool(units[i].kind < units[j].kind)
    if units[i].x != units[j].x:
        return bool(units[i].x < units[j].x)
    return bool(units[i].y < units[j].y)
