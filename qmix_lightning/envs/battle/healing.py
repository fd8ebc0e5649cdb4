"""Healers: whom they heal, by order or by themselves, and what that costs them."""

from __future__ import annotations

from typing import Any

import numpy as np

from qmix_lightning.envs.battle.compiling import inlined, subroutine
from qmix_lightning.envs.battle.state import ATTACK_MOVE, HEAL, IDLE, NOBODY, gap, kind_of

FOLLOWING = 1.0
"""Cells from edge to edge that a medivac keeps from the unit that it follows."""


@subroutine
def tend(units: Any, world: Any, law: Any, i: int) -> None:
    """Choose whom the enemies' healer ``i`` heals, and where it goes while nobody needs it."""
    unit_type, target = world.types[kind_of(units, world, i)], units[i].target
    if target != NOBODY and _wounded(units, world, target) and units[i].energy > 0:
        return
    units[i].target, units[i].order = NOBODY, IDLE
    fraction, near, friend, apart = 1.0, 1e9, NOBODY, 1e9
    for j in range(world.rules.n_agents, units.shape[0]):
        if units[j].health <= 0 or j == i:
            continue
        between = gap(units, world, i, j)
        if units[i].energy >= unit_type.least_energy and between <= unit_type.heal_acquire_range:
            left = units[j].health / world.types[kind_of(units, world, j)].health
            if _wounded(units, world, j) and (left < fraction or (left == fraction and between < near)):
                fraction, near = left, between
                units[i].target = j
        if world.types[kind_of(units, world, j)].armed > 0 and between < apart:
            friend, apart = j, between
    if units[i].target == NOBODY and law.medivac_follows and friend != NOBODY and apart > FOLLOWING:
        units[i].order = ATTACK_MOVE
        units[i].goal_x, units[i].goal_y = units[friend].x, units[friend].y


@subroutine
def heal(units: Any, world: Any, i: int) -> bool:
    """Let healer ``i`` heal its target for one game loop, and tell whether it stands to do so."""
    unit_type, target = world.types[kind_of(units, world, i)], units[i].target
    if target == NOBODY:
        return False
    if not _wounded(units, world, target):
        units[i].target = NOBODY
        if units[i].order == HEAL:
            units[i].order = IDLE
        return False
    if gap(units, world, i, target) > unit_type.heal_range:
        return False
    missing = world.types[kind_of(units, world, target)].health - np.float64(units[target].health)
    amount = min(unit_type.heal_rate, missing, np.float64(units[i].energy) / unit_type.heal_cost)
    units[target].hurt -= amount
    units[i].energy = max(np.float64(units[i].energy) - amount * unit_type.heal_cost, 0.0)
    return True


@inlined
def _wounded(units: Any, world: Any, j: int) -> bool:
    unit_type = world.types[kind_of(units, world, j)]
    return bool(units[j].health > 0 and units[j].health < unit_type.health and unit_type.biological > 0)
