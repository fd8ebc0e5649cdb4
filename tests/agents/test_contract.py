"""What every agent must do, measured over all members of the family."""

import inspect
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from tensordict import TensorDict
from torch.func import functional_call

from qmix_lightning import agents
from qmix_lightning.agents.base import AbstractAgent
from qmix_lightning.agents.inputs import previous_action
from qmix_lightning.functional.packing import pack
from qmix_lightning.spec import NO_ACTION, TaskSpec

SPEC = TaskSpec("fake", n_agents=3, n_actions=5, observation_size=4, state_size=2, episode_limit=6)
MEMBERS = [member for name in agents.__all__ if not inspect.isabstract(member := getattr(agents, name))]
OPTIONS = [{}, {"last_action": False}, {"agent_id": False}, {"hidden_size": 11}]


@pytest.fixture(params=MEMBERS, ids=lambda member: member.__name__)
def member(request):
    torch.manual_seed(0)
    return request.param


def episode(battles=2, steps=6):
    generator = torch.Generator().manual_seed(1)
    action = torch.randint(0, 5, (battles, steps, 3), generator=generator)
    observation = torch.randn(battles, steps, 3, 4, generator=generator, dtype=torch.float64)
    return observation, previous_action(action)


def test_the_family_is_complete(member):
    assert issubclass(member, AbstractAgent)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_an_episode_at_once_equals_the_episode_step_by_step(member, options):
    agent = member(SPEC, **options).double()
    observation, last_action = episode()
    memory, values = agent.initial_memory(2), []
    for t in range(6):
        value, memory = agent.step(observation[:, t], last_action[:, t], memory)
        assert memory.shape == (2, 3, agent.memory_size)
        values.append(value)
    torch.testing.assert_close(agent(observation, last_action), torch.stack(values, 1))


TRAJECTORIES = [(0, 0, 2), (0, 2, 3), (0, 3, 6), (1, 0, 1), (1, 1, 6)]
"""Battle, first step and end of each trajectory in a packed window of two rows of six steps."""


def packed():
    """Two rows, each packed with several trajectories, and the marks of where those begin."""
    generator = torch.Generator().manual_seed(2)
    action = torch.randint(0, 5, (2, 6, 3), generator=generator)
    observation = torch.randn(2, 6, 3, 4, generator=generator, dtype=torch.float64)
    is_init = torch.zeros(2, 6, 1, dtype=torch.bool)
    for battle, begin, _ in TRAJECTORIES:
        is_init[battle, begin] = True
    return observation, previous_action(action, is_init), is_init


def test_trajectories_in_a_packed_window_are_valued_as_if_each_were_alone_and_so_are_the_gradients(member):
    agent = member(SPEC).double()
    observation, last_action, is_init = packed()
    whole = agent(observation.requires_grad_(), last_action, is_init)
    alone = torch.zeros_like(whole)
    for battle, begin, end in TRAJECTORIES:
        window = slice(battle, battle + 1), slice(begin, end)
        alone[window] = agent(observation[window], last_action[window])
    torch.testing.assert_close(whole, alone)
    weight, leaves = torch.randn_like(whole), [observation, *agent.parameters()]
    ours, theirs = (torch.autograd.grad((values * weight).sum(), leaves) for values in (whole, alone))
    torch.testing.assert_close(ours, theirs)


def test_a_packed_window_equals_its_steps_with_the_memory_forgotten_between_trajectories(member):
    agent = member(SPEC).double()
    observation, last_action, is_init = packed()
    memory, values = agent.initial_memory(2), []
    for t in range(6):
        memory = torch.where(is_init[:, t, :, None], agent.initial_memory(2), memory)
        value, memory = agent.step(observation[:, t], last_action[:, t], memory)
        values.append(value)
    torch.testing.assert_close(agent(observation, last_action, is_init), torch.stack(values, 1))


@pytest.mark.parametrize("first", [True, False])
def test_a_window_of_one_trajectory_needs_no_marks(member, first):
    agent = member(SPEC).double()
    observation, last_action = episode()
    is_init = torch.zeros(2, 6, 1, dtype=torch.bool)
    is_init[:, 0] = first
    torch.testing.assert_close(agent(observation, last_action, is_init), agent(observation, last_action))


def test_nothing_leaks_from_one_trajectory_into_the_next_not_even_nan(member):
    agent = member(SPEC).double()
    observation, last_action, is_init = packed()
    values = agent(observation, last_action, is_init)
    observation[0, :2] = float("nan")
    torch.testing.assert_close(agent(observation, last_action, is_init)[0, 2:], values[0, 2:])


