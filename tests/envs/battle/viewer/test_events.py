import math

import numpy as np
import pytest

from qmix_lightning.envs.battle.env import BattleEnvironment
from qmix_lightning.envs.battle.filming import film
from qmix_lightning.envs.battle.viewer.events import deaths_of, facing_of, healing_of, shots_of
from qmix_lightning.exploration.random_policy import RandomPolicy
from tests.envs.battle.viewer.drawn import BANELING, MARINE, MEDIVAC, STALKER, ZEALOT, standing

NEVER = np.iinfo(np.int64).max


def told(frames, *kinds):
    return shots_of(frames, kinds).tolist()


@pytest.mark.parametrize("seed", [1, 2])
def test_the_shots_of_marines_are_what_health_goes_down_by(seed):
    battle = film(BattleEnvironment("8m", seed=seed), RandomPolicy(seed))
    health, damage = battle.frames["health"], np.zeros_like(battle.frames["health"])
    for shot in shots_of(battle.frames, battle.kinds):
        assert shot["start"] == shot["end"]
        damage[shot["end"], shot["target"]] += 6
    assert damage.sum() > 200
    np.testing.assert_array_equal(health[1:], np.maximum(health[:-1] - damage[1:], 0))


@pytest.mark.parametrize("name", ["3s5z", "MMM2", "6h_vs_8z", "2s_vs_1sc"])
def test_every_attack_hurts_in_the_loop_of_its_end_and_nothing_else_does(name):
    env, policy = BattleEnvironment(name, seed=1), RandomPolicy(1)
    for _ in range(3):
        battle = film(env, policy)
        frames = battle.frames
        left = frames["health"].astype(float) + frames["shield"]
        # Healing gives back less in a loop than any weapon takes, and the want of creep takes 0.19; who dies may have
        # had less than that.
        lives = frames["health"][:-1] > 0
        hurt = (np.diff(left, axis=0) < -0.4) | (lives & (frames["health"][1:] <= 0))
        hit = np.zeros_like(hurt)
        shots = shots_of(frames, battle.kinds)
        shots = shots[shots["end"] <= battle.loops]
        hit[shots["end"] - 1, shots["target"]] = True
        assert hurt.sum() > 10
        np.testing.assert_array_equal(hit & lives, hurt)


def test_an_attack_that_is_called_off_is_no_shot():
    frames = standing((MARINE, 9, 9), (MARINE, 12, 9))
    frames["target"][:, 0] = frames["flight_target"][:, 0] = 1
    frames["wind_up"][3:5, 0] = 2, 1
    frames["cooldown"][3:5, 0] = 14, 13
    assert told(frames, MARINE) == []
    frames["cooldown"][5:, 0] = np.arange(12, 0, -1)
    assert told(frames, MARINE) == [(5, 5, 0, 1)]


def test_an_attack_without_wind_up_is_let_go_when_the_weapon_begins_to_cool():
    frames = standing((ZEALOT, 9, 9), (MARINE, 10, 9))
    frames["target"][:, 0] = frames["flight_target"][:, 0] = 1
    frames["cooldown"][4:, 0] = np.arange(19, 6, -1)
    assert told(frames, ZEALOT, MARINE) == [(4, 4, 0, 1)]


def test_the_second_blade_strikes_when_its_flight_is_over():
    frames = standing((ZEALOT, 9, 9), (MARINE, 10, 9))
    frames["target"][:, 0] = frames["flight_target"][:, 0] = 1
    frames["cooldown"][4:, 0] = np.arange(19, 6, -1)
    frames["flight"][4:8, 0] = 4, 3, 2, 1
    assert told(frames, ZEALOT, MARINE) == [(4, 4, 0, 1), (8, 8, 0, 1)]


