"""Everything about a battle that does not change while it is fought."""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qmix_lightning.envs.battle.options import SmacOptions
from qmix_lightning.envs.battle.paths import waypoints_of
from qmix_lightning.envs.battle.scenario import Scenario
from qmix_lightning.envs.battle.state import LOOPS_PER_SECOND
from qmix_lightning.envs.battle.terrain import ground_of
from qmix_lightning.envs.battle.unit_types import PLANES, UnitType

SHOOT_RANGE: Final = 6.0
"""Cells between centres up to which SMAC lets an agent choose a target, whatever its weapon reaches."""

SIGHT_RANGE: Final = 9.0
"""Cells between centres within which an agent sees another unit; also the divisor of relative positions."""

_TIMES = ("period", "wind_up", "close_wind_up", "hit_delay", "flight", "side_flight")
_RATES = ("speed", "missile_speed", "regeneration", "creep_decay", "heal_rate", "energy_rate")
_BEYOND_SOLDIERS = (
    "shield", "acceleration", "regeneration", "creep_decay", "missile_speed", "hit_delay", "flight", "burst_radius",
    "line_width", "heal_rate", "energy_rate", "plane",
)  # fmt: skip

TYPE: Final = np.dtype(
    [
        (name, np.float64)
        for name in (
            "health", "shield", "armour", "radius", "separation_radius", "inner_radius", "acceleration", *_RATES,
            "range", "range_slop", "hits", *_TIMES, "close_range", "burst_radius", "line_half_length", "line_width",
            "heal_range", "heal_acquire_range", "heal_cost", "least_energy", "energy", "energy_limit",
            "cooldown_scale", "sight_range", "shoot_range", "plane", "armed", "biological", "ally_bit", "enemy_bit",
        )
    ],
    align=True,
)  # fmt: skip
"""Constants of one unit type: distances in cells, times in game loops, rates a loop; truth values are 0 or 1."""


RULES: Final = np.dtype(
    [
        *((name, np.dtype(type(value))) for name, value in SmacOptions()._asdict().items()),
        ("n_agents", np.int64),
        ("n_enemies", np.int64),
        ("n_actions", np.int64),
        ("first_attack", np.int64),  # action that attacks enemy 0
        ("type_bits", np.int64),
        ("ally_shields", np.int64),  # whether they are shown
        ("enemy_shields", np.int64),
        ("version", np.int64),  # of SMAC
        ("limit", np.int64),  # environment steps
        ("wins_without_medivacs", np.bool_),  # a side of medivacs alone is beaten
    ],
    align=True,
)
"""What SMAC shows, allows and pays: its options, and the sizes of the teams."""


class World(NamedTuple):
    """What the battles of an environment have in common, as compiled code reads it."""

    types: NDArray[Any]  # [K] TYPE
    damage: NDArray[np.float64]  # [K, K] of one hit before armour, 0 where the weapon cannot reach
    ground: NDArray[np.uint8]  # [x, y] cells
    heights: NDArray[np.float64]  # [x, y] from 0 to 1
    waypoints: NDArray[np.int16]  # ways around walls
    directions: NDArray[np.float64]  # [D, 2] into which agents can look, SMACv2's cones only
    rules: np.record  # RULES
    variety: int | None  # how many types there are, None where all is plain; see plain_soldiers


def world_of(scenario: Scenario, options: SmacOptions) -> World:
    """Gather what a scenario's battles have in common.

    Example:
        >>> from qmix_lightning.envs.battle.scenario import load_scenario
        >>> world = world_of(load_scenario("3s_vs_5z"), SmacOptions())
        >>> world.damage.tolist()  # of a stalker's and a zealot's hit on each
        [[14.0, 10.0], [8.0, 8.0]]
    """
    types, ground = scenario.unit_types, ground_of(scenario)
    looks = options.num_fov_actions if options.conic_fov else 0
    turns = [2 * math.pi * (i / looks) for i in range(looks)]
    return World(
        types=np.array([_constants(unit, scenario, options) for unit in types], dtype=TYPE),
        damage=np.array([[one.damage_to(other) for other in types] for one in types]),
        ground=ground,
        # From version 4.9 on the game sends the terrain from the south, and SMAC turns it over.
        heights=np.flip(np.array(scenario.heights, dtype=np.float64).T / 255, axis=1).copy(),
        waypoints=waypoints_of(ground),
        directions=np.array([(math.cos(turn), math.sin(turn)) for turn in turns]).reshape(-1, 2),
        rules=_rules(scenario, options, looks),
        variety=None if plain_soldiers(scenario) else len(types),
    )


