import numpy as np
import pytest

from qmix_lightning.envs.adapters.gymnasium import GymnasiumGame
from qmix_lightning.envs.checking import check_env
from qmix_lightning.envs.games.base import Sight
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


def forage(observations, rng):
    """Walk to the only fruit by a shortest way, with a random step in ten, and lift it."""
    actions = []
    for seen in observations:
        (down, right), level = seen[:2] - seen[3:5], seen[2]
        ways = [way for way, there in enumerate((down < 0, down > 0, right < 0, right > 0), 1) if there]
        lift = abs(down) + abs(right) == 1
        wander = rng.random() < 0.1
        actions.append(0 if level <= 0 else 5 if lift else int(rng.integers(1, 5)) if wander else int(rng.choice(ways)))
    return np.array(actions)


@pytest.mark.parametrize("name", [FORAGING, "lbforaging:Foraging-8x8-2p-1f-v3"])
def test_a_forager_earns_the_same_here_and_in_the_bare_world(name, installed):
    import gymnasium

    game, bare = GymnasiumGame(3, name=name), gymnasium.make(name, disable_env_checker=True)
    sight = Sight(*(np.zeros(shape) for shape in ((2, game.spec.observation_size), (2, 6), game.spec.state_size)))
    bare.reset(seed=3)  # lbforaging places agents by where they stood before, and a game looks at its world once.
    ours, theirs = np.random.default_rng(0), np.random.default_rng(0)
    earned = []
    for seed in range(20):
        game.reset(seed)
        game.show(sight)
        seen, _ = bare.reset(seed=seed)
        over = False
        while not over:
            assert np.array_equal(sight.observation, np.stack(seen))
            assert np.array_equal(sight.state, np.concatenate(seen))
            turn = game.step(forage(sight.observation, ours))
            seen, rewards, over, _, _ = bare.step(tuple(forage(np.stack(seen), theirs).tolist()))
            game.show(sight)
            earned.append(sum(rewards))
            assert (turn.reward, turn.truncated) == (pytest.approx(earned[-1]), over)
        assert np.array_equal(sight.observation, np.stack(seen)), "what is seen last, too"
    assert sum(earned) > 10
    game.close()


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
