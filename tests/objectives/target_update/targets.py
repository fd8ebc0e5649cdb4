"""Online weights and targets, for the tests of how the latter follow."""

from __future__ import annotations

import torch
from torch import Tensor

from qmix_lightning.objectives.qmixer import QMixerLoss


def weights(loss: QMixerLoss, prefix: str = "") -> Tensor:
    """All weights of both networks, or with the prefix ``"target_"`` of their targets, in one vector."""
    params = [getattr(loss, f"{prefix}{name}_params") for name in ("local_value_network", "mixer_network")]
    return torch.cat([tree.get(key).detach().flatten() for tree in params for key in sorted(tree.keys(True, True))])


def train(loss: QMixerLoss) -> None:
    """Stands for a step of an optimizer."""
    with torch.no_grad():
        for parameter in loss.parameters():
            parameter.add_(1)
