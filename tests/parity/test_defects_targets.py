"""What TorchRL's QMixerLoss learns wrongly: each test fails on its behaviour and passes on ours."""

from __future__ import annotations

import copy

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from tests.parity.libraries import (
    ACTION,
    ACTION_MASK,
    NOTHING_RAISED,
    OBSERVATION,
    PLAYED,
    SILENCE,
    A,
    Library,
    N,
    World,
    both,
    opt_in,
    td_error,
    transitions,
)

pytestmark = SILENCE
each_mixer = pytest.mark.parametrize("mixer", ["qmix", "vdn"])


def with_padding() -> tuple[TensorDict, Tensor]:
    """Transitions ``[4, 5]``, and which of them were played: not the last two of the second battle."""
    td = transitions(4, 5)
    played = torch.ones(4, 5, dtype=torch.bool)
    played[1, -2:] = False
    td[PLAYED] = played
    return td, played


@both(TypeError)
@each_mixer
def test_d01_the_online_network_can_choose_what_the_target_network_values(lib: Library, mixer: str) -> None:
    world, td = World(lib, mixer, double_q=True), transitions(4, 5)
    assert not torch.allclose(world.target(td), world.target(td, greedy=world.net))
    torch.testing.assert_close(td_error(world.loss, td), world.error(td, greedy=world.net))


@both(AssertionError)
def test_d02_the_loss_is_the_mean_over_the_steps_that_were_played(lib: Library) -> None:
    world, (td, played) = World(lib), with_padding()
    opt_in(world.loss, mask=PLAYED)
    torch.testing.assert_close(world.loss(td)["loss"].detach(), world.error(td)[played].mean())


@both(AssertionError)
@each_mixer
def test_d02_what_padding_holds_reaches_neither_loss_nor_gradient(lib: Library, mixer: str) -> None:
    world, (td, played) = World(lib, mixer), with_padding()
    opt_in(world.loss, mask=PLAYED)
    expected = world.error(td)[played].mean()
    for key in (OBSERVATION, "state", ("next", OBSERVATION), ("next", "state"), ("next", "reward")):
        td[key][~played] = torch.nan
    loss = world.loss(td)["loss"]
    loss.backward()
    torch.testing.assert_close(loss.detach(), expected)
    assert all(parameter.grad.isfinite().all() for parameter in world.loss.parameters())


@both(AssertionError)
def test_d03_importance_weights_weigh_the_mean(lib: Library) -> None:
    world, td = World(lib), transitions(20)
    opt_in(world.loss, priority_weight="priority_weight")
    weight = td["priority_weight"] = torch.rand(20, dtype=torch.float64) + 0.1
    expected = (weight * world.error(td).squeeze(-1)).sum() / weight.sum()
    torch.testing.assert_close(world.loss(td)["loss"].detach(), expected)


@both(AssertionError)
def test_d03_importance_weights_of_padding_do_not_count(lib: Library) -> None:
    world, (td, played) = World(lib), with_padding()
    opt_in(world.loss, mask=PLAYED, priority_weight="priority_weight")
    td["priority_weight"] = torch.rand(4, 5, dtype=torch.float64) + 0.1
    weight, error = td["priority_weight"][played], world.error(td)[played].squeeze(-1)
    torch.testing.assert_close(world.loss(td)["loss"].detach(), (weight * error).sum() / weight.sum())


@both(AssertionError)
@each_mixer
def test_d06_padding_where_nothing_is_legal_is_harmless(lib: Library, mixer: str) -> None:
    world, (td, played) = World(lib, mixer, masked=True), with_padding()
    opt_in(world.loss, mask=PLAYED)
    expected = world.error(td)[played].mean()
    td[ACTION_MASK] = played[..., None, None].expand(4, 5, N, A).clone()
    td["next", *ACTION_MASK] = td[ACTION_MASK].clone()
    td["next", "terminated"][~played] = True
    loss = world.loss(td)["loss"]
    loss.backward()
    torch.testing.assert_close(loss.detach(), expected)
    assert all(parameter.grad.isfinite().all() for parameter in world.loss.parameters())


