"""The ten unit types against the numbers of the Liberty catalogue, written down from it and not from the data files."""

import numpy as np
import pytest

from qmix_lightning.envs.battle.options import SmacOptions
from qmix_lightning.envs.battle.scenario import load_scenario
from qmix_lightning.envs.battle.unit_types import load_unit
from qmix_lightning.envs.battle.world import world_of

# name: health, shield, armour, radius, separation radius, speed a second, sight, SMAC's cooldown constant, plane
BODIES = {
    "marine": (45, 0, 0, 0.375, 0.375, 2.25, 9, 15, "ground"),
    "marauder": (125, 0, 1, 0.5625, 0.5, 2.25, 10, 25, "ground"),
    "medivac": (150, 0, 1, 0.75, 0.75, 2.75, 11, 200, "air"),
    "stalker": (80, 80, 1, 0.625, 0.625, 2.9531, 10, 35, "ground"),
    "zealot": (100, 50, 1, 0.5, 0.375, 2.25, 9, 22, "ground"),
    "colossus": (200, 150, 1, 1.0, 0.75, 2.25, 10, 24, "above"),
    "zergling": (35, 0, 0, 0.375, 0.375, 2.9531, 8, 11, "ground"),
    "baneling": (30, 0, 0, 0.375, 0.375, 2.5, 8, 1, "ground"),
    "hydralisk": (80, 0, 0, 0.625, 0.5, 2.25, 9, 10, "ground"),
    "spine_crawler": (300, 0, 2, 0.875, 0.875, 0, 11, 15, "ground"),
}

# name: damage, hits, range, seconds between attacks, seconds to the damage, cells a second of the missile
WEAPONS = {
    "marine": (6, 1, 5, 0.8608, 0.05, 0),
    "marauder": (10, 1, 6, 1.5, 0, 20),
    "stalker": (10, 1, 6, 1.44, 0.167, 18.75),
    "zealot": (8, 2, 0.1, 1.2, 0, 0),
    "colossus": (20, 2, 6, 2.2, 0.0832, 0),
    "zergling": (5, 1, 0.1, 0.696, 0.167, 0),
    "baneling": (20, 1, 0.25, 0.833, 0, 0),
    "hydralisk": (12, 1, 5, 0.83, 0.208, 40),
    "spine_crawler": (25, 1, 7, 1.6, 0.3332, 0),
}

# Game loops, 16 a second, between attacks, to the damage, and cells a loop.
IN_LOOPS = {
    "marine": (13.7728, 0.8, 0.140625),
    "marauder": (24.0, 0.0, 0.140625),
    "stalker": (23.04, 2.672, 0.18456875),
    "zealot": (19.2, 0.0, 0.140625),
    "colossus": (35.2, 1.3312, 0.140625),
    "zergling": (11.136, 2.672, 0.18456875),
    "baneling": (13.328, 0.0, 0.15625),
    "hydralisk": (13.28, 3.328, 0.140625),
    "spine_crawler": (25.6, 5.3312, 0.0),
}

ORDER = tuple(BODIES)

# One hit of the row on the column before armour; 0 where it does not reach.
DAMAGE = {
    #                 mar mrd med sta zea col zlg ban hyd spi
    "marine":        (6,  6,  6,  6,  6,  6,  6,  6,  6,  6),
    "marauder":      (10, 20, 0,  20, 10, 20, 10, 10, 10, 20),  # + 10 against armoured
    "medivac":       (0,  0,  0,  0,  0,  0,  0,  0,  0,  0),
    "stalker":       (10, 14, 14, 14, 10, 14, 10, 10, 10, 14),  # + 4 against armoured
    "zealot":        (8,  8,  0,  8,  8,  8,  8,  8,  8,  8),
    "colossus":      (20, 20, 0,  20, 20, 20, 20, 20, 20, 20),
    "zergling":      (5,  5,  0,  5,  5,  5,  5,  5,  5,  5),
    "baneling":      (35, 20, 0,  20, 35, 20, 35, 20, 35, 20),  # + 15 against light, which banelings are not
    "hydralisk":     (12, 12, 12, 12, 12, 12, 12, 12, 12, 12),
    "spine_crawler": (25, 30, 0,  30, 25, 30, 25, 25, 25, 30),  # + 5 against armoured
}  # fmt: skip


