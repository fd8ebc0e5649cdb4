"""The enemy: no strategy, an attack-move order and the game's own target acquisition.

The maps give the enemy one order at the start, to attack-move to a point; the rest is what any unit does by itself. It
takes the nearest target that it can see coming, keeps the one it can shoot, answers who shot it and is answered for by
its neighbours, and walks on when there is nobody.
"""

from __future__ import annotations

from typing import Any

from qmix_lightning.envs.battle.combat import call_off
from qmix_lightning.envs.battle.compiling import inlined
from qmix_lightning.envs.battle.state import NOBODY, SCAN_PERIOD, distance, gap

SCAN_RANGE = 5.0
"""Cells from edge to edge within which a unit looks for a target, if its weapon does not reach farther."""

LEASH = 21.0
"""Cells from edge to edge beyond which a unit gives up a target that it pursues."""

HELP_RADIUS = 4.0
"""Cells around a unit that was hit in which its idle neighbours answer the shooter."""


@inlined
def acquire(units: Any, types: Any, i: int, n_agents: int) -> None:
    """Choose the target of enemy ``i``: the one it can shoot already, else the nearest, else the one it pursues."""
    reach = types[units[i].kind].range
    current = units[i].target
    held = gap(units, types, i, current) if current != NOBODY else LEASH + 1.0
    if held <= reach or units[i].wind_up > 0:
        return
    if units[i].look > 0:
        units[i].look -= 1
        return
    units[i].look = SCAN_PERIOD - 1
    nearest, choice = max(reach, SCAN_RANGE), NOBODY
    for j in range(n_agents):
        if units[j].health > 0:
            between = gap(units, types, i, j)
            if between <= nearest:
                nearest, choice = between, j
    if choice == NOBODY and held <= LEASH:
        return
    if choice != current:
        call_off(units, i)
        units[i].target = choice


@inlined
def answer(units: Any, i: int, n_agents: int) -> None:
    """Turn enemy ``i``, which was just hit, and its neighbours without a target against the shooter."""
    shooter = units[i].shooter
    for j in range(n_agents, units.shape[0]):
        if (
            units[j].health > 0
            and units[j].target == NOBODY
            and units[shooter].health > 0
            and distance(units, i, j) <= HELP_RADIUS
        ):
            units[j].target = shooter
