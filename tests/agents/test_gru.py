from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from qmix_lightning.agents.gru import GRUAgent
from qmix_lightning.agents.inputs import previous_action
from qmix_lightning.spec import TaskSpec

SPEC = TaskSpec("fake", n_agents=3, n_actions=5, observation_size=4, state_size=2, episode_limit=6)


def test_values_equal_pymarls_network_which_loops_over_a_gru_cell():
    torch.manual_seed(0)
    agent = GRUAgent(SPEC, hidden_size=8)
    fc1, rnn, fc2 = nn.Linear(4 + 5 + 3, 8), nn.GRUCell(8, 8), nn.Linear(8, 5)
    fc1.load_state_dict(agent.input.linear.state_dict())
    rnn.load_state_dict({name.removesuffix("_l0"): weight for name, weight in agent.gru.state_dict().items()})
    fc2.load_state_dict(agent.head.state_dict())
    observation, action = torch.randn(2, 6, 3, 4), torch.randint(0, 5, (2, 6, 3))
    hidden, expected = torch.zeros(6, 8), []
    for t in range(6):
        last = F.one_hot(action[:, t - 1], 5).float() if t else torch.zeros(2, 3, 5)
        inputs = torch.cat([observation[:, t], last, torch.eye(3).expand(2, 3, 3)], -1).view(6, -1)
        hidden = rnn(F.relu(fc1(inputs)), hidden)
        expected.append(fc2(hidden).view(2, 3, 5))
    torch.testing.assert_close(agent(observation, previous_action(action)), torch.stack(expected, 1))


def test_the_memory_has_the_hidden_size():
    assert GRUAgent(SPEC, hidden_size=8).initial_memory(2).shape == (2, 3, 8)


def test_marks_that_are_not_one_for_each_step_are_refused():
    agent, observation, last_action = GRUAgent(SPEC), torch.zeros(2, 6, 3, 4), torch.zeros(2, 6, 3, dtype=torch.int64)
    with pytest.raises(
        ValueError, match=r"Expected is_init to be bool of shape \(2, 6, 1\), .* got torch.bool \(2, 6\)"
    ):
        agent(observation, last_action, torch.ones(2, 6, dtype=torch.bool))


@pytest.mark.parametrize("action", [-2, 5])
def test_an_action_that_there_is_not_is_refused(action):
    agent = GRUAgent(SPEC)
    last_action = torch.zeros(2, 3, dtype=torch.int64)
    last_action[1, 2] = action
    with torch.no_grad(), pytest.raises(IndexError, match=r"Expected last actions from -1, none, to 4, got "):
        agent.infer(torch.zeros(2, 3, 4), last_action, agent.initial_memory(2))


def test_what_lies_otherwise_in_memory_is_inferred_all_the_same():
    agent, observation = GRUAgent(SPEC), torch.randn(3, 2, 4).transpose(0, 1)
    last_action, memory = torch.zeros(2, 3, dtype=torch.int64), torch.randn(3, 2, 64).transpose(0, 1)
    with torch.no_grad():
        torch.testing.assert_close(
            agent.infer(observation, last_action, memory), agent.step(observation, last_action, memory)
        )


def test_threads_that_infer_at_once_do_not_meet():
    agent = GRUAgent(SPEC)
    generator = torch.Generator().manual_seed(0)
    seen = [
        (torch.randn(50, 3, 4, generator=generator), torch.randint(5, (50, 3)), torch.randn(50, 3, 64))
        for _ in range(8)
    ]

    def infer(each):
        with torch.no_grad():
            return [agent.infer(*each) for _ in range(100)]

    with ThreadPoolExecutor(8) as threads:
        for each, inferred in zip(seen, threads.map(infer, seen), strict=True):
            for one in inferred:
                torch.testing.assert_close(one, agent.step(*each), rtol=1e-5, atol=1e-6)


