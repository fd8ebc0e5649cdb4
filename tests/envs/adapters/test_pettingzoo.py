import numpy as np
import pytest
import torch

from qmix_lightning.envs.adapters.pettingzoo import MODULES, PettingZooGame
from qmix_lightning.envs.checking import check_env
from qmix_lightning.envs.games.base import Sight
from qmix_lightning.envs.registry import make

WORLD = "tests.envs.adapters.worlds"


def sight_of(game):
    spec = game.spec
    sight = Sight(
        np.full((spec.n_agents, spec.observation_size), np.nan, np.float32),
        np.zeros((spec.n_agents, spec.n_actions), np.bool_),
        np.full(spec.state_size, np.nan, np.float32),
    )
    game.show(sight)
    return sight


@pytest.mark.parametrize("options", [{}, {"tells_state": False}, {"cut_off": True}])
def test_the_contract_is_kept(options):
    check_env(make(f"pettingzoo/{WORLD}", num_envs=2, **options), steps=40)


def test_observations_are_filled_up_and_actions_masked():
    game = PettingZooGame(name=WORLD)
    spec = game.spec
    assert (spec.n_agents, spec.n_actions, spec.observation_size, spec.state_size, spec.episode_limit) == (
        3,
        4,
        4,
        2,
        8,
    )
    game.reset(1)
    sight = sight_of(game)
    assert sight.observation.tolist() == [[0, 1, 0, 0], [0, 2, 2, 0], [0, 3, 3, 3]]
    assert sight.action_mask.tolist() == [
        [True, True, False, False], [False, True, True, False], [True, True, True, True],
    ]  # fmt: skip
    assert sight.state.tolist() == [0, 7]


def test_agents_that_left_see_nothing_can_do_nothing_and_are_not_asked():
    game = PettingZooGame(name=WORLD)
    game.reset(1)
    turns = [game.step(np.array([1, 1, 1])) for _ in range(2)]
    sight = sight_of(game)
    assert sight.observation[0].tolist() == [0, 0, 0, 0]
    assert sight.action_mask[0].tolist() == [True, False, False, False]
    turns += [game.step(np.array([0, 1, 1])) for _ in range(4)]
    # Rewards 1, 2 and 3 of those who were there, over all three.
    assert [turn.reward for turn in turns] == pytest.approx([2, 2, 5 / 3, 5 / 3, 1, 1])
    assert [turn.truncated for turn in turns] == [False] * 5 + [True]
    assert turns[-1].terminated
    assert [sorted(asked) for asked in game._world.asked] == [[*"abc"]] * 2 + [[*"bc"]] * 2 + [["c"]] * 2


def test_a_world_that_ran_out_of_time_is_cut_off_not_decided():
    game = PettingZooGame(name=WORLD, cut_off=True)
    game.reset(1)
    turns = [game.step(np.array([0, 1, 0])) for _ in range(6)]
    assert (turns[-1].terminated, turns[-1].truncated) == (False, True)


def test_without_a_state_of_the_world_it_is_all_observations_in_a_row():
    game = PettingZooGame(name=WORLD, tells_state=False)
    game.reset(1)
    sight = sight_of(game)
    assert np.array_equal(sight.state, sight.observation.ravel())
    assert PettingZooGame(name=WORLD, state="observations").spec.state_size == 12


def test_the_team_may_earn_the_sum():
    game = PettingZooGame(name=WORLD, shared_reward="sum", episode_limit=5)
    game.reset(1)
    assert game.step(np.array([0, 1, 0])).reward == 6
    assert game.spec.episode_limit == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "simple_spred"}, r"Unknown world 'pettingzoo/simple_spred'. Did you mean 'simple_spread'\?"),
        ({"name": "no.such.module"}, "needs module no.such.module: .*Install the distribution with no"),
        ({"name": "os.path"}, "os.path has no parallel_env. Only PettingZoo's parallel interface"),
        ({"name": WORLD, "shared_reward": "max"}, "Expected shared_reward 'mean' or 'sum' .* got 'max'"),
    ],
)
def test_what_cannot_be_played_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        PettingZooGame(**options)


def test_actions_must_be_discrete_and_episodes_end(monkeypatch):
    monkeypatch.setattr("tests.envs.adapters.worlds.Corridor.max_cycles", None)
    with pytest.raises(ValueError, match="has no max_cycles"):
        PettingZooGame(name=WORLD)
    monkeypatch.setattr("tests.envs.adapters.worlds.Corridor.action_space", lambda self, agent: "Box")
    with pytest.raises(ValueError, match="expected discrete actions from 0 on of agent a, got Box"):
        PettingZooGame(name=WORLD, episode_limit=3)


@pytest.mark.parametrize("name", MODULES)
def test_the_particle_worlds_keep_the_contract(name):
    pytest.importorskip("mpe2")
    env = make(f"pettingzoo/{name}", num_envs=2)
    check_env(env, steps=60)
    assert set(env._games[0].versions()) == {"mpe2", "pettingzoo"}
    env.close()


def test_simple_spread_has_a_state_of_all_observations():
    pytest.importorskip("mpe2")
    env = make("pettingzoo/simple_spread", num_envs=1, seed=3)
    view = env.reset()
    assert torch.equal(view["state"], view["agents", "observation"].flatten(1))
    env.close()