def test_a_missile_hits_whom_it_was_sent_to_when_its_flight_is_over_and_the_next_may_leave_at_once():
    frames = standing((STALKER, 9, 9), (MARINE, 12, 9), (MARINE, 12, 12))
    frames["target"][:, 0] = 2
    frames["flight_target"][:9, 0], frames["flight_target"][9:, 0] = 1, 2
    frames["flight"][4:13, 0] = 5, 4, 3, 2, 1, 4, 3, 2, 1
    frames["cooldown"][4:, 0] = 5, 4, 3, 2, 1, 9, 8, 7, 6, 5, 4, 3, 2
    assert told(frames, STALKER, MARINE) == [(4, 9, 0, 1), (9, 13, 0, 2)]


def test_a_missile_under_way_at_the_end_hits_nobody_before():
    frames = standing((STALKER, 9, 9), (MARINE, 12, 9))
    frames["flight_target"][:, 0] = frames["target"][:, 0] = 1
    frames["flight"][14:, 0] = 6, 5, 4
    frames["cooldown"][14:, 0] = 9, 8, 7
    assert told(frames, STALKER, MARINE) == [(14, 17, 0, 1)]


def test_the_second_blade_of_who_died_does_not_strike():
    frames = standing((ZEALOT, 9, 9), (MARINE, 10, 9))
    frames["target"][:6, 0] = frames["flight_target"][:6, 0] = 1
    frames["cooldown"][4:, 0] = 19
    frames["flight"][4:7, 0] = 4, 3, 2
    frames["health"][6:, 0] = 0
    assert told(frames, ZEALOT, MARINE) == [(4, 4, 0, 1)]


def test_who_dies_in_the_loop_of_an_attack_has_made_it_if_it_takes_no_time():
    for kind, shots in ((ZEALOT, [(4, 4, 0, 1)]), (MARINE, [])):
        frames = standing((kind, 9, 9), (kind, 10, 9))
        frames["flight_target"][4:, 0], frames["cooldown"][4:, 0], frames["health"][4:, 0] = 1, 19, 0
        assert told(frames, kind) == shots


def test_who_bursts_does_not_shoot():
    frames = standing((BANELING, 9, 9), (MARINE, 10, 9))
    frames["target"][:4, 0], frames["cooldown"][4:, 0], frames["health"][4:, 0] = 1, 13, 0
    assert told(frames, BANELING, MARINE) == []


def test_who_dies_long_before_the_end_of_a_wind_up_did_not_shoot():
    frames = standing((MARINE, 9, 9), (MARINE, 12, 9))
    frames["target"][:5, 0] = 1
    frames["wind_up"][3:5, 0], frames["cooldown"][3:, 0] = 4, 9
    frames["health"][5:, 0] = 0
    assert told(frames, MARINE) == []


def test_a_unit_dies_in_the_first_loop_without_health():
    frames = standing((MARINE, 9, 9), (MARINE, 12, 9))
    frames["health"][6:, 1] = 0
    assert deaths_of(frames).tolist() == [NEVER, 6]


def test_who_spends_energy_on_a_target_heals():
    frames = standing((MEDIVAC, 9, 9), (MARINE, 12, 9))
    frames["energy"][:, 0] = 100 - np.minimum(np.arange(17), 8)
    assert not healing_of(frames).any()
    frames["target"][:, 0] = frames["flight_target"][:, 0] = 1
    assert healing_of(frames)[:, 0].tolist() == [False] + [True] * 8 + [False] * 8


def test_units_face_their_target_or_where_they_last_went_or_at_first_the_other_team():
    frames = standing((MARINE, 9, 9), (MARINE, 9, 14), loops=8)
    assert facing_of(frames, 1)[0].tolist() == pytest.approx([math.pi / 2, -math.pi / 2])
    frames["x"][2:, 0] = 8.5, 8.0, 7.5, 7.5, 7.5, 7.5, 7.5
    assert facing_of(frames, 1)[:, 0].tolist() == pytest.approx([math.pi / 2] * 2 + [math.pi] * 7)
    frames["target"][6:, 0], frames["x"][:, 1] = 1, 12.5
    assert facing_of(frames, 1)[5:, 0].tolist() == pytest.approx([math.pi] + [math.pi / 4] * 3)