def test_the_dead_keep_their_memory_and_value_nothing():
    agent, mask = GRUAgent(replace(SPEC, no_op_is_final=True)), torch.ones(2, 3, 5, dtype=torch.bool)
    mask[0, 1, 1:] = mask[1, 2, 1:] = False
    memory = torch.randn(2, 3, 64)
    with torch.no_grad():
        value, after = agent.infer(torch.randn(2, 3, 4), torch.zeros(2, 3, dtype=torch.int64), memory, mask)
    stays = (after == memory).all(-1)
    assert stays.tolist() == (value == 0).all(-1).tolist() == [[False, True, False], [False, False, True]]
    agent.no_op_is_final = False
    with torch.no_grad():
        _, after = agent.infer(torch.randn(2, 3, 4), torch.zeros(2, 3, dtype=torch.int64), memory, mask)
    assert not (after == memory).all(-1).any()


def test_a_step_of_a_subclass_is_what_is_inferred():
    class Constant(GRUAgent):
        def step(self, observation, last_action, memory):
            return torch.full((*last_action.shape, self.n_actions), 7.0), memory

    with torch.no_grad():
        value, _ = Constant(SPEC).infer(
            torch.zeros(2, 3, 4), torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 3, 64)
        )
    assert (value == 7).all()


def a_glance(agents=3):
    generator = torch.Generator().manual_seed(5)
    last_action = torch.randint(5, (2, agents), generator=generator)
    return torch.randn(2, agents, 4, generator=generator), last_action, torch.randn(2, agents, 64, generator=generator)


def assert_infers_as_it_steps(agent):
    with torch.no_grad():
        torch.testing.assert_close(agent.infer(*a_glance()), agent.step(*a_glance()), rtol=1e-5, atol=1e-6)


def test_inferring_follows_a_head_that_is_replaced():
    agent = GRUAgent(SPEC)
    assert_infers_as_it_steps(agent)
    agent.head = nn.Linear(64, 5)
    assert_infers_as_it_steps(agent)
    agent.input.linear = nn.Linear(12, 64)
    assert_infers_as_it_steps(agent)
    agent.head = nn.Sequential(nn.ReLU(), nn.Linear(64, 5))
    agent.head.weight = agent.head[1].weight
    assert_infers_as_it_steps(agent)


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated")
@pytest.mark.parametrize("normed", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm], ids=["hook", "part"])
@pytest.mark.parametrize("inferred_before", [False, True])
def test_inferring_follows_a_weight_that_is_computed_anew(normed, inferred_before):
    agent = GRUAgent(SPEC)
    if inferred_before:
        assert_infers_as_it_steps(agent)
    normed(agent.head)
    assert_infers_as_it_steps(agent)
    with torch.no_grad():
        for parameter in agent.head.parameters():
            parameter.mul_(3)
    assert_infers_as_it_steps(agent)


def test_hooks_on_parts_run_when_inferring():
    agent, seen = GRUAgent(SPEC), []
    assert_infers_as_it_steps(agent)
    hook = agent.head.register_forward_hook(lambda *args: seen.append(args))
    with torch.no_grad():
        agent.infer(*a_glance())
    assert len(seen) == 1
    hook.remove()
    assert_infers_as_it_steps(agent)
    assert len(seen) == 1


def test_more_agents_than_there_are_names_for_are_refused_as_by_a_step():
    agent = GRUAgent(SPEC)
    for value in (agent.step, agent.infer):
        with torch.no_grad(), pytest.raises(RuntimeError, match="size of tensor"):
            value(*a_glance(agents=5))


def test_a_subclass_with_a_step_of_its_own_may_have_other_parts():
    class Deep(GRUAgent):
        def __init__(self, spec):
            super().__init__(spec)
            self.head = nn.Sequential(nn.ReLU(), nn.Linear(64, 5))

        def step(self, observation, last_action, memory):
            new = self._cell(self.input(observation, last_action).flatten(0, 1), memory.flatten(0, 1)).view_as(memory)
            return self.head(new), new

    assert_infers_as_it_steps(Deep(SPEC))


def test_where_torchs_library_lends_no_product_a_step_is_what_is_inferred(monkeypatch):
    monkeypatch.setattr("qmix_lightning.agents.inference.SGEMM", 0)
    agent, each = GRUAgent(SPEC), (torch.randn(2, 3, 4), torch.randint(5, (2, 3)), torch.randn(2, 3, 64))
    with torch.no_grad():
        assert all(map(torch.equal, agent.infer(*each), agent.step(*each)))
