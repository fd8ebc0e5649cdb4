"""Teams and starting places that are drawn anew for every battle, as SMACv2 draws them.

Its distributions are ``weighted_teams`` and ``surrounded_and_reflect`` with p = 0.5 (Ellis et al., 2023).
"""

from __future__ import annotations

from typing import Any

from qmix_lightning.envs.battle.compiling import inlined
from qmix_lightning.envs.battle.state import uniform

SURROUNDED = 0.5
"""Chance that the agents start in the middle, surrounded, and not opposite their mirror image."""

_OFFSET = 2.0
"""Cells from the middle of the map, along both axes, at which a group of enemies starts at the nearest."""


@inlined
def draw_teams(units: Any, clock: Any, world: Any, lineup: Any) -> None:
    """Draw the types of the agents; the enemies are the same, and those beyond their number are drawn, too."""
    n_agents, n_enemies = world.rules.n_agents, world.rules.n_enemies
    _draw_team(units, clock, lineup, 0, n_agents)
    for i in range(min(n_agents, n_enemies)):
        units[n_agents + i].kind = units[i].kind
    if n_enemies > n_agents:
        _draw_team(units, clock, lineup, 2 * n_agents, n_agents + n_enemies)


@inlined
def _draw_team(units: Any, clock: Any, lineup: Any, first: int, end: int) -> None:
    """Draw types until they are not all of those that may not be alone."""
    again = True
    while again:
        again = True
        for i in range(first, end):
            chance, kind = uniform(clock, 0.0, 1.0), 0
            while kind < lineup.chances.shape[0] - 1 and chance >= lineup.chances[kind]:
                kind += 1
            units[i].kind = kind
            again = again and lineup.alone[kind]


@inlined
def draw_places(units: Any, clock: Any, world: Any) -> None:
    """Draw where units are created."""
    if uniform(clock, 0.0, 1.0) < SURROUNDED:
        _surround(units, clock, world)
    else:
        _reflect(units, clock, world)


@inlined
def _reflect(units: Any, clock: Any, world: Any) -> None:
    """Agents anywhere in the west but for a strip in the middle; enemies mirrored, or anywhere in the east."""
    width, height = float(world.ground.shape[0]), float(world.ground.shape[1])
    n_agents = world.rules.n_agents
    for i in range(n_agents):
        units[i].x, units[i].y = uniform(clock, 0.0, width / 2 - 1), uniform(clock, 0.0, height)
    for i in range(world.rules.n_enemies):
        if i < n_agents:
            units[n_agents + i].x, units[n_agents + i].y = width - units[i].x, units[i].y
        else:
            units[n_agents + i].x = uniform(clock, width / 2, width)
            units[n_agents + i].y = uniform(clock, 0.0, height)


@inlined
def _surround(units: Any, clock: Any, world: Any) -> None:
    """Agents in the middle; enemies in one to four groups on as many diagonals, anywhere between middle and corner."""
    width, height = float(world.ground.shape[0]), float(world.ground.shape[1])
    n_agents = world.rules.n_agents
    for i in range(n_agents):
        units[i].x, units[i].y = width / 2, height / 2
    n_groups = 1 + int(uniform(clock, 0.0, 4.0))
    taken, at, left = 0, n_agents, world.rules.n_enemies  # bits of the diagonals; the next enemy; how many are left
    for group in range(n_groups):
        diagonal = int(uniform(clock, 0.0, 4.0))
        while (taken >> diagonal) & 1:
            diagonal = int(uniform(clock, 0.0, 4.0))
        taken |= 1 << diagonal
        place = uniform(clock, 0.0, 1.0)
        east, north = 1.0 * (diagonal >= 2), 1.0 * (diagonal == 1 or diagonal == 2)
        near_x, near_y = width / 2 + _OFFSET * (2 * east - 1), height / 2 + _OFFSET * (2 * north - 1)
        members = left
        if group < n_groups - 1:  # a multinomial draw, one group after the other
            members = 0
            for _ in range(left):
                members += uniform(clock, 0.0, 1.0) < 1.0 / (n_groups - group)
        for i in range(at, at + members):
            units[i].x = near_x * place + width * east * (1 - place)
            units[i].y = near_y * place + height * north * (1 - place)
        at += members
        left -= members