def plain_soldiers(scenario: Scenario) -> bool:
    """Whether all units are alike and only walk and shoot, at once: numba then leaves out of their code what they lack.

    A step of 3m takes three quarters of the time. More such kinds of battles are not worth the time to compile them.

    Example:
        >>> from qmix_lightning.envs.battle.scenario import load_scenario
        >>> plain_soldiers(load_scenario("3m")), plain_soldiers(load_scenario("2s3z"))
        (True, False)
    """
    if len(scenario.unit_types) > 1 or scenario.version != 1:
        return False
    row = dict(zip(TYPE.names or (), _constants(scenario.unit_types[0], scenario, SmacOptions()), strict=True))
    return row["armed"] > 0 and row["speed"] > 0 and not any(row[name] for name in _BEYOND_SOLDIERS)


def _rules(scenario: Scenario, options: SmacOptions, looks: int) -> Any:
    rules = {
        **options._asdict(),
        "n_agents": scenario.n_agents,
        "n_enemies": scenario.n_enemies,
        "n_actions": 6 + looks + max(scenario.n_enemies, scenario.n_agents if _heals(scenario) else 0),
        "first_attack": 6 + looks,
        "type_bits": len(scenario.ally_types),
        "ally_shields": scenario.shields("allies"),
        "enemy_shields": scenario.shields("enemies"),
        "version": scenario.version,
        "limit": scenario.episode_limit,
        "wins_without_medivacs": _heals(scenario),
    }
    return np.rec.array([tuple(rules[name] for name in RULES.names or ())], dtype=RULES)[0]


def _heals(scenario: Scenario) -> bool:
    return any(unit.heal for unit in scenario.unit_types)


def _constants(unit: UnitType, scenario: Scenario, options: SmacOptions) -> tuple[float, ...]:
    """A row of :data:`TYPE`."""
    weapon, heal = unit.weapon, unit.heal
    row = dict.fromkeys(TYPE.names or (), 0.0)
    row.update({name: getattr(unit, name) for name in row if isinstance(getattr(unit, name, None), float)})
    if weapon:
        row.update({name: getattr(weapon, name) for name in row if isinstance(getattr(weapon, name, None), float)})
        row.update(armed=1.0, hits=weapon.hits, close_range=-math.inf)  # nobody is near enough, overlapping or not
        if weapon.close:
            row.update(close_range=weapon.close.range, close_wind_up=weapon.close.wind_up)
        if line := weapon.line:
            row.update(line_half_length=line.half_length, line_width=line.width)
            row.update(flight=line.delay, side_flight=line.side_delay)
    if heal:
        row.update(heal_range=heal.range, heal_acquire_range=heal.acquire_range, heal_rate=heal.rate)
        row.update(heal_cost=heal.cost, least_energy=heal.least_energy, energy=heal.energy)
        row.update(energy_limit=heal.energy_limit, energy_rate=heal.energy_rate)
    for name in _TIMES:
        row[name] *= LOOPS_PER_SECOND
    for name in _RATES:
        row[name] /= LOOPS_PER_SECOND
    reach = weapon.range if weapon else heal.range if heal else 0.0
    # SMACv2's table says 7 for the colossus, which its Liberty catalogue gives 6.
    ranges = {"colossus": 7.0}
    row.update(
        acceleration=unit.acceleration / LOOPS_PER_SECOND**2,
        plane=float(PLANES.index(unit.plane)),
        biological=float("biological" in unit.attributes),
        sight_range=unit.sight if options.use_unit_ranges else SIGHT_RANGE,
        shoot_range=max(ranges.get(unit.name, reach), options.min_attack_range)
        if options.use_unit_ranges
        else SHOOT_RANGE,
        ally_bit=scenario.ally_types.index(unit) if unit in scenario.ally_types else 0,
        enemy_bit=scenario.enemy_types.index(unit) if unit in scenario.enemy_types else 0,
    )
    return tuple(row.values())
