"""All episodes alike."""

from __future__ import annotations

import torch
from torch import Tensor

from qmix_lightning.replay.samplers.base import AbstractSampler


class UniformSampler(AbstractSampler):
    """Draws different episodes, each as likely as any other, from its own source of randomness.

    Args:
        seed: Of the draws.

    Example:
        >>> index, weight = UniformSampler(seed=0).sample(size=3, batch_size=3)
        >>> sorted(index.tolist()), weight
        ([0, 1, 2], None)

    Source:
        Mnih et al., "Human-level control through deep reinforcement learning", 2015; over episodes as in PyMARL.
    """

    def sample(self, size: int, batch_size: int) -> tuple[Tensor, None]:
        """Draw ``batch_size`` different places of 0, ..., ``size - 1``, which all count alike."""
        return torch.randperm(size, generator=self._generator)[:batch_size], None
