"""Under autocast the agents compute in half precision, and everything after them in single."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule, TensorDictSequential
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from qmix_lightning.agents.gru import GRUAgent
from qmix_lightning.functional.precision import HALF
from qmix_lightning.mixers.base import Mixer
from qmix_lightning.mixers.qmix import QMixer
from qmix_lightning.objectives.estimators.base import AbstractValueEstimator, ValueEstimators
from qmix_lightning.objectives.qmixer import QMixerLoss
from qmix_lightning.spec import NO_ACTION, TaskSpec
from tests.objectives.worlds import (
    OBS,
    OBSERVATION,
    VALUE,
    A,
    N,
    S,
    as_transitions,
    assert_same,
    gradients,
    make_episodes,
    make_loss,
    pad,
)

LAYOUTS = pytest.mark.parametrize("layout", ["episode", "transition", "unrolled"])
HALVES = pytest.mark.parametrize("half", HALF, ids=str)


class Forgetful(nn.Module):
    """A recurrent agent that forgets at the steps that are marked."""

    def __init__(self) -> None:
        super().__init__()
        spec = TaskSpec("fake", n_agents=N, n_actions=A, observation_size=OBS, state_size=S, episode_limit=6)
        self.agent = GRUAgent(spec, hidden_size=6, last_action=False)

    def forward(self, observation: Tensor, is_init: Tensor) -> Tensor:
        return self.agent(observation, torch.full(observation.shape[:-1], NO_ACTION), is_init)


class _Strict(QMixer):
    """A mixer that accepts single precision only, for its inputs and for its operations."""

    def mix(self, chosen_action_value: Tensor, state: Tensor | None) -> Tensor:
        assert state is not None
        assert chosen_action_value.dtype == state.dtype == (state @ state.mT).dtype == torch.float32
        return super().mix(chosen_action_value, state)


class Products(AbstractValueEstimator):
    """One-step targets by a product of matrices, which autocast would lower."""

    needs_time = False
    value_type = ValueEstimators.TD0

    def targets(self, reward: Tensor, next_value: Tensor, terminated: Tensor, done: Tensor, gamma: Tensor) -> Tensor:
        return reward + (next_value * ~terminated) @ gamma.view(1, 1)


def make(layout: str, mixer: Mixer | None = None, **options: Any) -> tuple[QMixerLoss, TensorDict]:
    """A loss of single-precision networks, and a batch for it with steps of padding, in which nothing is legal."""
    torch.manual_seed(0)
    if layout == "episode":
        local = make_loss(recurrent=True).local_value_network
    elif layout == "transition":
        local = make_loss().local_value_network
    else:
        local = TensorDictModule(Forgetful(), [OBSERVATION, "is_init"], [VALUE])
    kind = "episode" if layout == "episode" else "transition"
    options = {"diagnostics": True, **options}
    loss = QMixerLoss(local.float(), mixer or QMixer(S, 4, N), action_space="categorical", layout=kind, **options)
    loss.set_keys(mask="mask")
    loss.make_value_estimator("TDLambda", gamma=0.9, lmbda=0.6)
    loss.has_target_update = True
    episodes = pad(make_episodes(), 2, torch.nan)
    episodes["is_init"] = (torch.arange(episodes.shape[1]) == 0).expand(episodes.shape).unsqueeze(-1)
    batch = episodes if layout == "episode" else as_transitions(episodes)
    return loss, cast(batch, torch.float32)


def cast(batch: TensorDict, dtype: torch.dtype) -> TensorDict:
    return batch.apply(lambda x: x.to(dtype) if x.is_floating_point() else x)


def like(loss: QMixerLoss, local: Any, mixer: Any = None) -> QMixerLoss:
    """Another loss of the same kind, for other networks."""
    mixer = loss.mixer_network.module if mixer is None else mixer
    options = {"layout": loss.layout, "delay_value": loss.delay_value, "diagnostics": loss.diagnostics}
    other = QMixerLoss(local, mixer, action_space="categorical", **options)
    other.set_keys(mask="mask")
    other.make_value_estimator("TDLambda", gamma=0.9, lmbda=0.6)
    other.has_target_update = True
    return other


@contextmanager
def autocast(half: torch.dtype = torch.bfloat16) -> Iterator[None]:
    """What Lightning opens."""
    with torch.autocast("cpu", half, cache_enabled=False):
        yield


class Lowered(TorchDispatchMode):
    """Notes which operations return half precision, and the largest number that was ever in it."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: set[str] = set()
        self.largest = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.dtype in HALF and tensor.numel():
                self.operations.add(func.__name__)
                self.largest = max(self.largest, float(tensor.abs().max()))
        return result


# ------------------------------------------------------------------------------------------------------- identities


@LAYOUTS
def test_autocast_leaves_double_precision_alone_to_the_bit(layout: str) -> None:
    loss, batch = make(layout)
    loss, batch = loss.double(), cast(batch, torch.float64)
    expected = gradients(loss, batch)
    with autocast():
        assert_same(gradients(loss, batch), expected, rtol=0, atol=0)


@HALVES
@pytest.mark.parametrize("layout", ["episode", "transition"])
def test_what_follows_the_agents_is_to_the_bit_what_it_is_without_autocast(layout: str, half: torch.dtype) -> None:
    loss, batch = make(layout, delay_value=False)
    network = loss.local_value_network
    # Agents that repeat what the others say in half precision; targets are the online networks here.
    repeat = TensorDictModule(nn.Identity(), ["said"], [VALUE])
    same, steps = like(loss, repeat), batch.clone()
    with torch.no_grad(), autocast(half):
        for entries in (steps,) if layout == "episode" else (steps, steps["next"]):
            said = network(entries.select(OBSERVATION))[VALUE]
            assert said.dtype == half
            entries["said"] = said.float()
    with autocast(half):
        got = loss(batch)
    expected = same(steps)
    assert_same(dict(got.items()), dict(expected.items()), rtol=0, atol=0)
    assert torch.equal(batch["td_error"], steps["td_error"])


