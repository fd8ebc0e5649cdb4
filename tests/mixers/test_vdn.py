from __future__ import annotations

import pytest
import torch

from qmix_lightning.mixers.vdn import VDNMixer


def test_vdn_is_the_sum() -> None:
    value = torch.randn(4, 5, 3, 1)
    assert torch.equal(VDNMixer(3, device="cpu")(value), value.sum(-2))


def test_with_a_mask_vdn_is_the_sum_over_those_present() -> None:
    value = torch.tensor([[[1.0], [2.0], [4.0]], [[8.0], [16.0], [float("nan")]]])
    present = torch.tensor([[True, False, True], [True, True, False]])
    assert VDNMixer(3)(value, agent_mask=present).tolist() == [[5.0], [24.0]]


def test_vdn_needs_an_agent() -> None:
    with pytest.raises(ValueError, match=r"VDNMixer expected at least one agent .* got n_agents=0"):
        VDNMixer(0)
