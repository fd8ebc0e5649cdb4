import numpy as np
import pytest

from qmix_lightning.envs.adapters.gymnasium import GymnasiumGame
from qmix_lightning.envs.checking import check_env
from qmix_lightning.envs.registry import make

FORAGING = "lbforaging:Foraging-5x5-2p-1f-coop-v3"


@pytest.fixture
def installed():
    return pytest.importorskip("lbforaging")


def test_foraging_keeps_the_contract(installed):
    env = make(f"gymnasium/{FORAGING}", num_envs=2, seed=1)
    assert (env.spec.n_agents, env.spec.n_actions, env.spec.episode_limit) == (2, 6, 50)
    check_env(env, steps=120)
    assert set(env._games[0].versions()) == {"gymnasium", "lbforaging"}
    env.close()


@pytest.mark.parametrize("decided", [False, True])
def test_an_end_at_the_limit_is_a_cut_off_whatever_the_world_says_unless_it_shall_not_be(decided, installed):
    game = GymnasiumGame(name=FORAGING, limit_terminates=decided)
    game.reset(3)
    turns = [game.step(np.zeros(2, dtype=np.int64)) for _ in range(50)]
    assert [turn.truncated for turn in turns] == [False] * 49 + [True]
    assert [turn.terminated for turn in turns] == [False] * 49 + [decided]


def test_the_fruit_is_worth_one_to_the_team(installed):
    game, rng = GymnasiumGame(name=FORAGING), np.random.default_rng(1)
    returns = set()
    for seed in range(200):
        game.reset(seed)
        turn, earned, steps = None, 0.0, 0
        while turn is None or not turn.truncated:
            turn = game.step(rng.integers(0, 6, 2))
            earned, steps = earned + turn.reward, steps + 1
        returns.add(round(earned, 6))
        assert turn.terminated == (earned > 0 and steps < 50)
    assert returns == {0.0, 1.0}


def test_worlds_for_one_agent_and_unknown_ones_are_refused(installed):
    with pytest.raises(ValueError, match="expected a tuple of discrete actions, one an agent, got Discrete"):
        GymnasiumGame(name="CartPole-v1")
    with pytest.raises(ValueError, match="gymnasium/lbforaging:Foraging-1x1: "):
        GymnasiumGame(name="lbforaging:Foraging-1x1")


def test_a_missing_package_is_named_with_the_cure():
    with pytest.raises(ValueError, match="needs packages gymnasium and no_such_package"):
        GymnasiumGame(name="no_such_package:World-v1")
    with pytest.raises(ValueError, match="Expected shared_reward 'sum' or 'mean', got 'max'"):
        GymnasiumGame(shared_reward="max")