# ------------------------------------------------------------------------------------------------------ what is half


@HALVES
@LAYOUTS
def test_agents_are_half_and_all_that_the_loss_returns_and_writes_is_single(layout: str, half: torch.dtype) -> None:
    loss, batch = make(layout, _Strict(S, 4, N), double_q=True)
    before = {key: entry.dtype for key, entry in batch.items(True, True)}
    with autocast(half), Lowered() as lowered:
        out = loss(batch)
    out["loss"].backward()
    assert lowered.operations, "autocast should have reached the agents"
    after = {key: entry.dtype for key, entry in batch.items(True, True)}
    assert after == before | {"td_error": torch.float32}
    tensors = [*out.values(), *loss.parameters(), *loss.buffers(), *(p.grad for p in loss.parameters())]
    tensors = [tensor for tensor in tensors if tensor.is_floating_point()]
    assert {tensor.dtype for tensor in tensors} == {torch.float32}
    assert all(tensor.isfinite().all() for tensor in (*tensors, batch["td_error"]))


@HALVES
@pytest.mark.parametrize("double_q", [False, True])
@LAYOUTS
def test_no_stand_in_for_minus_infinity_is_ever_half(layout: str, double_q: bool, half: torch.dtype) -> None:
    loss, batch = make(layout, double_q=double_q)
    assert not batch["agents", "action_mask"].all()
    with Lowered() as lowered:
        with autocast(half):
            out = loss(batch)
        out["loss"].backward()
    assert 0 < lowered.largest < 100


@HALVES
def test_each_precision_is_as_near_to_double_precision_as_its_digits(half: torch.dtype) -> None:
    loss, batch = make("episode", double_q=True)
    exact, same = make("episode", double_q=True)[0].double(), cast(batch, torch.float64)
    expected = gradients(exact, same)
    with autocast(half):
        got = gradients(loss, batch)
    # A rounding error or two in values about 1.
    near = 4 * torch.finfo(half).eps
    error, true = (b["td_error"].double().sqrt() for b in (batch, same))
    torch.testing.assert_close(error, true, rtol=near, atol=near)
    assert not torch.equal(error, true)
    ours, theirs = (torch.cat([g.double().flatten() for g in gs.values()]) for gs in (got, expected))
    assert torch.cosine_similarity(ours, theirs, dim=0) > 0.999


# ----------------------------------------------------------------------------------------------------- whose networks


def test_a_mixer_may_read_what_the_agents_wrote_in_half_precision() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Linear(8, 1)

        def forward(self, chosen: Tensor, hidden: Tensor) -> Tensor:
            assert hidden.dtype == torch.float32
            return (chosen * self.weight(hidden).abs()).sum(-2)

    encode = TensorDictModule(nn.Linear(OBS, 8), [OBSERVATION], ["hidden"])
    decode = TensorDictModule(nn.Linear(8, A), ["hidden"], [VALUE])
    mixer = TensorDictModule(Reads(), [("agents", "chosen_action_value"), "hidden"], ["chosen_action_value"])
    loss, batch = make("episode")
    loss = like(loss, TensorDictSequential(encode, decode), mixer)
    with autocast():
        loss(batch)["loss"].backward()
    assert batch["td_error"].dtype == torch.float32


def test_the_networks_own_choice_of_actions_is_single_too() -> None:
    class Sampled(nn.Module):
        """Writes the value of an action of its own choice, which the loss then takes."""

        def forward(self, values: Tensor) -> Tensor:
            assert values.dtype == torch.bfloat16
            return values.amin(-1, keepdim=True)

    own = TensorDictModule(Sampled(), [VALUE], [("agents", "chosen_action_value")])
    loss, batch = make("transition")
    loss = like(loss, TensorDictSequential(loss.local_value_network, own), _Strict(S, 4, N))
    with autocast():
        loss(batch)["loss"].backward()


def test_networks_that_are_half_by_choice_stay_so_under_autocast() -> None:
    loss, batch = make("episode")
    loss, batch = loss.bfloat16(), cast(batch, torch.bfloat16)
    with autocast():
        out = loss(batch)
    out["loss"].backward()
    assert {tensor.dtype for tensor in (*out.values(), batch["td_error"])} == {torch.float32}
    assert {p.grad.dtype for p in loss.parameters()} == {torch.bfloat16}


def test_an_estimator_of_ones_own_computes_in_single_precision() -> None:
    losses = [make("transition", diagnostics=True) for _ in range(2)]
    for loss, estimator in zip((losses[0][0], losses[1][0]), ("TD0", Products), strict=True):
        loss.make_value_estimator(estimator)
    with autocast():
        expected, got = (loss(batch) for loss, batch in losses)
    torch.testing.assert_close(got["target"], expected["target"], rtol=1e-6, atol=1e-6)


def test_a_graph_is_compiled_whole_under_autocast() -> None:
    torch.compiler.reset()
    loss, batch = make("transition", double_q=True)
    same = batch.clone()
    with autocast():
        expected = loss(batch)
        got = torch.compile(loss, fullgraph=True, backend="eager")(same)
    assert_same(dict(got.items()), dict(expected.items()))
