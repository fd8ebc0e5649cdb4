"""What a graph of a policy depends on, and what a still picture of one takes over."""

import pytest
import torch

from qmix_lightning.agents.gru import GRUAgent
from qmix_lightning.exploration.epsilon_greedy_policy import EpsilonGreedyPolicy
from qmix_lightning.module import QLearner
from qmix_lightning.spec import TaskSpec

SPEC = TaskSpec("fake", n_agents=3, n_actions=5, observation_size=4, state_size=2, episode_limit=6)


class _Tempered(GRUAgent):
    """Values that are colder or warmer."""

    def __init__(self, spec):
        super().__init__(spec, hidden_size=8)
        self.temperature = 1.0

    def step(self, observation, last_action, memory):
        value, new = super().step(observation, last_action, memory)
        return value / self.temperature, new


def policy_of(agent):
    return EpsilonGreedyPolicy(agent, agent, lambda env_steps: 0.0)


CHANGES = {
    "a number": lambda agent: setattr(agent, "temperature", 2.0),
    "the mode of a part": lambda agent: agent.head.eval(),
    "a parameter elsewhere": lambda agent: setattr(agent.head.weight, "data", agent.head.weight.data.clone()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_graph_depends_on(change):
    agent = _Tempered(SPEC)
    policy = policy_of(agent)
    before = policy.fixed()
    assert policy.fixed() == before
    CHANGES[change](agent)
    assert policy.fixed() != before


@pytest.mark.parametrize("name", ["epsilon_start", "epsilon_end", "epsilon_steps"])
def test_graphs_of_a_learner_and_of_its_snapshot_depend_on_the_schedule(name):
    learner = QLearner(SPEC)
    policies = learner, learner.snapshot()
    before = [policy.fixed() for policy in policies]
    learner.hparams[name] *= 0.5
    assert all(policy.fixed() != fixed for policy, fixed in zip(policies, before, strict=True))


def test_a_still_picture_takes_over_numbers_and_modes_when_it_is_brought_up_to_date():
    agent = _Tempered(SPEC)
    policy = policy_of(agent)
    still = policy.snapshot()
    agent.temperature = 3.0
    agent.head.eval()
    assert still.agent.temperature == 1.0
    assert still.agent.head.training
    still.follow(policy)
    assert still.agent.temperature == 3.0
    assert not still.agent.head.training
    glance = torch.randn(2, 3, 4), torch.ones(2, 3, 5, dtype=torch.bool), torch.full((2, 3), -1), torch.zeros(2, 3, 8)
    with torch.no_grad():
        assert torch.equal(still.act(*glance)[0], policy.act(*glance)[0])
