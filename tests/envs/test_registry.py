import pytest

from qmix_lightning.envs.base import AbstractEnvironment
from qmix_lightning.envs.checking import check_env
from qmix_lightning.envs.registry import make, names


@pytest.mark.parametrize("name", ["battle/3m", "matrix/nonmonotonic", "matrix/two_step"])
def test_an_environment_is_made_by_name_and_knows_it(name):
    env = make(name, num_envs=3, seed=1)
    assert isinstance(env, AbstractEnvironment)
    assert (env.spec.name, env.num_envs) == (name, 3)
    assert name in names()
    check_env(env, steps=70)


def test_options_reach_the_environment():
    assert make("matrix/nonmonotonic", payoff=[[1.0, 2.0], [3.0, 4.0]]).spec.n_actions == 2


def test_names_are_sorted_and_unique():
    assert names() == sorted(set(names()))


def test_a_misspelt_name_is_answered_with_near_ones():
    with pytest.raises(ValueError, match=r"Unknown environment 'battl/3m'\. Did you mean 'battle/3m'"):
        make("battl/3m")
    with pytest.raises(ValueError, match="Did you mean 'matrix/two_step'"):
        make("matrix/twostep")
    with pytest.raises(ValueError, match=r"Unknown environment '3m'\. Did you mean 'battle/3m' or 'smac/3m'\?"):
        make("3m")


def test_a_name_near_to_nothing_is_answered_with_all():
    known = r"Known are: battle/.*, matrix/two_step, .*, smacv2/zerg_5_vs_5\. Worlds of your own"
    with pytest.raises(ValueError, match=rf"Unknown environment '###'\. {known}"):
        make("###")


def test_no_episode_to_play_is_refused():
    with pytest.raises(ValueError, match="'battle/3m' needs num_envs >= 1, got 0"):
        make("battle/3m", num_envs=0)
