"""Which episodes are replayed."""

from __future__ import annotations

import torch
from torch import Generator, Tensor


class UniformSampler:
    """Draws different episodes, each as likely as any other, from its own source of randomness.

    Args:
        seed: Of the draws.

    Example:
        >>> sorted(UniformSampler(seed=0).sample(size=3, batch_size=3).tolist())
        [0, 1, 2]

    Source:
        Mnih et al., "Human-level control through deep reinforcement learning", 2015; over episodes as in PyMARL.
    """

    def __init__(self, seed: int = 0) -> None:
        self._generator = Generator().manual_seed(seed)

    def sample(self, size: int, batch_size: int) -> Tensor:
        """Draw ``batch_size`` different numbers of 0, ..., ``size - 1``, ``[batch_size]`` int64."""
        return torch.randperm(size, generator=self._generator)[:batch_size]

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state of the source of randomness."""
        return {"generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on drawing from a :meth:`state_dict`."""
        self._generator.set_state(state["generator"])
