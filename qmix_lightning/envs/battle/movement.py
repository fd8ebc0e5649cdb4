"""Walking, sliding along walls, and units pushing each other apart."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from qmix_lightning.envs.battle.compiling import inlined, subroutine
from qmix_lightning.envs.battle.paths import first_step
from qmix_lightning.envs.battle.state import ATTACK_MOVE, IDLE, MOVE, NOBODY, gap, kind_of, plain
from qmix_lightning.envs.battle.terrain import stands

OVERLAP_TOLERANCE = 1 / 256
"""Cells by which two units may overlap before they push each other apart, so that a crowd comes to rest."""

GRAIN = 1 / 4096
"""Cells by which a unit walks farther than its weapon needs, so that rounding never leaves it just out of reach; also
the grain of the game's own positions."""

SEPARATION_PASSES = 2
"""Relaxations of overlaps in one game loop."""

TURN, TURNS = math.pi / 6, 6
"""Who is in the way of a unit that comes to fight is passed on one side, by the least of so many turns that is free."""

_COS, _SIN = math.cos(TURN), math.sin(TURN)


@inlined
def plan_step(units: Any, world: Any, i: int) -> None:
    """Choose where unit ``i`` walks in this loop: into its weapon's reach of a target, or on to its goal."""
    unit_type, target, order = world.types[kind_of(units, world, i)], units[i].target, units[i].order
    x, y = float(units[i].x), float(units[i].y)
    if target != NOBODY:
        to_x, to_y = float(units[target].x), float(units[target].y)
        radius = world.types[kind_of(units, world, target)].radius
        reach = max(unit_type.range, unit_type.heal_range) + unit_type.radius + radius - GRAIN
    elif order in (MOVE, ATTACK_MOVE):
        to_x, to_y, reach = float(units[i].goal_x), float(units[i].goal_y), 0.0
    else:
        return
    far = math.sqrt((to_x - x) ** 2 + (to_y - y) ** 2)
    if far <= reach:
        return
    if (plain(world) or unit_type.plane == 0) and world.waypoints.shape[0] > 0:
        via_x, via_y = first_step(world.ground, world.waypoints, x, y, to_x, to_y)
        if via_x != to_x or via_y != to_y:
            to_x, to_y, reach = via_x, via_y, 0.0
            far = math.sqrt((to_x - x) ** 2 + (to_y - y) ** 2)
    speed = float(unit_type.speed)
    if not plain(world) and unit_type.acceleration > 0:
        units[i].pace = min(speed, units[i].pace + unit_type.acceleration)
        speed = float(units[i].pace)
    step = min(speed, far - reach)
    if far > 0 and step > 0:
        units[i].moving = True
        dx, dy = (to_x - x) / far * step, (to_y - y) / far * step
        if not stands(world.ground, unit_type, x + dx, y + dy):
            dx, dy = _along_the_wall(world.ground, unit_type, x, y, to_x - x, to_y - y, step)
        units[i].push_x, units[i].push_y = dx, dy
        if units[i].detour != 0:
            _pass_by(units, world, i)


@subroutine
def _along_the_wall(
    ground: Any, unit_type: Any, x: float, y: float, east: float, north: float, step: float
) -> tuple[float, float]:
    """A step along an axis that is free, at full speed but not beyond the place headed for; none if neither is."""
    dx, dy = math.copysign(min(abs(east), step), east), math.copysign(min(abs(north), step), north)
    free_x, free_y = stands(ground, unit_type, x + dx, y), stands(ground, unit_type, x, y + dy)
    if free_x and (abs(east) >= abs(north) or not free_y):
        return dx, 0.0
    return 0.0, dy if free_y else 0.0


@subroutine
def _pass_by(units: Any, world: Any, i: int) -> None:
    """Turn the step of unit ``i`` to its side of those who stand in the way, or to the other if it cannot pass there.

    So a crowd flows around those who fight already, and surrounds its victim.
    """
    side = float(units[i].detour)
    east, north = units[i].push_x, units[i].push_y
    for turn in range(TURNS):
        if _is_free(units, world, i, east, north):
            units[i].push_x, units[i].push_y = east, north
            if turn == 0:
                units[i].detour = 0
            return
        east, north = east * _COS - side * north * _SIN, north * _COS + side * east * _SIN
    units[i].detour = -units[i].detour


