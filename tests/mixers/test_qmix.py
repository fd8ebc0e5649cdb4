from __future__ import annotations

import pytest
import torch
from torch import nn

from qmix_lightning.mixers.qmix import QMixer
from qmix_lightning.spec import TaskSpec
from tests.oracles import qmix

SPEC = TaskSpec("test", n_agents=3, n_actions=4, observation_size=5, state_size=6, episode_limit=7)


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


@pytest.mark.parametrize("shape", [6, [6], (6,), torch.Size([6]), SPEC], ids=lambda shape: type(shape).__name__)
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
    with pytest.raises(ValueError, match=r"1 or 2 layers, got hypernet_layers=3"):
        QMixer(SPEC, hypernet_layers=3)  # type: ignore[arg-type]