@both(NOTHING_RAISED)
@each_mixer
def test_d06_a_next_step_where_nothing_is_legal_is_refused_by_its_row(lib: Library, mixer: str) -> None:
    world, td = World(lib, mixer, masked=True), transitions(4, 5)
    td[ACTION_MASK] = torch.ones(4, 5, N, A, dtype=torch.bool)
    td["next"] = td["next"].update({"agents": {"action_mask": td[ACTION_MASK].clone()}})
    td["next", "terminated"][:] = td["next", "done"][:] = False
    td["next", *ACTION_MASK][2, 3, 1] = False
    with pytest.raises(ValueError, match=r"legal action .* none at index \[2, 3, 1\]"):
        world.loss(td)


@both(AssertionError)
def test_d06_an_action_that_was_taken_though_illegal_keeps_its_value(lib: Library) -> None:
    world, td = World(lib, "vdn", masked=True), transitions(4, 5)
    td[ACTION_MASK] = torch.ones(4, 5, N, A, dtype=torch.bool)
    td["next", *ACTION_MASK] = td[ACTION_MASK].clone()
    td[ACTION_MASK].scatter_(-1, td[ACTION].unsqueeze(-1), value=False)
    torch.testing.assert_close(td_error(world.loss, td), world.error(td))


@both(AssertionError)
@pytest.mark.parametrize("key", ["state", OBSERVATION], ids=["state", "observation"])
def test_d13_no_gradient_reaches_the_next_step(lib: Library, key: str | tuple[str, str]) -> None:
    world, td = World(lib), transitions(20)
    now, after = (step[key].requires_grad_() for step in (td, td["next"]))
    world.loss(td)["loss"].backward()
    assert now.grad.abs().max() > 0
    assert after.grad is None


@both(AssertionError)
def test_d14_targets_that_are_the_live_networks_follow_rebound_parameters(lib: Library) -> None:
    world, td = World(lib, delay_value=False), transitions(20)
    td_error(world.loss, td)
    for network in (world.net, world.mixer):
        vector_to_parameters(parameters_to_vector(network.parameters()) * 0.5, network.parameters())
    torch.testing.assert_close(td_error(world.loss, td), td_error(world.make_loss(delay_value=False), td))


@both(AssertionError)
def test_d14_targets_of_a_copy_follow_the_networks_of_the_copy(lib: Library) -> None:
    world, td = World(lib, delay_value=False), transitions(20)
    td_error(world.loss, td)
    clone = copy.deepcopy(world.loss)
    world.perturb()
    for own, original in zip(clone.parameters(), world.loss.parameters(), strict=True):
        own.data.copy_(original)
    torch.testing.assert_close(td_error(clone, td), td_error(world.loss, td))


@both(AssertionError)
def test_d14_assigned_targets_are_used(lib: Library) -> None:
    world, td = World(lib), transitions(20)
    before = td_error(world.loss, td)
    fresh = world.make_loss()
    world.loss.target_local_value_network_params = fresh.target_local_value_network_params
    world.loss.target_mixer_network_params = fresh.target_mixer_network_params
    after = td_error(world.loss, td)
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, td_error(fresh, td))


@both(NOTHING_RAISED)
@pytest.mark.parametrize("estimator", ["td1", "tdlambda"])
def test_d20_returns_over_time_refuse_a_batch_that_does_not_say_where_time_is(lib: Library, estimator: str) -> None:
    world, td = World(lib), transitions(20)
    world.loss.make_value_estimator(estimator, gamma=0.5)
    with pytest.raises(ValueError, match="time_dim"):
        world.loss(td)
    td.names = ["time"]
    named = td_error(world.loss, td)
    td.names = None
    world.loss.make_value_estimator(estimator, gamma=0.5, time_dim=0)
    torch.testing.assert_close(td_error(world.loss, td), named)


@both(TypeError)
def test_d25_priorities_can_be_absolute_errors(lib: Library) -> None:
    world, td = World(lib, td_error="absolute"), transitions(20)
    torch.testing.assert_close(td_error(world.loss, td), world.error(td).sqrt())
