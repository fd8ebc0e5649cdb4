"""The enemy: no strategy, an order at the start and the game's own target acquisition.

The maps give the enemies one order, mostly to attack-move to a point; the rest is what any unit does by itself. It
takes the nearest target that it can see coming, keeps the one it can shoot, answers who shot it and is answered for by
its neighbours, and walks on when there is nobody. Hunters are ordered to attack the nearest agent
whenever they have none.
"""

from __future__ import annotations

from typing import Any

from qmix_lightning.envs.battle.combat import call_off
from qmix_lightning.envs.battle.compiling import inlined, subroutine
from qmix_lightning.envs.battle.healing import tend
from qmix_lightning.envs.battle.state import HUNT, NOBODY, distance, gap, kind_of, plain

SCAN_RANGE = 5.0
"""Cells from edge to edge within which a unit looks for a target, if its weapon does not reach farther."""

LEASH = 21.0
"""Cells from edge to edge beyond which a unit gives up a target that it pursues."""

HELP_RADIUS = 4.0
"""Cells around a unit that was hit in which its idle neighbours answer the shooter."""

HUNTING_PERIOD = 8
"""Game loops between two orders to hunters: the maps' triggers fire every half second."""


@inlined
def acquire(units: Any, world: Any, law: Any, i: int) -> None:
    """Choose the target of enemy ``i``: the one it can shoot already, else one it sees, else the one it pursues."""
    unit_type, current = world.types[kind_of(units, world, i)], units[i].target
    if not plain(world) and unit_type.armed == 0:
        tend(units, world, law, i)
        return
    reach = unit_type.range
    held = gap(units, world, i, current) if current != NOBODY else LEASH + 1.0
    if held <= reach or units[i].wind_up > 0 or (units[i].order == HUNT and current != NOBODY):
        return
    # A building cannot pursue, and looks for another at once.
    if not plain(world) and current != NOBODY and unit_type.speed == 0:
        call_off(units, i)
        units[i].target, units[i].look = NOBODY, 0
    if units[i].look > 0:
        units[i].look -= 1
        return
    choice = _choose(units, world, law, i)
    if choice == NOBODY and held <= LEASH:
        return
    if choice != current:
        call_off(units, i)
        units[i].target = choice


@subroutine
def _choose(units: Any, world: Any, law: Any, i: int) -> int:
    """Look out for a target of enemy ``i``: by the ranking, one that it can shoot already first, then the nearest."""
    hunts, reach = units[i].order == HUNT, world.types[kind_of(units, world, i)].range
    units[i].look = (HUNTING_PERIOD if hunts else law.scan_period) - 1
    sight = 1e9 if hunts else max(reach, SCAN_RANGE)
    best, nearest, choice = -1, 0.0, NOBODY
    for j in range(world.rules.n_agents):
        if units[j].health <= 0 or world.damage[kind_of(units, world, i), kind_of(units, world, j)] <= 0:
            continue
        between = gap(units, world, i, j)
        if between > sight:
            continue
        rank = 0
        if law.ranking == 1 and not hunts:
            threatens = units[j].target != NOBODY or world.types[kind_of(units, world, j)].armed == 0
            rank = 2 * (between <= reach) + threatens
        if rank > best or (rank == best and between <= nearest):
            best, nearest, choice = rank, between, j
    return choice


@inlined
def answer(units: Any, world: Any, i: int) -> None:
    """Turn enemy ``i``, which was just hit, and its neighbours without a target against the shooter."""
    shooter = units[i].shooter
    if units[shooter].health <= 0:
        return
    for j in range(world.rules.n_agents, units.shape[0]):
        if (
            units[j].health > 0
            and units[j].target == NOBODY
            and world.damage[kind_of(units, world, j), kind_of(units, world, shooter)] > 0
            and distance(units, i, j) <= HELP_RADIUS
        ):
            units[j].target = shooter
