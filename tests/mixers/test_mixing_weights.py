"""What mixers show of their weights is what they weigh by."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from qmix_lightning.mixers.qmix import QMixer
from qmix_lightning.mixers.vdn import VDNMixer


@pytest.fixture(params=["abs", "softplus", "relu", "quadratic"])
def mixer(request):
    torch.manual_seed(0)
    return QMixer(state_shape=(2, 3), n_agents=3, mixing_embed_dim=4, monotone_activation=request.param).double()


def test_the_joint_value_is_mixed_by_the_weights_that_are_shown(mixer):
    value, state = torch.randn(5, 7, 3, 1).double(), torch.randn(5, 7, 2, 3).double()
    shown = mixer.mixing_weights(state)
    assert {name: list(weight.shape) for name, weight in shown.items()} == {"w_1": [5, 7, 3, 4], "w_final": [5, 7, 4]}
    flat = state.flatten(2)
    hidden = F.elu(torch.einsum("btn,btne->bte", value[..., 0], shown["w_1"]) + mixer.hyper_b_1(flat))
    joint = torch.einsum("bte,bte->bt", hidden, shown["w_final"])[..., None] + mixer.V(flat)
    torch.testing.assert_close(mixer(value, state), joint)


def test_they_are_not_negative(mixer):
    assert all((weight >= 0).all() for weight in mixer.mixing_weights(torch.randn(50, 2, 3).double()).values())


def test_a_sum_has_none():
    assert VDNMixer(n_agents=2).mixing_weights(torch.zeros(4, 5)) is None
