"""Every mixer of the family keeps the promises of the base class. A new member enters by its line in ``__init__``."""

from __future__ import annotations

import copy
import pickle
from functools import partial
from typing import get_args

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import Tensor

from qmix_lightning import mixers
from qmix_lightning.mixers.base import Mixer
from qmix_lightning.mixers.qmix import MonotoneActivation, QMixer
from qmix_lightning.spec import TaskSpec

SPEC = TaskSpec("test", n_agents=3, n_actions=4, observation_size=5, state_size=6, episode_limit=7)
MEMBERS = {name: getattr(mixers, name) for name in mixers.__all__ if name != "Mixer"}
VARIANTS = {
    "QMixer-two-layers": partial(QMixer, hypernet_layers=2, hypernet_embed=9),
    **{f"QMixer-{name}": partial(QMixer, monotone_activation=name) for name in get_args(MonotoneActivation)[1:]},
}


@pytest.fixture(params=[*MEMBERS, *VARIANTS])
def mixer(request: pytest.FixtureRequest) -> Mixer:
    torch.manual_seed(0)
    member: Mixer = (MEMBERS | VARIANTS)[request.param](SPEC).double()
    return member


def inputs(mixer: Mixer, *batch: int) -> list[Tensor]:
    value = torch.randn(*batch, mixer.n_agents, 1, dtype=torch.float64)
    state = torch.randn((*batch, *mixer.state_shape), dtype=torch.float64)
    return [value, state] if mixer.needs_state else [value]


def test_the_declared_monotonicity_is_the_measured_one(mixer: Mixer) -> None:
    slopes = []
    for scale in (0.1, 1.0, 10.0):
        value, *state = inputs(mixer, 200)
        value = (scale * value).requires_grad_()
        (slope,) = torch.autograd.grad(mixer(value, *state).sum(), value)
        slopes.append(slope)
    assert bool((torch.stack(slopes) >= 0).all()) == mixer.monotonic


def test_a_mask_of_all_agents_changes_nothing(mixer: Mixer) -> None:
    together, everybody = inputs(mixer, 4, 5), torch.ones(4, 5, 3, dtype=torch.bool)
    assert torch.equal(mixer(*together, agent_mask=everybody), mixer(*together))
    assert torch.equal(mixer(*together, agent_mask=everybody.unsqueeze(-1)), mixer(*together))


def test_an_absent_agent_adds_as_much_as_a_value_of_0(mixer: Mixer) -> None:
    value, *state = inputs(mixer, 4, 5)
    present = torch.rand(4, 5, 3) < 0.5
    assert torch.equal(mixer(value, *state, agent_mask=present), mixer(value * present.unsqueeze(-1), *state))


def test_whatever_an_absent_agent_thinks_reaches_neither_the_joint_value_nor_a_gradient(mixer: Mixer) -> None:
    value, *state = inputs(mixer, 4, 5)
    present = torch.rand(4, 5, 3, 1) < 0.5

    def run(absent: float) -> list[Tensor]:
        leaf = value.masked_fill(~present, absent).requires_grad_()
        joint = mixer(leaf, *state, agent_mask=present)
        return [joint, *torch.autograd.grad(joint.sum(), [leaf, *mixer.parameters()])]

    expected = run(0.0)
    assert (expected[1][~present] == 0).all()
    for absent in (float("nan"), float("inf"), -1e38):
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(run(absent), expected, strict=True))


@pytest.mark.parametrize("batch", [(), (4,), (4, 5), (2, 3, 4), (0,), (4, 0)], ids=str)
def test_any_batch_dimensions_do(mixer: Mixer, batch: tuple[int, ...]) -> None:
    assert mixer(*inputs(mixer, *batch)).shape == (*batch, 1)
    assert mixer(*inputs(mixer, *batch), agent_mask=torch.zeros(*batch, 3, dtype=torch.bool)).shape == (*batch, 1)


def test_b_batches_equal_b_times_one_batch(mixer: Mixer) -> None:
    together = inputs(mixer, 4, 5)
    alone = [mixer(*(x[b, t] for x in together)) for b in range(4) for t in range(5)]
    torch.testing.assert_close(mixer(*together).reshape(20, 1), torch.stack(alone))


def test_inputs_need_not_be_contiguous(mixer: Mixer) -> None:
    together = inputs(mixer, 5, 4)
    expected = mixer(*(x.transpose(0, 1).contiguous() for x in together))
    torch.testing.assert_close(mixer(*(x.transpose(0, 1) for x in together)), expected)
    torch.testing.assert_close(mixer(*(x[:, :-1] for x in together)), mixer(*(x[:, :-1].clone() for x in together)))
    expanded = [x[:1].expand(7, *x.shape[1:]) for x in together]
    torch.testing.assert_close(mixer(*expanded), mixer(*(x.clone() for x in expanded)))