@pytest.mark.parametrize("name", ORDER)
def test_a_body_is_what_the_catalogue_says(name):
    unit = load_unit(name)
    body = (unit.health, unit.shield, unit.armour, unit.radius, unit.separation_radius, unit.speed, unit.sight)
    assert (*body, unit.cooldown_scale, unit.plane) == BODIES[name]


@pytest.mark.parametrize("name", WEAPONS)
def test_a_weapon_is_what_the_catalogue_says(name):
    weapon = load_unit(name).weapon
    numbers = (weapon.damage, weapon.hits, weapon.range, weapon.period, weapon.wind_up, weapon.missile_speed)
    assert numbers == WEAPONS[name]
    assert weapon.range_slop == (0 if name in ("colossus", "spine_crawler") else 1)


@pytest.mark.parametrize("name", ORDER)
def test_a_hit_takes_what_bonuses_and_planes_make_of_it(name):
    assert tuple(load_unit(name).damage_to(load_unit(other)) for other in ORDER) == DAMAGE[name]


def test_a_second_of_the_catalogue_is_sixteen_loops():
    for map_name in ("MMM", "1c3s5z", "bane_vs_bane", "6h_vs_8z", "2s_vs_1sc"):
        scenario = load_scenario(map_name)
        for unit, row in zip(scenario.unit_types, world_of(scenario, SmacOptions()).types, strict=True):
            if unit.weapon:
                loops = (row["period"], row["wind_up"], row["speed"])
                assert loops == pytest.approx(IN_LOOPS[unit.name], abs=1e-6)


def test_the_rates_of_a_medivac_a_loop():
    scenario = load_scenario("MMM")
    row = world_of(scenario, SmacOptions()).types[2]
    assert scenario.unit_types[2].name == "medivac"
    assert (row["heal_rate"], row["energy_rate"]) == (0.5625, 0.03515625)
    assert row["heal_rate"] * row["heal_cost"] == pytest.approx(0.185625)
    assert (row["energy"], row["energy_limit"], row["least_energy"]) == (50, 200, 5)
    assert (row["heal_range"], row["heal_acquire_range"], row["armed"]) == (4, 6, 0)
    assert row["acceleration"] == pytest.approx(2.3125 / 16**2)


def test_what_splashes_and_what_strikes_twice():
    colossus, zealot, baneling = (load_unit(name).weapon for name in ("colossus", "zealot", "baneling"))
    assert (colossus.line.half_length, colossus.line.width) == (1.25, 0.15)
    assert (16 * colossus.line.delay, 16 * colossus.line.side_delay) == (6, 4)
    assert 16 * zealot.hit_delay == pytest.approx(4.48)
    assert baneling.burst_radius == 2.2
    claws = load_unit("hydralisk").weapon.close
    assert (claws.range, claws.wind_up) == (0.5, 0.3)


def test_only_zerg_heal_by_themselves():
    zerg = {"zergling", "baneling", "hydralisk", "spine_crawler"}
    for unit in map(load_unit, ORDER):
        assert (unit.race == "zerg") == (unit.name in zerg)
        assert unit.regeneration == (0.2734 if unit.name in zerg else 0)


def test_what_smac_shows_of_a_cooldown_is_its_loops_by_a_constant_of_its_own():
    # Values above 1 do occur, and a stalker's stay far below: 23.04 + 2 of 35, where a colossus' reach 35.2 + 2 of 24.
    most = {name: (16 * period + 2) / BODIES[name][7] for name, (_, _, _, period, _, _) in WEAPONS.items()}
    expected = {"marine": 1.05, "marauder": 1.04, "stalker": 0.715, "zealot": 0.96, "colossus": 1.55, "hydralisk": 1.53}
    assert {name: most[name] for name in expected} == pytest.approx(expected, abs=0.005)
    row = world_of(load_scenario("2c_vs_64zg"), SmacOptions()).types[0]
    assert (row["period"] + 2) / row["cooldown_scale"] == pytest.approx(37.2 / 24)


def test_nothing_that_a_map_needs_of_a_unit_is_missing():
    for map_name in ("MMM2", "bane_vs_bane", "1c3s5z"):
        types = world_of(load_scenario(map_name), SmacOptions()).types
        for name in ("health", "radius", "separation_radius", "inner_radius", "sight_range", "shoot_range"):
            assert (types[name] > 0).all(), name
        assert np.isfinite([types[name] for name in types.dtype.names if name != "close_range"]).all()
