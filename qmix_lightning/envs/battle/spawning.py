"""How a battle starts: who stands where, and in which order the units are counted."""

from __future__ import annotations

import math
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qmix_lightning.envs.battle.compiling import SOURCES, inlined, kernel, subroutine
from qmix_lightning.envs.battle.movement import separate, shift
from qmix_lightning.envs.battle.mustering import draw_places, draw_teams
from qmix_lightning.envs.battle.physics import draw_laws
from qmix_lightning.envs.battle.scenario import Scenario
from qmix_lightning.envs.battle.state import ATTACK_MOVE, HUNT, IDLE, NOBODY, UNIT, start_clock, uniform
from qmix_lightning.envs.battle.terrain import stands
from qmix_lightning.envs.battle.world import World

EnemyOrder = Literal["random", "creation", "sorted"]

ENEMY_ORDERS: Final = ("creation", "random", "sorted")

_SPREADING_PASSES = 64
"""Enough to leave no overlap in the largest armies, so that nobody stirs before the first observation."""

_PLACES = 600
"""Of a formation, many more than there are units, since walls and other units take some."""

_TOUCH = 1e-6
"""Cells by which neighbours in a formation may seem to overlap by rounding."""


class Lineup(NamedTuple):
    """What every battle of a scenario starts from; units agents first."""

    kind: NDArray[np.int8]  # [U]
    x: NDArray[np.float64]  # [2, U], in rings and in a square; where units are created if teams are not random
    y: NDArray[np.float64]
    formations: NDArray[np.float64]  # [2, P, 2] places around a point, nearest first, one apart
    goal_from: tuple[float, float]  # the enemies' goal lies between these
    goal_to: tuple[float, float]
    order: int  # that the enemies get
    enemy_order: int  # 0 as created, 1 shuffled in every battle, 2 sorted like the agents
    chances: NDArray[np.float64]  # [K] of random teams: chance of a type and of those before it
    alone: NDArray[np.bool_]  # [K] types of which alone no team may be


def lineup_of(scenario: Scenario, world: World, enemy_order: EnemyOrder) -> Lineup:
    """Prepare the start of a scenario's battles."""
    types, squads, teams = scenario.unit_types, scenario.allies + scenario.enemies, scenario.random_teams
    number = scenario.n_agents + scenario.n_enemies
    goals = scenario.attack_move_to or ((0.0, 0.0), (0.0, 0.0))
    kinds = [types.index(squad.unit) for squad in squads for _ in range(squad.count)] or [0] * number
    chance = dict(zip(teams.units, teams.weights, strict=True)) if teams else {}
    lineup = Lineup(
        kind=np.array(kinds, dtype=np.int8),
        x=np.tile([squad.at[0] for squad in squads for _ in range(squad.count)] or [0.0] * number, (2, 1)),
        y=np.tile([squad.at[1] for squad in squads for _ in range(squad.count)] or [0.0] * number, (2, 1)),
        formations=np.array([_rings(), _square()]),
        goal_from=goals[0],
        goal_to=goals[1],
        order=ATTACK_MOVE if scenario.attack_move_to else HUNT if scenario.hunt else IDLE,
        enemy_order=ENEMY_ORDERS.index(enemy_order),
        chances=np.cumsum([chance.get(unit, 0.0) for unit in types]),
        alone=np.array([teams is not None and unit in teams.never_alone for unit in types]),
    )
    if not teams:
        _form(np.zeros(number, dtype=UNIT), world, lineup)
    return lineup


def _rings() -> list[tuple[float, float]]:
    """The points of a hexagonal lattice nearest to the origin, nearest first, then counter-clockwise."""
    size = math.ceil(math.sqrt(_PLACES))
    return _nearest(
        (column + row / 2, row * math.sqrt(3) / 2)
        for row in range(-size, size + 1)
        for column in range(-2 * size, 2 * size + 1)
    )


def _square() -> list[tuple[float, float]]:
    """The points of a square lattice nearest to the origin, nearest first, then counter-clockwise."""
    size = math.ceil(math.sqrt(_PLACES))
    return _nearest((column, row) for row in range(-size, size + 1) for column in range(-size, size + 1))


def _nearest(lattice: Any) -> list[tuple[float, float]]:
    key = lambda p: (round(math.hypot(*p), 6), math.atan2(p[1], p[0]) % (2 * math.pi))  # noqa: E731
    return sorted(((float(x), float(y)) for x, y in lattice), key=key)[:_PLACES]


@kernel
def _form(units: Any, world: Any, lineup: Any, _: int = SOURCES) -> None:
    """Spread the units that are created at one point, in either formation."""
    for formation in range(2):
        for i in range(units.shape[0]):
            units[i].kind = lineup.kind[i]
            lineup.x[formation, i], lineup.y[formation, i] = _free_place(
                units, world, lineup, formation, i, lineup.x[formation, i], lineup.y[formation, i]
            )
            units[i].x, units[i].y = lineup.x[formation, i], lineup.y[formation, i]


