"""What the agents' actions tell their units to do, and when they may."""

from __future__ import annotations

from typing import Any

from qmix_lightning.envs.battle.combat import call_off
from qmix_lightning.envs.battle.compiling import inlined
from qmix_lightning.envs.battle.state import ATTACK, IDLE, MOVE, NOBODY
from qmix_lightning.envs.battle.terrain import cell_is_walkable

NO_OP, STOP, NORTH, SOUTH, EAST, WEST, FIRST_ATTACK = 0, 1, 2, 3, 4, 5, 6
"""SMAC's actions; FIRST_ATTACK + j attacks enemy j."""

MOVE_AMOUNT = 2.0
"""Cells between a unit and the point that a move order sends it to, more than it can walk in one environment step."""

SHOOT_RANGE = 6.0
"""Cells between centres up to which SMAC lets an agent choose a target, whatever its weapon reaches."""


@inlined
def give_order(units: Any, agent: int, n_agents: int, action: int) -> None:
    """Replace the order of a living agent's unit by its action; ordering the same attack again disturbs nothing."""
    if action >= FIRST_ATTACK:
        enemy = n_agents + action - FIRST_ATTACK
        if units[agent].order != ATTACK or units[agent].target != enemy:
            call_off(units, agent)
            units[agent].order = ATTACK
            units[agent].target = enemy
        return
    call_off(units, agent)
    units[agent].target = NOBODY
    if action <= STOP:
        units[agent].order = IDLE
        return
    units[agent].order = MOVE
    units[agent].goal_x = units[agent].x + MOVE_AMOUNT * ((action == EAST) - (action == WEST))
    units[agent].goal_y = units[agent].y + MOVE_AMOUNT * ((action == NORTH) - (action == SOUTH))


@inlined
def can_move(units: Any, ground: Any, agent: int, action: int) -> bool:
    """Whether the cell one step of ``MOVE_AMOUNT / 2`` away in the direction of a move action can be walked on."""
    reach = MOVE_AMOUNT / 2
    x = units[agent].x + reach * ((action == EAST) - (action == WEST))
    y = units[agent].y + reach * ((action == NORTH) - (action == SOUTH))
    # SMAC truncates towards zero: just beyond the western and southern edge it still looks at the first cell.
    return bool(cell_is_walkable(ground, int(x), int(y)))
