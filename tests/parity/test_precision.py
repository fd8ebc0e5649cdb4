"""Networks and losses of TorchRL under autocast, as Lightning opens it for mixed precision."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import nn

from tests.parity.libraries import (
    ACTION,
    ACTION_MASK,
    CHOSEN,
    OBS,
    OBSERVATION,
    OURS,
    SILENCE,
    TORCHRL,
    VALUE,
    A,
    Library,
    N,
    S,
    World,
    both,
    perturb,
    rl_modules,
    td_error,
    transitions,
)

pytestmark = SILENCE

HALVES = pytest.mark.parametrize("half", [torch.float16, torch.bfloat16], ids=str)


def single(td: TensorDict) -> TensorDict:
    return td.apply(lambda entry: entry.float() if entry.is_floating_point() else entry)


class Joint(nn.Module):
    """Agents whose values are whole numbers up to 20, which are the same in every precision."""

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return (observation[..., :A].abs() * 10).round().clamp(max=20)


@HALVES
@both(AssertionError)
def test_where_agents_are_exact_errors_under_autocast_are_those_without(lib: Library, half: torch.dtype) -> None:
    world, td = World(lib, net=Joint()), single(transitions(8))
    world.loss.float()
    expected = td_error(world.loss, td)
    with torch.autocast("cpu", half, cache_enabled=False):
        assert torch.equal(td_error(world.loss, td), expected)


@HALVES
def test_torchrls_functional_networks_and_mixers_learn_in_our_loss_under_autocast(half: torch.dtype) -> None:
    torch.manual_seed(0)
    agents = rl_modules.MultiAgentMLP(OBS, A, N, centralized=False, share_params=False, depth=1, num_cells=8)
    keys = [ACTION, VALUE, CHOSEN]
    choice = TORCHRL.QValueModule("categorical", action_value_key=VALUE, action_mask_key=ACTION_MASK, out_keys=keys)
    local = TORCHRL.SafeSequential(TensorDictModule(agents, [OBSERVATION], [VALUE]), choice)
    mixing = TensorDictModule(TORCHRL.QMixer((S,), 4, N, "cpu"), [CHOSEN, "state"], ["chosen_action_value"])
    loss = OURS.QMixerLoss(local, mixing, action_space="categorical", double_q=True)
    perturb(loss.parameters())
    td = single(transitions(16))
    td["next", *ACTION_MASK] = torch.arange(A).expand(16, N, A) < 2
    expected = td_error(loss, td)
    with torch.autocast("cpu", half, cache_enabled=False):
        out = loss(td)
    out["loss"].backward()
    assert {p.grad.dtype for p in loss.parameters()} == {td["td_error"].dtype} == {torch.float32}
    torch.testing.assert_close(td["td_error"].sqrt(), expected.sqrt(), rtol=0.05, atol=0.05)


@HALVES
def test_torchrls_recurrent_networks_learn_in_our_loss_under_autocast(half: torch.dtype) -> None:
    torch.manual_seed(0)
    memory = rl_modules.GRUModule(OBS * N, 6, in_key="seen", out_key="memory")
    head = TensorDictModule(nn.Sequential(nn.Linear(6, N * A), nn.Unflatten(-1, (N, A))), ["memory"], [VALUE])
    mixing = TensorDictModule(OURS.QMixer((S,), 4, N, "cpu"), [CHOSEN, "state"], ["chosen_action_value"])
    loss = OURS.QMixerLoss(OURS.SafeSequential(memory, head), mixing, action_space="categorical")
    perturb(loss.parameters())
    td = single(transitions(4, 6))
    for entries in (td, td["next"]):
        entries["seen"] = entries[OBSERVATION].flatten(-2)
        entries["is_init"] = torch.zeros(4, 6, 1, dtype=torch.bool)
        entries["recurrent_state"] = torch.zeros(4, 6, 1, 6)
    td["is_init"][:, 0] = True
    expected = td_error(loss, td)
    with torch.autocast("cpu", half, cache_enabled=False):
        out = loss(td)
    out["loss"].backward()
    assert {p.grad.dtype for p in loss.parameters()} == {td["td_error"].dtype} == {torch.float32}
    torch.testing.assert_close(td["td_error"].sqrt(), expected.sqrt(), rtol=0.05, atol=0.05)