@inlined
def _free_place(units: Any, world: Any, lineup: Any, formation: int, i: int, x: float, y: float) -> tuple[float, float]:
    """The free place for unit ``i`` nearest to (x, y), among the units before it."""
    types = world.types
    spacing = 2 * types[units[i].kind].separation_radius
    for place in range(lineup.formations.shape[1]):
        at_x = x + spacing * lineup.formations[formation, place, 0]
        at_y = y + spacing * lineup.formations[formation, place, 1]
        if not stands(world.ground, types[units[i].kind], at_x, at_y):
            continue
        free = True
        for j in range(i):
            if types[units[j].kind].plane == types[units[i].kind].plane:
                reach = types[units[i].kind].separation_radius + types[units[j].kind].separation_radius - _TOUCH
                dx, dy = np.float64(units[j].x) - at_x, np.float64(units[j].y) - at_y
                if dx * dx + dy * dy < reach * reach:
                    free = False
                    break
        if free:
            return at_x, at_y
    return x, y


@subroutine
def spawn(units: Any, world: Any, law: Any, clock: Any, lineup: Any) -> None:
    """Start a battle anew: draw what is random about it, and muster its units."""
    draw(units, world, law, clock, lineup)
    muster(units, world, law, clock, lineup)


@subroutine
def draw(units: Any, world: Any, law: Any, clock: Any, lineup: Any) -> None:
    """Let the next battle's random numbers begin, and say who is created where in it."""
    start_clock(clock)
    if law.drawn:
        draw_laws(law, clock)
    if world.rules.version == 2:
        draw_teams(units, clock, world, lineup)
        draw_places(units, clock, world)
    else:
        for i in range(units.shape[0]):
            units[i].kind = lineup.kind[i]
            units[i].x, units[i].y = lineup.x[law.formation, i], lineup.y[law.formation, i]


@subroutine
def muster(units: Any, world: Any, law: Any, clock: Any, lineup: Any) -> None:
    """Start a battle of units of given kinds and places: spread and number them, and send the enemies off."""
    n_units, n_agents = units.shape[0], world.rules.n_agents
    if world.rules.version == 2:
        for i in range(n_units):
            units[i].x, units[i].y = _free_place(
                units, world, lineup, law.formation, i, np.float64(units[i].x), np.float64(units[i].y)
            )
    for i in range(n_units):
        _begin(units, world, law, clock, i)
        units[i].push_x = uniform(clock, -law.spawn_jitter, law.spawn_jitter)
        units[i].push_y = uniform(clock, -law.spawn_jitter, law.spawn_jitter)
    for i in range(n_units):
        shift(units, world, i)
    separate(units, world, law, _SPREADING_PASSES)
    _sort(units, 0, n_agents)
    if lineup.enemy_order == 2:
        _sort(units, n_agents, n_units)
    elif lineup.enemy_order == 1:
        for i in range(n_units - 1, n_agents, -1):
            _swap(units, i, n_agents + int(uniform(clock, 0.0, i - n_agents + 1.0)))
    share = 0.0
    if lineup.goal_from != lineup.goal_to:
        share = uniform(clock, 0.0, 1.0)
    for i in range(n_agents, n_units):
        units[i].order = lineup.order
        units[i].goal_x = lineup.goal_from[0] + share * (lineup.goal_to[0] - lineup.goal_from[0])
        units[i].goal_y = lineup.goal_from[1] + share * (lineup.goal_to[1] - lineup.goal_from[1])


@inlined
def _begin(units: Any, world: Any, law: Any, clock: Any, i: int) -> None:
    """Give unit ``i`` its full strength and nothing to do."""
    kind = units[i].kind
    units[i].type = kind
    units[i].health = units[i].health_before = world.types[kind].health
    units[i].shield = units[i].shield_before = world.types[kind].shield
    units[i].energy = world.types[kind].energy
    units[i].cooldown = units[i].wind_up = units[i].flight = units[i].pace = 0.0
    units[i].hurt = units[i].shield_hurt = units[i].push_x = units[i].push_y = 0.0
    units[i].x_before = units[i].y_before = 0.0
    units[i].known_by = units[i].facing = units[i].goal_x = units[i].goal_y = 0.0
    units[i].known = units[i].calm = 0
    units[i].finder = units[i].target = units[i].shooter = units[i].flight_target = NOBODY
    units[i].order = IDLE
    units[i].look = int(uniform(clock, 0.0, law.scan_period))
    units[i].moving, units[i].detour = False, 0


@inlined
def _swap(units: Any, i: int, j: int) -> None:
    """Exchange two units that have just begun; who looks for a target when is not theirs but their number's."""
    units[i].x, units[j].x = units[j].x, units[i].x
    units[i].y, units[j].y = units[j].y, units[i].y
    units[i].health, units[j].health = units[j].health, units[i].health
    units[i].shield, units[j].shield = units[j].shield, units[i].shield
    units[i].energy, units[j].energy = units[j].energy, units[i].energy
    units[i].type, units[j].type = units[j].type, units[i].type
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
