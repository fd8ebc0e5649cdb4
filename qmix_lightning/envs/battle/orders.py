"""What the agents' actions tell their units to do, and when they may."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from qmix_lightning.envs.battle.combat import call_off
from qmix_lightning.envs.battle.compiling import inlined
from qmix_lightning.envs.battle.state import ATTACK, HEAL, IDLE, MOVE, NOBODY, distance, kind_of
from qmix_lightning.envs.battle.terrain import cell_is_walkable

NO_OP, STOP, NORTH, SOUTH, EAST, WEST, FIRST_LOOK = 0, 1, 2, 3, 4, 5, 6
"""SMAC's actions. From FIRST_LOOK on come SMACv2's turns of the head, if there are cones, and then the attacks."""

_EPSILON = 1e-7


@inlined
def give_order(units: Any, world: Any, agent: int, action: int) -> None:
    """Replace the order of a living agent's unit by its action; ordering the same attack again disturbs nothing.

    What the game would refuse leaves the unit with the order it has: to attack what the weapon does not reach, to heal
    what is whole or a machine.
    """
    if action >= world.rules.first_attack:
        _engage_target(units, world, agent, action - world.rules.first_attack)
        return
    if action >= FIRST_LOOK:
        units[agent].facing = action - FIRST_LOOK
        return
    call_off(units, agent)
    units[agent].target = NOBODY
    if action <= STOP:
        units[agent].order = IDLE
        return
    units[agent].order = MOVE
    units[agent].goal_x = units[agent].x + world.rules.move_amount * ((action == EAST) - (action == WEST))
    units[agent].goal_y = units[agent].y + world.rules.move_amount * ((action == NORTH) - (action == SOUTH))


@inlined
def _engage_target(units: Any, world: Any, agent: int, slot: int) -> None:
    kind = units[agent].kind
    heals = world.types[kind].heal_rate > 0
    target = slot if heals else world.rules.n_agents + slot
    if units[target].health <= 0 or not (world.rules.action_mask or in_range(units, world, agent, target)):
        return
    other = world.types[kind_of(units, world, target)]
    if heals:
        if other.biological == 0 or units[target].health >= other.health:
            return
    elif world.damage[kind, units[target].kind] <= 0:
        return
    order = HEAL if heals else ATTACK
    if units[agent].order != order or units[agent].target != target:
        call_off(units, agent)
        units[agent].order = order
        units[agent].target = target


@inlined
def can_move(units: Any, world: Any, agent: int, action: int) -> bool:
    """Whether the cell half a ``move_amount`` away in the direction of a move action can be walked on."""
    reach = world.rules.move_amount / 2
    x = units[agent].x + reach * ((action == EAST) - (action == WEST))
    y = units[agent].y + reach * ((action == NORTH) - (action == SOUTH))
    # SMAC truncates towards zero: just beyond the western and southern edge it still looks at the first cell.
    return bool(cell_is_walkable(world.ground, int(x), int(y)))


@inlined
def can_target(units: Any, world: Any, agent: int, slot: int) -> bool:
    """Whether the attack action of this slot would have a target: a living enemy, or for a healer an agent to heal."""
    target = slot
    if world.types[kind_of(units, world, agent)].heal_rate > 0:
        if slot >= world.rules.n_agents or world.types[kind_of(units, world, slot)].heal_rate > 0:
            return False
    else:
        if slot >= world.rules.n_enemies:
            return False
        target = world.rules.n_agents + slot
    return bool(units[target].health > 0)


@inlined
def target_of(units: Any, world: Any, agent: int, slot: int) -> int:
    """The unit that the attack action of this slot is about."""
    return slot if world.types[kind_of(units, world, agent)].heal_rate > 0 else world.rules.n_agents + slot


@inlined
def in_range(units: Any, world: Any, agent: int, target: int) -> bool:
    """Whether SMAC holds unit ``target`` to be in an agent's shooting range."""
    reach = world.types[kind_of(units, world, agent)].shoot_range
    if world.rules.conic_fov:
        return in_cone(units, world, agent, target, reach)
    return bool(distance(units, agent, target) <= reach)


@inlined
def in_cone(units: Any, world: Any, agent: int, target: int, reach: float) -> bool:
    """Whether unit ``target`` lies in the cone before an agent, as SMACv2 works it out.

    It compares arc tangents on the side on which the target is, so that a cone also shows through the agent's back.
    """
    if distance(units, agent, target) > reach:
        return False
    dx = np.float64(units[target].x) - np.float64(units[agent].x)
    dy = np.float64(units[target].y) - np.float64(units[agent].y)
    aside = max(dx, _EPSILON) if dx > 0 else min(dx, -_EPSILON)
    look_x = world.directions[int(units[agent].facing), 0]
    look_y = world.directions[int(units[agent].facing), 1]
    look_x = max(look_x, _EPSILON) if dx > 0 else min(look_x, -_EPSILON)
    half = math.pi / world.rules.num_fov_actions
    return bool(abs(math.atan(dy / aside) - math.atan(look_y / look_x)) < half)