def test_gradients_reach_all_agents_and_all_parameters_and_are_right(mixer: Mixer) -> None:
    value, *state = inputs(mixer, 3)
    assert torch.autograd.gradcheck(mixer, [value.requires_grad_(), *(s.requires_grad_() for s in state)])
    mixer(value, *state).sum().backward()
    assert value.grad is not None
    # A weight that relu cuts off is 0, for good or until its state looks different.
    assert (value.grad != 0).all() or getattr(mixer, "monotone_activation", None) == "relu"
    assert all(parameter.grad is not None for parameter in mixer.parameters())


def test_inputs_may_be_given_by_name_as_a_tensordict_module_does(mixer: Mixer) -> None:
    together, present = inputs(mixer, 4, 5), torch.rand(4, 5, 3) < 0.5
    named = dict(zip(("chosen_action_value", "state"), together, strict=False))
    assert torch.equal(mixer(**named), mixer(*together))
    keys = {name: ("agents", name) for name in (*named, "agent_mask")}
    module = TensorDictModule(mixer, in_keys=keys, out_keys=["joint"])
    batch = TensorDict({"agents": {**named, "agent_mask": present}}, [4, 5])
    assert torch.equal(module(batch)["joint"], mixer(*together, agent_mask=present))


def test_it_compiles_to_one_graph(mixer: Mixer) -> None:
    torch._dynamo.reset()
    compiled, together = torch.compile(mixer, fullgraph=True, backend="eager"), inputs(mixer, 4, 5)
    present = torch.rand(4, 5, 3) < 0.5
    assert torch.equal(compiled(*together), mixer(*together))
    assert torch.equal(compiled(*together, agent_mask=present), mixer(*together, agent_mask=present))


def test_it_has_the_attributes_of_torchrls_mixers(mixer: Mixer) -> None:
    assert mixer.n_agents == 3
    assert mixer.needs_state == bool(list(mixer.parameters()))
    assert mixer.state_shape == torch.Size([6] if mixer.needs_state else [])
    assert mixer.device == torch.device("cpu")


def test_copies_mix_the_same(mixer: Mixer) -> None:
    together = inputs(mixer, 3)
    for twin in (copy.deepcopy(mixer), pickle.loads(pickle.dumps(mixer))):
        assert torch.equal(twin(*together), mixer(*together))


def test_wrong_inputs_are_refused_in_torchrls_words(mixer: Mixer) -> None:
    value, *state = inputs(mixer, 4, 5)
    with pytest.raises(ValueError, match=r"chosen_action_value with last 2 dimensions \(3, 1\)"):
        mixer(value.squeeze(-1), *state)
    with pytest.raises(ValueError, match=r"Mixer that (needs|doesn't need) state was passed more than [12] input"):
        mixer(value, *state, value)
    with pytest.raises(ValueError, match=r"passed more than [12] inputs?, or (none|fewer): expected .*but got 0"):
        mixer()
    if not mixer.needs_state:
        return
    with pytest.raises(ValueError, match=r"Mixer that needs state was passed more than 2 inputs, or fewer"):
        mixer(value)
    with pytest.raises(ValueError, match=r"expected state with ending shape torch.Size\(\[6\]\), but got state shape"):
        mixer(value, state[0][..., 1:])
    for misaligned in (state[0].transpose(0, 1), state[0].flatten(0, 1), state[0][:1]):
        with pytest.raises(ValueError, match=r"state with the leading shape .* Each state must belong to the values"):
            mixer(value, misaligned)


@pytest.mark.parametrize("mask", [torch.ones(4, 5, 3), torch.ones(4, 3, 1).bool(), torch.ones(4, 5).bool()])
def test_a_mask_of_the_wrong_kind_is_refused(mixer: Mixer, mask: Tensor) -> None:
    words = r"agent_mask of bool with the shape \(4, 5, 3, 1\) .* or \(4, 5, 3\), but got torch.* True for each agent"
    with pytest.raises(ValueError, match=words):
        mixer(*inputs(mixer, 4, 5), agent_mask=mask)


class _Forgetful(Mixer):
    """Returns one value too many."""

    monotonic = True

    def mix(self, chosen_action_value: Tensor, state: Tensor | None) -> Tensor:
        return chosen_action_value.squeeze(-1)


def test_a_mixer_that_returns_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Mixer network expected output with same shape as input minus"):
        _Forgetful(3, needs_state=False, state_shape=())(torch.zeros(4, 3, 1))
