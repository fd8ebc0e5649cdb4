from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from qmix_lightning.mixers.qmix import MonotoneActivation, QMixer
from qmix_lightning.spec import TaskSpec
from tests.oracles import qmix

SPEC = TaskSpec("test", n_agents=3, n_actions=4, observation_size=5, state_size=6, episode_limit=7)


def test_an_absent_agent_is_one_whose_rows_of_mixing_weights_are_zero() -> None:
    torch.manual_seed(0)
    mixer = QMixer(SPEC, mixing_embed_dim=4, hypernet_layers=1).double()
    without = copy.deepcopy(mixer)
    with torch.no_grad():
        for parameter in without.hyper_w_1.parameters():
            parameter.unflatten(0, (3, 4))[1] = 0  # type: ignore[no-untyped-call]
    value, state = torch.randn(8, 3, 1, dtype=torch.float64), torch.randn(8, 6, dtype=torch.float64)
    torch.testing.assert_close(
        mixer(value, state, agent_mask=torch.tensor([True, False, True]).expand(8, 3)), without(value, state)
    )


def test_mixing_weights_are_made_positive_in_the_way_that_was_chosen() -> None:
    torch.manual_seed(0)
    plain = QMixer(SPEC, mixing_embed_dim=4)
    value, state = torch.randn(8, 3, 1), torch.randn(8, 6)
    ways: dict[MonotoneActivation, Callable[[Tensor], Tensor]] = {
        "abs": lambda w: torch.where(w < 0, -w, w),
        "softplus": lambda w: torch.log1p(torch.exp(w)),
        "relu": lambda w: torch.where(w < 0, 0, w),
        "quadratic": lambda w: w**2 / 2,
    }
    for name, positive in ways.items():
        mixer = QMixer(SPEC, mixing_embed_dim=4, monotone_activation=name)
        mixer.load_state_dict(plain.state_dict())
        first, last = positive(plain.hyper_w_1(state)).view(8, 3, 4), positive(plain.hyper_w_final(state))
        hidden = F.elu(torch.einsum("bno,bne->be", value, first) + plain.hyper_b_1(state))
        expected = (hidden * last).sum(-1, keepdim=True) + plain.V(state)
        torch.testing.assert_close(mixer(value, state), expected)


@pytest.mark.parametrize("layers", [1, 2])
def test_an_agent_that_gains_never_lowers_the_joint_value(layers: int) -> None:
    torch.manual_seed(0)
    mixer = QMixer(SPEC, hypernet_layers=layers)
    value, state = torch.randn(100, 3, 1), torch.randn(100, 6)
    for agent in range(3):
        more = value.clone()
        more[:, agent] += torch.rand(100, 1) * 5
        assert (mixer(more, state) >= mixer(value, state)).all()


def test_two_layers_are_pymarls_written_out() -> None:
    torch.manual_seed(0)
    mixer = QMixer(SPEC, mixing_embed_dim=4, hypernet_layers=2, hypernet_embed=5).double()
    value, state = torch.randn(8, 3, 1, dtype=torch.float64), torch.randn(8, 6, dtype=torch.float64)
    expected = [qmix(mixer.state_dict(), list(v[:, 0]), s) for v, s in zip(value, state, strict=True)]
    torch.testing.assert_close(mixer(value, state)[:, 0], torch.stack(expected))


def test_the_order_of_creation_is_torchrls() -> None:
    torch.manual_seed(0)
    mixer = QMixer(6, 8, 3)
    torch.manual_seed(0)
    expected = [nn.Linear(6, 24), nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 1)]
    assert [name for name, _ in mixer.named_parameters()][::2] == [
        "hyper_w_1.weight",
        "hyper_w_final.weight",
        "hyper_b_1.weight",
        "V.0.weight",
        "V.2.weight",
    ]
    made = [parameter for layer in expected for parameter in layer.parameters()]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(mixer.parameters(), made, strict=True))


def test_mixers_of_a_task_have_pymarls_layers_and_those_of_a_shape_torchrls() -> None:
    by_task, by_shape = QMixer(SPEC), QMixer(6, n_agents=3)
    assert by_task.state_dict().keys() == QMixer(6, n_agents=3, hypernet_layers=2).state_dict().keys()
    assert by_shape.state_dict().keys() == QMixer(SPEC, hypernet_layers=1).state_dict().keys()
    assert by_task.state_dict().keys() != by_shape.state_dict().keys()


def test_two_layers_have_the_names_and_the_order_of_pymarls() -> None:
    torch.manual_seed(0)
    mixer = QMixer(6, 8, 3, hypernet_layers=2, hypernet_embed=5)
    torch.manual_seed(0)
    expected = {
        "hyper_w_1.0": nn.Linear(6, 5), "hyper_w_1.2": nn.Linear(5, 24),
        "hyper_w_final.0": nn.Linear(6, 5), "hyper_w_final.2": nn.Linear(5, 8),
        "hyper_b_1": nn.Linear(6, 8), "V.0": nn.Linear(6, 8), "V.2": nn.Linear(8, 1),
    }  # fmt: skip
    made = {f"{name}.{kind}": value for name, layer in expected.items() for kind, value in layer.state_dict().items()}
    assert list(mixer.state_dict()) == list(made)
    assert all(torch.equal(value, made[name]) for name, value in mixer.state_dict().items())


def test_the_device_is_where_the_parameters_are() -> None:
    mixer = QMixer(SPEC, device="cpu")
    assert (mixer.device, mixer.to("meta").device) == (torch.device("cpu"), torch.device("meta"))


@pytest.mark.parametrize(
    "shape", [6, np.int64(6), [6], (6,), torch.Size([6]), SPEC], ids=lambda shape: type(shape).__name__
)
def test_a_state_shape_may_be_written_in_any_way(shape: int | list[int] | TaskSpec) -> None:
    assert QMixer(shape, n_agents=3)(torch.zeros(2, 3, 1), torch.zeros(2, 6)).shape == (2, 1)


def test_a_state_may_have_several_dimensions() -> None:
    mixer = QMixer((3, 5), n_agents=3)
    assert mixer.state_dim == 15
    assert mixer(torch.zeros(4, 2, 3, 1), torch.zeros(4, 2, 3, 5)).shape == (4, 2, 1)


def test_sizes_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match=r"QMixer expected n_agents, or a TaskSpec"):
        QMixer(6)
    with pytest.raises(ValueError, match=r"a state of positive sizes, got n_agents=3 and state_shape=\(\)"):
        QMixer((), n_agents=3)
    with pytest.raises(ValueError, match=r"a state of positive sizes, got n_agents=3 and state_shape=\(-2, -3\)"):
        QMixer((-2, -3), n_agents=3)
    with pytest.raises(ValueError, match=r"positive widths, got mixing_embed_dim=0 and hypernet_embed=64"):
        QMixer(SPEC, mixing_embed_dim=0)
    with pytest.raises(ValueError, match=r"Unknown monotone_activation 'exp', expected one of abs, softplus, relu, qu"):
        QMixer(SPEC, monotone_activation="exp")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"1 or 2 layers, got hypernet_layers=3"):
        QMixer(SPEC, hypernet_layers=3)  # type: ignore[arg-type]