def test_agents_that_are_spared_padding_say_the_same_and_learn_the_same_and_never_read_it(member):
    agent = member(SPEC).double()
    observation, last_action = episode(8, 40)
    seen = torch.arange(40).view(1, 40, 1) < torch.tensor([1, 40, 17, 3, 17, 2, 40, 9]).view(8, 1, 1)
    is_init = torch.zeros(8, 40, 1, dtype=torch.bool)
    is_init[:, [0, 7]] = True
    packing, weight = pack(seen), torch.randn(8, 40, 3, 5).double() * seen.unsqueeze(-1)
    assert packing is not None
    for marks in (None, is_init):
        whole = agent(observation, last_action, marks)
        spared = agent(torch.where(seen.unsqueeze(-1), observation, torch.nan), last_action, marks, packing=packing)
        torch.testing.assert_close(spared[seen.squeeze(-1)], whole[seen.squeeze(-1)])
        assert spared.isfinite().all()
        ours, theirs = (
            torch.autograd.grad((values * weight).sum(), list(agent.parameters())) for values in (spared, whole)
        )
        torch.testing.assert_close(ours, theirs)


def test_values_have_an_entry_for_each_action(member):
    assert member(SPEC).double()(*episode()).shape == (2, 6, 3, 5)


def test_agents_share_parameters_so_that_exchanging_them_exchanges_their_values(member):
    agent = member(SPEC, agent_id=False).double()
    observation, last_action = episode()
    order = torch.tensor([2, 0, 1])
    values = agent(observation, last_action)
    torch.testing.assert_close(agent(observation[:, :, order], last_action[:, :, order]), values[:, :, order])


def test_the_identity_of_an_agent_tells_it_from_another_that_sees_the_same(member):
    values = member(SPEC).double()(torch.zeros(1, 1, 3, 4).double(), torch.full((1, 1, 3), NO_ACTION))
    assert not torch.allclose(values[:, :, 0], values[:, :, 1])


def test_the_last_action_matters_only_where_it_is_told(member):
    observation, last_action = episode()
    other = torch.full_like(last_action, NO_ACTION)
    told, not_told = member(SPEC).double(), member(SPEC, last_action=False).double()
    assert not torch.allclose(told(observation, last_action), told(observation, other))
    assert torch.equal(not_told(observation, last_action), not_told(observation, other))


def test_nothing_leaks_between_battles_agents_or_from_the_future(member):
    agent = member(SPEC).double()
    observation, last_action = episode()
    values = agent(observation, last_action)
    changed = observation.clone()
    changed[1, 3, 2] += 1
    difference = (agent(changed, last_action) != values).any(-1)
    assert difference[1, 3, 2]
    difference[1, 3:, 2] = False
    assert not difference.any()


def test_nothing_leaks_between_episodes(member):
    agent = member(SPEC).double()
    observation, last_action = episode()
    first = agent(observation, last_action)
    agent(-observation, last_action)
    agent.step(observation[:, 0], last_action[:, 0], agent.initial_memory(2))
    assert torch.equal(agent(observation, last_action), first)
    assert torch.equal(agent.initial_memory(2), torch.zeros(2, 3, agent.memory_size))


def test_a_step_leaves_the_memory_it_was_given(member):
    agent = member(SPEC).double()
    observation, last_action = episode()
    memory = agent.initial_memory(2)
    agent.step(observation[:, 0], last_action[:, 0], memory)
    assert torch.equal(memory, agent.initial_memory(2))


def test_gradients_reach_every_parameter(member):
    agent = member(SPEC).double()
    agent(*episode()).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in agent.parameters())


@pytest.mark.parametrize("how", ["functional_call", "to_module"])
def test_values_are_those_of_the_parameters_swapped_in(member, how):
    # Recurrent layers cache their weights: a target network must not silently use the online one's.
    agent, target = member(SPEC).double(), member(SPEC).double()
    for inputs in (episode(), packed()):
        before = agent(*inputs)
        if how == "functional_call":
            swapped = functional_call(agent, dict(target.named_parameters()), inputs)
        else:
            with TensorDict.from_module(target).to_module(agent):
                swapped = agent(*inputs)
        torch.testing.assert_close(swapped, target(*inputs))
        assert torch.equal(agent(*inputs), before)


def test_it_steps_and_learns_in_mixed_precision(member):
    agent = member(SPEC)
    observation, last_action = episode()
    memory = agent.initial_memory(2)
    with torch.autocast("cpu", torch.bfloat16):
        for t in range(2):
            value, memory = agent.step(observation[:, t].float(), last_action[:, t], memory)
        whole = agent(observation.float(), last_action)
        marked = agent(observation.float(), last_action, torch.zeros(2, 6, 1, dtype=torch.bool))
    # The last layer is not: differences of values are what agents learn from.
    assert value.dtype == whole.dtype == marked.dtype == torch.float32
    torch.testing.assert_close(value, whole[:, 1], atol=0.02, rtol=0.1)
    torch.testing.assert_close(marked, whole, atol=0.02, rtol=0.1)
    (whole + marked).sum().backward()


