"""The memory of what a learner reads."""

import numpy as np
import pytest

from qmix_lightning.envs.battle.env import BattleEnvironment
from qmix_lightning.envs.battle.options import smac_options
from qmix_lightning.envs.battle.scenario import load_scenario
from qmix_lightning.envs.battle.views import (
    ally_features,
    ally_state_features,
    empty_views,
    enemy_features,
    enemy_state_features,
    move_features,
    observation_size,
    own_features,
    state_size,
)
from qmix_lightning.envs.battle.world import world_of


def world(name, **options):
    scenario = load_scenario(name)
    return world_of(scenario, smac_options(options, version=scenario.version))


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        # moves, an enemy, an ally, itself; an ally and an enemy in the state
        ("3m", (4, 5, 5, 1, 4, 3)),
        ("2s3z", (4, 8, 8, 4, 7, 6)),  # shields on both sides and 2 types
        ("corridor", (4, 5, 6, 2, 5, 3)),  # shields of the agents alone
        ("6h_vs_8z", (4, 6, 5, 1, 4, 4)),  # of the enemies alone
        ("MMM", (4, 8, 8, 4, 7, 6)),  # 3 types
        ("2c_vs_64zg", (4, 5, 6, 2, 5, 3)),
        ("zerg_5_vs_5", (4, 8, 8, 6, 7, 6)),  # 3 types, and where it is
    ],
)
def test_the_blocks_of_an_observation_and_of_the_state(name, blocks):
    there = world(name)
    functions = move_features, enemy_features, ally_features, own_features, ally_state_features, enemy_state_features
    assert tuple(function(there) for function in functions) == blocks
    agents, enemies, actions = int(there.rules.n_agents), int(there.rules.n_enemies), int(there.rules.n_actions)
    moves, enemy, ally, own, ally_state, enemy_state = blocks
    assert observation_size(there) == moves + enemies * enemy + (agents - 1) * ally + own
    assert state_size(there) == agents * ally_state + enemies * enemy_state + agents * actions


def test_views_have_a_place_for_everything_and_start_empty():
    views = empty_views(world("2s3z"), 7)
    shapes = {name: getattr(views, name).shape for name in views._fields}
    assert shapes == {
        "observation": (7, 5, 80), "action_mask": (7, 5, 11), "state": (7, 120), "units": (7, 10, 7),
        "last_action": (7, 5), "reward": (7, 1), "done": (7, 1), "terminated": (7, 1), "battle_won": (7, 1),
        "dead_allies": (7, 1), "dead_enemies": (7, 1),
    }  # fmt: skip
    assert (views.last_action == -1).all()
    assert not any(np.any(getattr(views, name)) for name in views._fields if name != "last_action")


def test_healers_need_an_action_for_every_agent():
    assert world("MMM2").rules.n_actions == 6 + 12  # ten agents, twelve enemies
    assert world("terran_10_vs_10").rules.n_actions == 6 + 10


def test_what_is_handed_out_is_this_memory():
    env = BattleEnvironment("2s3z", num_envs=2)
    view = env.reset()
    assert view["state"].data_ptr() == env._views.state.ctypes.data
    assert view["agents", "observation"].data_ptr() == env._views.observation.ctypes.data
