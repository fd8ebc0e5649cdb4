from __future__ import annotations

import pytest
import torch

from qmix_lightning.mixers.vdn import VDNMixer


def test_vdn_is_the_sum() -> None:
    value = torch.randn(4, 5, 3, 1)
    assert torch.equal(VDNMixer(3, device="cpu")(value), value.sum(-2))


def test_vdn_needs_an_agent() -> None:
    with pytest.raises(ValueError, match=r"VDNMixer expected at least one agent .* got n_agents=0"):
        VDNMixer(0)
