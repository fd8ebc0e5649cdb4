"""Walking, sliding along walls, and units pushing each other apart."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from qmix_lightning.envs.battle.compiling import inlined, subroutine
from qmix_lightning.envs.battle.state import ATTACK_MOVE, MOVE, NOBODY
from qmix_lightning.envs.battle.terrain import fits

STANDING_WEIGHT = 0.2
"""How much a standing unit yields to a push, where a moving one yields 1."""

OVERLAP_TOLERANCE = 1 / 256
"""Cells by which two units may overlap before they push each other apart, so that a crowd comes to rest."""

GRAIN = 1 / 4096
"""Cells by which a unit walks farther than its weapon needs, so that rounding never leaves it just out of reach; also
the grain of the game's own positions."""

SEPARATION_PASSES = 2
"""Relaxations of overlaps in one game loop."""


@inlined
def plan_step(units: Any, types: Any, i: int) -> None:
    """Choose where unit ``i`` walks in this loop: into its weapon's reach of a target, or on to its goal."""
    kind, target, order = units[i].kind, units[i].target, units[i].order
    speed = types[kind].speed
    if target != NOBODY:
        dx = np.float64(units[target].x) - np.float64(units[i].x)
        dy = np.float64(units[target].y) - np.float64(units[i].y)
        far = math.sqrt(dx * dx + dy * dy)
        reach = types[kind].range + types[kind].radius + types[units[target].kind].radius
        step = min(speed, far - reach + GRAIN)
    elif order in (MOVE, ATTACK_MOVE):
        dx = np.float64(units[i].goal_x) - np.float64(units[i].x)
        dy = np.float64(units[i].goal_y) - np.float64(units[i].y)
        far = math.sqrt(dx * dx + dy * dy)
        step = min(speed, far)
    else:
        return
    if far > 0 and step > 0:
        units[i].moving = True
        units[i].push_x = dx / far * step
        units[i].push_y = dy / far * step


@inlined
def shift(units: Any, types: Any, ground: Any, i: int) -> None:
    """Move unit ``i`` by its push, which is used up, or along the wall that is in the way."""
    dx, dy = units[i].push_x, units[i].push_y
    if dx == 0.0 and dy == 0.0:
        return
    units[i].push_x = units[i].push_y = 0.0
    x, y = np.float64(units[i].x), np.float64(units[i].y)
    radius = types[units[i].kind].inner_radius
    if fits(ground, x + dx, y + dy, radius):
        units[i].x, units[i].y = x + dx, y + dy
    elif fits(ground, x + dx, y, radius):
        units[i].x = x + dx
    elif fits(ground, x, y + dy, radius):
        units[i].y = y + dy


@subroutine
def separate(units: Any, types: Any, ground: Any, passes: int) -> None:
    """Push overlapping living units apart, standing ones less than moving ones.

    Every pass looks at all pairs before anyone moves, so that the order of the units does not matter.
    """
    n_units = units.shape[0]
    for _ in range(passes):
        touched = False
        for i in range(n_units):
            if units[i].health <= 0:
                continue
            x, y = np.float64(units[i].x), np.float64(units[i].y)
            radius = types[units[i].kind].separation_radius - OVERLAP_TOLERANCE
            for j in range(i + 1, n_units):
                reach = radius + types[units[j].kind].separation_radius
                dx, dy = units[j].x - x, units[j].y - y
                squared = dx * dx + dy * dy
                if squared < reach * reach and units[j].health > 0:
                    touched = True
                    _push_apart(units, i, j, dx, dy, math.sqrt(squared), reach + OVERLAP_TOLERANCE)
        if not touched:
            return
        for i in range(n_units):
            shift(units, types, ground, i)


@inlined
def _push_apart(units: Any, i: int, j: int, dx: float, dy: float, far: float, reach: float) -> None:
    """Share the overlap of units ``i`` and ``j``, ``far`` apart, between them; on one spot, ``i`` goes west."""
    weight_i = 1.0 if units[i].moving else STANDING_WEIGHT
    weight_j = 1.0 if units[j].moving else STANDING_WEIGHT
    share = weight_i / (weight_i + weight_j)
    overlap = reach - far
    if far == 0.0:
        dx, far = 1.0, 1.0
    east, north = dx / far * overlap, dy / far * overlap
    units[i].push_x -= east * share
    units[i].push_y -= north * share
    units[j].push_x += east * (1.0 - share)
    units[j].push_y += north * (1.0 - share)
