import pytest

from qmix_lightning.module import QLearner
from qmix_lightning.spec import TaskSpec

SPEC = TaskSpec("fake", n_agents=2, n_actions=3, observation_size=4, state_size=5, episode_limit=6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"estimator": "td2"}, "Unknown estimator 'td2', expected one of td0, td1, td_lambda"),
        ({"optimizer": "sgd"}, "Unknown optimizer 'sgd', expected one of adam, rmsprop"),
        ({"target_update": "none"}, "Unknown target_update 'none', expected one of hard, soft"),
        ({"greedy_network": "both"}, "Unknown greedy_network 'both', expected one of online, target"),
        ({"loss_function": "l3"}, "l3"),
        ({"gamma": 1.5}, r"gamma must lie in \[0, 1\], got 1.5"),
        ({"lmbda": -0.5}, r"lmbda must lie in \[0, 1\], got -0.5"),
        ({"target_rate": 2.0}, r"target_rate must lie in \[0, 1\], got 2.0"),
        ({"epsilon_start": 1.5}, r"epsilon_start must lie in \[0, 1\], got 1.5"),
        ({"epsilon_end": -1.0}, r"epsilon_end must lie in \[0, 1\], got -1.0"),
        ({"epsilon_steps": 0}, "epsilon_steps must be positive, got 0"),
        ({"epsilon_steps": 0.5}, "epsilon_steps must be at least 1, got 0.5"),
        ({"target_interval": 0}, "target_interval must be positive, got 0"),
        ({"learning_rate": 0.0}, "learning_rate must be positive, got 0.0"),
        ({"learning_rate": float("inf")}, "learning_rate must be finite, got inf"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive, got nan"),
        ({"final_learning_rate": 1.0}, "final_learning_rate must lie between 0 and learning_rate 0.001, got 1.0"),
    ],
)
def test_an_option_out_of_range_is_refused_at_once(options, words):
    with pytest.raises(ValueError, match=words):
        QLearner(SPEC, **{"learning_rate": 0.001, **options})