@inlined
def _is_free(units: Any, world: Any, i: int, east: float, north: float) -> bool:
    """Whether unit ``i`` could take a step without coming closer to anybody who stands and whom it touches."""
    unit_type = world.types[kind_of(units, world, i)]
    x, y = np.float64(units[i].x) + east, np.float64(units[i].y) + north
    if not stands(world.ground, unit_type, x, y):
        return False
    for j in range(units.shape[0]):
        dx, dy = np.float64(units[j].x) - x, np.float64(units[j].y) - y
        other = world.types[kind_of(units, world, j)]
        reach = unit_type.separation_radius + other.separation_radius - OVERLAP_TOLERANCE
        if dx * dx + dy * dy < reach * reach and j != i and units[j].health > 0 and other.plane == unit_type.plane:
            closer = (np.float64(units[j].x) - units[i].x) * east + (np.float64(units[j].y) - units[i].y) * north > 0
            if closer and _keeps_still(units, world, j):
                return False
    return True


@inlined
def _keeps_still(units: Any, world: Any, i: int) -> bool:
    """Whether a unit fights where it stands, or has nothing to do."""
    target = units[i].target
    if target == NOBODY:
        return bool(units[i].order == IDLE)
    unit_type = world.types[kind_of(units, world, i)]
    return bool(gap(units, world, i, target) <= max(unit_type.range, unit_type.heal_range))


@inlined
def shift(units: Any, world: Any, i: int) -> None:
    """Move unit ``i`` by its push, which is used up, or along the wall that is in the way."""
    dx, dy = units[i].push_x, units[i].push_y
    if dx == 0.0 and dy == 0.0:
        return
    units[i].push_x = units[i].push_y = 0.0
    x, y = np.float64(units[i].x), np.float64(units[i].y)
    unit_type = world.types[kind_of(units, world, i)]
    if stands(world.ground, unit_type, x + dx, y + dy):
        units[i].x, units[i].y = x + dx, y + dy
    elif stands(world.ground, unit_type, x + dx, y):
        units[i].x = x + dx
    elif stands(world.ground, unit_type, x, y + dy):
        units[i].y = y + dy


@subroutine
def separate(units: Any, world: Any, law: Any, passes: int) -> None:
    """Push overlapping living units of a plane apart, standing ones less than moving ones.

    Every pass looks at all pairs before anyone moves, so that the order of the units does not matter.
    """
    n_units, types = units.shape[0], world.types
    for _ in range(passes):
        touched = False
        for i in range(n_units):
            if units[i].health <= 0:
                continue
            x, y = np.float64(units[i].x), np.float64(units[i].y)
            radius = types[kind_of(units, world, i)].separation_radius - OVERLAP_TOLERANCE
            for j in range(i + 1, n_units):
                reach = radius + types[kind_of(units, world, j)].separation_radius
                dx, dy = units[j].x - x, units[j].y - y
                squared = dx * dx + dy * dy
                if (
                    squared < reach * reach
                    and units[j].health > 0
                    and (plain(world) or types[kind_of(units, world, i)].plane == types[kind_of(units, world, j)].plane)
                ):
                    touched = True
                    _push_apart(units, world, law, i, j, dx, dy, math.sqrt(squared), reach + OVERLAP_TOLERANCE)
        if not touched:
            return
        for i in range(n_units):
            shift(units, world, i)


@inlined
def _push_apart(
    units: Any, world: Any, law: Any, i: int, j: int, dx: float, dy: float, far: float, reach: float
) -> None:
    """Share the overlap of units ``i`` and ``j``, ``far`` apart, between them; on one spot, ``i`` goes west."""
    weight_i = 1.0 if units[i].moving else np.float64(law.standing_weight)
    weight_j = 1.0 if units[j].moving else np.float64(law.standing_weight)
    share = weight_i / (weight_i + weight_j)
    if not plain(world):
        if world.types[kind_of(units, world, i)].speed == 0:  # a building yields to nobody
            share = 0.0
        elif world.types[kind_of(units, world, j)].speed == 0:
            share = 1.0
    if law.surround:
        _meet(units, i, j, dx, dy)
        _meet(units, j, i, -dx, -dy)
    overlap = reach - far
    if far == 0.0:
        dx, far = 1.0, 1.0
    east, north = dx / far * overlap, dy / far * overlap
    units[i].push_x -= east * share
    units[i].push_y -= north * share
    units[j].push_x += east * (1.0 - share)
    units[j].push_y += north * (1.0 - share)


@inlined
def _meet(units: Any, i: int, j: int, dx: float, dy: float) -> None:
    """Let unit ``i``, on its way to a target, choose on which side to pass unit ``j``, which stands before it."""
    target = units[i].target
    if target != NOBODY and target != j and units[i].moving and not units[j].moving and units[i].detour == 0:
        east, north = np.float64(units[target].x) - units[i].x, np.float64(units[target].y) - units[i].y
        if east * dx + north * dy > 0:
            units[i].detour = 1 if dx * north - dy * east >= 0 else -1
