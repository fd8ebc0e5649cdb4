import pytest
import torch

from qmix_lightning.agents.mlp import MLPAgent
from qmix_lightning.spec import TaskSpec

SPEC = TaskSpec("fake", n_agents=3, n_actions=5, observation_size=4, state_size=2, episode_limit=6)


def test_one_hidden_layer_is_linear_relu_linear():
    torch.manual_seed(0)
    agent = MLPAgent(SPEC, layers=1, last_action=False, agent_id=False)
    observation = torch.randn(2, 6, 3, 4)
    expected = agent.head[-1](agent.input.linear(observation).relu())
    torch.testing.assert_close(agent(observation, torch.zeros(2, 6, 3, dtype=torch.int64)), expected)


def test_layers_count_the_hidden_ones():
    weights = [parameter for parameter in MLPAgent(SPEC, layers=3).parameters() if parameter.ndim == 2]
    assert [tuple(weight.shape) for weight in weights] == [(64, 12), (64, 64), (64, 64), (5, 64)]


def test_it_remembers_nothing():
    assert MLPAgent(SPEC).initial_memory(2).shape == (2, 3, 0)


def test_no_hidden_layer_is_refused():
    with pytest.raises(ValueError, match="at least 1 hidden layer, got layers=0"):
        MLPAgent(SPEC, layers=0)
