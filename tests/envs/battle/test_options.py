"""What SMAC lets its users choose: how it changes the sizes, and what is refused."""

import re

import numpy as np
import pytest
import torch

from qmix_lightning.envs.battle.env import BattleEnvironment
from qmix_lightning.envs.battle.options import SmacOptions, smac_options
from tests.envs.battle.scenes import Scene

# 2s3z: moves 4; of 5 enemies and 4 allies flag, distance, x, y, health, shield and 2 bits; of itself health, shield, 2
# bits: 4 + 9 * 8 + 4 = 80. State: allies 4 + 1 + 2, enemies 3 + 1 + 2, and 5 last actions of 11: 35 + 30 + 55 = 120.
SIZES = [
    ({}, 80, 120),
    ({"obs_all_health": False}, 80 - 9 * 2, 120),  # but its own
    ({"obs_all_health": False, "obs_own_health": False}, 80 - 9 * 2 - 2, 120),
    ({"obs_own_health": False}, 80, 120),  # implied
    ({"obs_last_action": True}, 80 + 4 * 11, 120),
    ({"obs_pathing_grid": True}, 80 + 8, 120),
    ({"obs_terrain_height": True}, 80 + 9, 120),
    ({"obs_timestep_number": True}, 80 + 2, 120),  # and a zero that SMAC adds by mistake
    ({"obs_instead_of_state": True}, 80, 5 * 80),
    ({"state_last_action": False}, 80, 65),
    ({"state_timestep_number": True}, 80, 121),
    ({"reward_sparse": True}, 80, 120),
]

# protoss_5_vs_5 with its place and 3 bits: 4 + 9 * 9 + 2 + 2 + 3 = 92; 5 * 8 + 5 * 7 + 55 = 130.
SIZES_OF_SMACV2 = [
    ({}, 92, 130, 11),
    ({"obs_own_pos": False}, 90, 130, 11),
    ({"use_unit_ranges": False}, 92, 130, 11),
    ({"conic_fov": True}, 94, 40 + 5 * 2 + 35 + 5 * 23, 11 + 12),
    ({"conic_fov": True, "num_fov_actions": 4}, 94, 40 + 5 * 2 + 35 + 5 * 15, 11 + 4),
    ({"num_fov_actions": 4}, 92, 130, 11),
    ({"obs_timestep_number": True}, 93, 130, 11),
    ({"prob_obs_enemy": 0.5, "action_mask": False, "fully_observable": True}, 92, 130, 11),
]


def sizes(name, options):
    env = BattleEnvironment(name, **options)
    view = env.reset()
    assert view["agents", "observation"].shape == (1, 5, env.spec.observation_size)
    assert view["state"].shape == (1, env.spec.state_size)
    assert view["agents", "action_mask"].shape == (1, 5, env.spec.n_actions)
    return env.spec.observation_size, env.spec.state_size, env.spec.n_actions


@pytest.mark.parametrize(("options", "observation", "state"), SIZES)
def test_sizes_of_smac(options, observation, state):
    assert sizes("2s3z", options) == (observation, state, 11)


@pytest.mark.parametrize(("options", "observation", "state", "actions"), SIZES_OF_SMACV2)
def test_sizes_of_smacv2(options, observation, state, actions):
    assert sizes("protoss_5_vs_5", options) == (observation, state, actions)


def test_every_option_is_tried_or_has_no_size():
    tried = {name for options, *_ in SIZES + SIZES_OF_SMACV2 for name in options}
    rest = {"reward_only_positive", "reward_death_value", "reward_win", "reward_defeat", "reward_negative_scale"}
    rest |= {"reward_scale", "reward_scale_rate", "move_amount", "step_mul", "min_attack_range"}
    assert tried | rest == set(SmacOptions._fields)
    assert not tried & rest


@pytest.mark.parametrize(("step_mul", "way"), [(1, 0.140625), (4, 0.5625), (16, 2.0)])
def test_a_step_lasts_as_many_loops_as_one_likes(step_mul, way):
    scene = Scene("a", options={"step_mul": step_mul})
    scene.play(a="east")  # two cells at the most
    assert scene.at("a")[0] == pytest.approx(0.5 + way)