def test_it_compiles_to_one_graph_if_recurrent_layers_are_allowed(member):
    torch._dynamo.reset()
    agent = member(SPEC).double()
    compiled = torch.compile(agent, fullgraph=True, backend="eager")
    with torch._dynamo.config.patch(allow_rnn=True):
        for inputs in (episode(), packed()):
            torch.testing.assert_close(compiled(*inputs), agent(*inputs))


def test_memory_follows_the_parameters(member):
    assert member(SPEC).to(torch.bfloat16).initial_memory(2).dtype == torch.bfloat16


def glance(agent, battles=4, seed=3):
    generator = torch.Generator().manual_seed(seed)
    observation = torch.randn(battles, 3, 4, generator=generator)
    last_action = torch.randint(NO_ACTION, 5, (battles, 3), generator=generator)
    return observation, last_action, torch.randn(battles, 3, agent.memory_size, generator=generator)


def assert_infers_as_it_steps(agent, seen):
    with torch.no_grad():
        torch.testing.assert_close(agent.infer(*seen), agent.step(*seen), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("battles", [1, 4, 33])
def test_to_infer_is_to_step_but_for_roundings(member, options, battles):
    agent = member(SPEC, **options)
    for seed in range(3):
        assert_infers_as_it_steps(agent, glance(agent, battles, seed))


def resting(battles=33, seed=0):
    mask = torch.rand(battles, 3, 5, generator=torch.Generator().manual_seed(seed)) < 0.5
    mask[..., 1:] &= (torch.arange(battles * 3) % 7 < 4).view(battles, 3, 1)
    mask[..., 0] |= ~mask.any(-1)
    return mask, ~mask[..., 1:].any(-1)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_who_rests_for_good_need_not_be_thought_for_and_the_others_are(member, options):
    agent = member(replace(SPEC, no_op_is_final=True), **options)
    seen, (mask, rests) = glance(agent, 33), resting()
    with torch.no_grad():
        inferred, stepped = agent.infer(*seen, mask), agent.step(*seen)
        nobody_acts = torch.zeros_like(mask)
        nobody = agent.infer(*seen, nobody_acts)
    for ours, theirs in zip(inferred, stepped, strict=True):
        torch.testing.assert_close(ours[~rests], theirs[~rests], rtol=1e-5, atol=1e-6)
        assert ours.isfinite().all()
    assert all(tensor.isfinite().all() for tensor in nobody)
    assert 0.2 < rests.float().mean() < 0.8


def test_who_rests_but_may_wake_is_thought_for(member):
    agent, seen = member(SPEC), glance(member(SPEC), 33)
    with torch.no_grad():
        torch.testing.assert_close(agent.infer(*seen, resting()[0]), agent.step(*seen), rtol=1e-5, atol=1e-6)


def test_inferring_follows_the_parameters_wherever_they_are(member):
    agent = member(SPEC)
    seen = glance(agent)
    assert_infers_as_it_steps(agent, seen)
    optimizer = torch.optim.Adam(agent.parameters(), 0.1)
    agent.step(*seen)[0].sum().backward()
    optimizer.step()
    assert_infers_as_it_steps(agent, seen)
    agent.load_state_dict(member(SPEC).state_dict())
    assert_infers_as_it_steps(agent, seen)
    for parameter in agent.parameters():
        parameter.data = torch.randn_like(parameter)
    assert_infers_as_it_steps(agent, seen)
    agent.double()
    assert_infers_as_it_steps(agent, [seen[0].double(), seen[1], seen[2].double()])


def test_a_copy_infers_by_its_own_parameters(member):
    agent = member(SPEC)
    seen = glance(agent)
    assert_infers_as_it_steps(agent, seen)
    copy = deepcopy(agent)
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.add_(1)
    for each in (copy, agent):
        assert_infers_as_it_steps(each, seen)


def test_what_is_inferred_lasts(member):
    agent = member(SPEC)
    with torch.no_grad():
        kept = agent.infer(*glance(agent, seed=1))
        before = [tensor.clone() for tensor in kept]
        agent.infer(*glance(agent, seed=2))
    assert all(map(torch.equal, kept, before))


def test_where_gradients_are_kept_inferring_has_them(member):
    agent = member(SPEC)
    agent.infer(*glance(agent))[0].sum().backward()
    assert all(parameter.grad is not None for parameter in agent.parameters())
