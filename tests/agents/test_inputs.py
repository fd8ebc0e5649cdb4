import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from qmix_lightning.agents.inputs import AgentInput, previous_action
from qmix_lightning.spec import NO_ACTION, TaskSpec

SPEC = TaskSpec("fake", n_agents=3, n_actions=5, observation_size=4, state_size=2, episode_limit=6)


def test_the_previous_action_at_step_t_is_the_action_at_step_t_minus_1():
    action = torch.arange(24).view(2, 4, 3)
    shifted = previous_action(action)
    assert torch.equal(shifted[:, 1:], action[:, :-1])
    assert (shifted[:, 0] == NO_ACTION).all()
    assert shifted.dtype == torch.int64


def test_the_previous_action_of_a_single_step_is_none():
    assert torch.equal(previous_action(torch.ones(2, 1, 3, dtype=torch.int64)), torch.full((2, 1, 3), NO_ACTION))


def test_no_previous_action_is_that_of_another_trajectory():
    action, is_init = torch.arange(24).view(2, 4, 3), torch.zeros(2, 4, 1, dtype=torch.bool)
    assert torch.equal(previous_action(action, is_init), previous_action(action))
    is_init[0, 2] = True
    shifted = previous_action(action, is_init)
    assert torch.equal(shifted[0, 2:], previous_action(action[:1, 2:])[0])
    assert torch.equal(shifted[0, :2], previous_action(action[:1, :2])[0])
    assert torch.equal(shifted[1], previous_action(action)[1])
    assert shifted.dtype == torch.int64


@pytest.mark.parametrize("is_init", [torch.ones(2, 4, 1), torch.ones(2, 4).bool(), torch.ones(2, 4, 3).bool()])
def test_marks_that_are_not_one_for_each_step_are_refused(is_init):
    with pytest.raises(ValueError, match=r"Expected is_init to be bool of shape \(2, 4, 1\), one mark .* got torch"):
        previous_action(torch.zeros(2, 4, 3, dtype=torch.int64), is_init)


@pytest.mark.parametrize("agent_id", [True, False])
@pytest.mark.parametrize("last_action", [True, False])
def test_the_layer_equals_a_linear_layer_on_the_concatenated_one_hots_and_so_do_its_gradients(last_action, agent_id):
    torch.manual_seed(0)
    layer = AgentInput(SPEC, 7, last_action=last_action, agent_id=agent_id).double()
    observation = torch.randn(2, 6, 3, 4, dtype=torch.float64, requires_grad=True)
    action = torch.randint(-1, 5, (2, 6, 3))
    parts = [observation]
    if last_action:
        parts.append(F.one_hot(action + 1, 6)[..., 1:].double())
    if agent_id:
        parts.append(torch.eye(3, dtype=torch.float64).expand(2, 6, 3, 3))
    expected = layer.linear(torch.cat(parts, -1))
    actual = layer(observation, action)
    torch.testing.assert_close(actual, expected)
    weight = torch.randn_like(expected)
    inputs = [observation, *layer.parameters()]
    torch.testing.assert_close(
        torch.autograd.grad((actual * weight).sum(), inputs), torch.autograd.grad((expected * weight).sum(), inputs)
    )


def test_the_layer_takes_any_batch_dimensions():
    layer = AgentInput(SPEC, 7)
    observation, action = torch.randn(2, 6, 3, 4), torch.randint(-1, 5, (2, 6, 3))
    torch.testing.assert_close(layer(observation[1, 2], action[1, 2]), layer(observation, action)[1, 2])


def test_the_layer_runs_in_mixed_precision():
    layer = AgentInput(SPEC, 7)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(torch.randn(2, 3, 4), torch.randint(-1, 5, (2, 3)))
    out.float().sum().backward()
    assert out.dtype == torch.bfloat16
    assert layer.linear.weight.grad is not None
