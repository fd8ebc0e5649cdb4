import numpy as np
import pytest

from qmix_lightning.envs.battle.options import SmacOptions
from qmix_lightning.envs.battle.scenario import load_scenario
from qmix_lightning.envs.battle.state import CLOCK, SEEN, UNIT, seen, start_clock, start_keys, uniform
from qmix_lightning.envs.battle.world import world_of


def test_a_marine_in_game_loops():
    world = world_of(load_scenario("3m"), SmacOptions())
    (marine,) = world.types
    assert marine["speed"] == 2.25 / 16 == 0.140625
    assert marine["period"] == pytest.approx(13.773, abs=1e-3)
    assert marine["wind_up"] == pytest.approx(0.8)
    assert (marine["health"], marine["range"], marine["cooldown_scale"]) == (45, 5, 15)
    assert world.damage == [[6]]
    assert marine["radius"] == marine["separation_radius"] == marine["inner_radius"] == 0.375


def test_a_unit_fits_into_two_cache_lines():
    assert UNIT.itemsize <= 128


def test_a_unit_begins_with_what_shows_of_it():
    assert UNIT.names[: len(SEEN)] == SEEN
    assert [UNIT.fields[name][:2] for name in SEEN] == [(np.float32, 4 * place) for place in range(len(SEEN))]


def test_what_shows_of_a_unit_is_where_it_stands():
    battles = np.zeros((2, 3), UNIT)
    seen(battles)[1, 2] = range(1, 10)
    assert [battles[1, 2][name] for name in SEEN] == list(range(1, 10))
    assert np.count_nonzero(battles.view(np.float32)) == len(SEEN)  # no other field, and no other unit
    assert seen(battles[1], 4).shape == (3, 4)


def test_keys_depend_on_seed_and_number_of_the_battle_alone():
    clocks, later = np.zeros(8, CLOCK), np.zeros(3, CLOCK)
    start_keys(clocks, np.uint64(7), 0)
    start_keys(later, np.uint64(7), 5)
    assert (clocks["key"][5:] == later["key"]).all()
    assert len(np.unique(clocks["key"])) == 8
    start_keys(later, np.uint64(8), 5)
    assert not (clocks["key"][5:] == later["key"]).any()


def test_random_numbers_are_splitmix64():
    clock = np.zeros(1, CLOCK)[0]
    clock["random"] = 1234567
    # The published sequence of SplitMix64 for the seed 1234567.
    for word in (6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431):
        assert uniform(clock, 0.0, 1.0) == (word >> 11) / 2**53


def test_random_numbers_are_uniform_and_each_episode_has_its_own():
    clocks = np.zeros(1, CLOCK)
    start_keys(clocks, np.uint64(1), 0)
    clock, episodes = clocks[0], []
    for _ in range(2):
        start_clock(clock)
        episodes.append(np.array([uniform(clock, -1.0, 2.0) for _ in range(10_000)]))
    for drawn in episodes:
        assert -1 <= drawn.min() < -0.99
        assert 1.99 < drawn.max() < 2
        assert np.histogram(drawn, 10)[0].std() < 60  # 30 expected of 1000 in each tenth
    assert abs(np.corrcoef(episodes)[0, 1]) < 0.04