def test_a_move_leads_as_far_as_one_likes_and_is_allowed_if_half_the_way_is_free():
    scene = Scene("a.#", options={"move_amount": 1.0, "step_mul": 16})
    assert scene.play()["agents", "action_mask"][0, 0, 4]  # half a cell to the east
    scene.play(a="east")
    assert scene.at("a")[0] == pytest.approx(1.5)
    assert not scene.play()["agents", "action_mask"][0, 0, 4] or scene.at("a")[0] < 1.5


def test_own_health_is_seen_where_all_is():
    assert smac_options({"obs_own_health": False}, version=1).obs_own_health
    assert not smac_options({"obs_own_health": False, "obs_all_health": False}, version=1).obs_own_health


def test_smacv2s_scenarios_begin_with_its_configurations():
    one, two = smac_options({}, version=1), smac_options({}, version=2)
    assert one == SmacOptions()
    assert two == SmacOptions(obs_own_pos=True, use_unit_ranges=True)
    assert not smac_options({"obs_own_pos": False}, version=2).obs_own_pos


def test_a_sparse_reward_pays_the_outcome_alone():
    # Scaled as all rewards: (3 * 45 + 3 * 10 + 200) / 20 = 18.25.
    rewards = []
    for victim in "Aa":
        scene = Scene("a..A", options={"reward_sparse": True})
        scene.pacify("A") if victim == "A" else scene.pacify()
        scene[victim]["health"] = 3
        rewards.append(scene.play(a="A" if victim == "A" else "stop")["reward"].item())
    assert rewards == pytest.approx([1 / 18.25, -1 / 18.25])


def test_numbers_may_be_given_as_whole_numbers():
    options = smac_options({"reward_win": 100, "step_mul": 4.0}, version=1)
    assert (type(options.reward_win), type(options.step_mul)) == (float, int)


@pytest.mark.parametrize("name", SmacOptions._fields)
def test_an_option_of_another_type_is_refused(name):
    kind = type(getattr(SmacOptions(), name))
    for wrong in ("much", None, 2 if kind is bool else True):
        with pytest.raises(
            ValueError, match=re.escape(f"Expected {name} to be of type {kind.__name__}, got {wrong!r}.")
        ):
            smac_options({name: wrong}, version=2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"step_mul": 2.5}, "Expected step_mul to be of type int, got 2.5."),
        ({"reward_win": float("nan")}, "Expected reward_win to be of type float, got nan."),
        ({"step_mul": 0}, "Expected step_mul to be at least 1, got 0."),
        ({"move_amount": -1.0}, "Expected move_amount to be at least 0.0, got -1.0."),
        ({"num_fov_actions": 1}, "Expected num_fov_actions to be at least 2, got 1."),
        ({"reward_scale_rate": -1}, "Expected reward_scale_rate to be at least 0.0, got -1."),
        ({"min_attack_range": -1}, "Expected min_attack_range to be at least 0.0, got -1."),
        ({"prob_obs_enemy": 1.5}, "Expected prob_obs_enemy to be a chance from 0 to 1, got 1.5."),
        ({"prob_obs_enemy": -0.5}, "Expected prob_obs_enemy to be a chance from 0 to 1, got -0.5."),
    ],
)
def test_an_option_out_of_range_is_refused(options, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        smac_options(options, version=2)


@pytest.mark.parametrize("name", SmacOptions._fields[SmacOptions._fields.index("obs_own_pos") :])
def test_smacv2s_options_are_refused_on_smacs_maps(name):
    words = f"{name} are options of SMACv2's scenarios, such as 'battle/terran_5_vs_5'."
    with pytest.raises(ValueError, match=re.escape(words)):
        BattleEnvironment("3m", **{name: getattr(SmacOptions(), name)})


def test_an_option_that_there_is_not_is_answered_with_one_that_there_is():
    with pytest.raises(ValueError, match=r"Battles have no option 'reward_spare'\. Did you mean 'reward_sparse'\?"):
        BattleEnvironment("3m", reward_spare=True)


def test_options_change_nothing_about_the_battle():
    battles = []
    for options in ({}, {"obs_last_action": True, "reward_only_positive": False, "obs_terrain_height": True}):
        env = BattleEnvironment("2s3z", num_envs=2, seed=1, **options)
        env.reset()
        for _ in range(12):
            env.step(torch.ones(2, 5, dtype=torch.int64) * (env._scene["agents", "action_mask"][..., 1]))
        battles.append(env._battles.copy())
    assert np.array_equal(battles[0], battles[1])
