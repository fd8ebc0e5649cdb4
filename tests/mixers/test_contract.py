"""Every mixer of the family keeps the promises of the base class. A new member enters by its line in ``__init__``."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor

from qmix_lightning import mixers
from qmix_lightning.mixers.base import Mixer
from qmix_lightning.spec import TaskSpec

SPEC = TaskSpec("test", n_agents=3, n_actions=4, observation_size=5, state_size=6, episode_limit=7)
MEMBERS = [getattr(mixers, name) for name in mixers.__all__ if name != "Mixer"]


@pytest.fixture(params=MEMBERS, ids=lambda member: member.__name__)
def mixer(request: pytest.FixtureRequest) -> Mixer:
    torch.manual_seed(0)
    member: Mixer = request.param(SPEC).double()
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


@pytest.mark.parametrize("batch", [(), (4,), (4, 5), (2, 3, 4)], ids=str)
def test_any_batch_dimensions_do(mixer: Mixer, batch: tuple[int, ...]) -> None:
    assert mixer(*inputs(mixer, *batch)).shape == (*batch, 1)


def test_b_batches_equal_b_times_one_batch(mixer: Mixer) -> None:
    together = inputs(mixer, 4, 5)
    alone = [mixer(*(x[b, t] for x in together)) for b in range(4) for t in range(5)]
    torch.testing.assert_close(mixer(*together).reshape(20, 1), torch.stack(alone))


def test_inputs_need_not_be_contiguous(mixer: Mixer) -> None:
    together = inputs(mixer, 5, 4)
    expected = mixer(*(x.transpose(0, 1).contiguous() for x in together))
    torch.testing.assert_close(mixer(*(x.transpose(0, 1) for x in together)), expected)
    torch.testing.assert_close(mixer(*(x[:, :-1] for x in together)), mixer(*(x[:, :-1].clone() for x in together)))


def test_gradients_reach_all_agents_and_all_parameters_and_are_right(mixer: Mixer) -> None:
    value, *state = inputs(mixer, 3)
    assert torch.autograd.gradcheck(mixer, [value.requires_grad_(), *(s.requires_grad_() for s in state)])
    mixer(value, *state).sum().backward()
    assert value.grad is not None
    assert (value.grad != 0).all()
    assert all(parameter.grad is not None for parameter in mixer.parameters())


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
    if not mixer.needs_state:
        return
    with pytest.raises(ValueError, match=r"Mixer that needs state was passed more than 2 inputs, or fewer"):
        mixer(value)
    with pytest.raises(ValueError, match=r"expected state with ending shape torch.Size\(\[6\]\), but got state shape"):
        mixer(value, state[0][..., 1:])
    for misaligned in (state[0].transpose(0, 1), state[0].flatten(0, 1), state[0][:1]):
        with pytest.raises(ValueError, match=r"state with the leading shape .* Each state must belong to the values"):
            mixer(value, misaligned)


class _Forgetful(Mixer):
    """Returns one value too many."""

    monotonic = True

    def mix(self, chosen_action_value: Tensor, state: Tensor | None) -> Tensor:
        return chosen_action_value.squeeze(-1)


def test_a_mixer_that_returns_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Mixer network expected output with same shape as input minus"):
        _Forgetful(3, needs_state=False, state_shape=())(torch.zeros(4, 3, 1))
