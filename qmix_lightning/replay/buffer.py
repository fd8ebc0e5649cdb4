"""Replay: episodes in, batches out."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict

from qmix_lightning.replay.samplers import UniformSampler
from qmix_lightning.replay.storage import EpisodeStorage


class ReplayBuffer:
    """Keeps the last episodes and hands out random batches of them, no longer than their longest.

    Args:
        capacity: Number of episodes kept.
        batch_size: Number of different episodes in a batch.
        seed: Of the draws.
        device: Where episodes are kept; None is where the first ones are.

    Raises:
        ValueError: If a batch is empty or larger than the buffer.

    Example:
        >>> import torch
        >>> mask = torch.tensor([[[True], [False], [False]]]).expand(4, -1, -1)
        >>> buffer = ReplayBuffer(capacity=5000, batch_size=2)
        >>> buffer.extend(TensorDict({"mask": mask, "state": torch.zeros(4, 3, 7)}, [4, 3]))
        >>> len(buffer), buffer.sample()["state"].shape
        (4, torch.Size([2, 2, 7]))
    """

    def __init__(
        self, capacity: int, batch_size: int, *, seed: int = 0, device: torch.device | str | None = None
    ) -> None:
        if not 1 <= batch_size <= capacity:
            raise ValueError(f"Expected 1 <= batch_size <= capacity, got batch_size {batch_size}, capacity {capacity}.")
        self.batch_size = batch_size
        self._storage, self._sampler = EpisodeStorage(capacity, device), UniformSampler(seed)

    def __len__(self) -> int:
        return len(self._storage)

    def extend(self, episodes: TensorDict) -> None:
        """Add episodes ``[k, T + 1]`` in the layout of ``spec.py``, in place of the oldest once the buffer is full.

        Raises:
            ValueError: If they are of another task than those before.
        """
        self._storage.extend(episodes)

    def sample(self) -> TensorDict:
        """Draw a batch of episodes.

        Returns:
            ``[batch_size, L + 1]``, contiguous, with L steps in the longest episode of the batch.

        Raises:
            RuntimeError: If there are not enough episodes yet.
        """
        if len(self) < self.batch_size:
            raise RuntimeError(
                f"A batch takes {self.batch_size} episodes, the buffer holds {len(self)}. Play more before sampling."
            )
        return self._storage.read(self._sampler.sample(len(self), self.batch_size))

    def state_dict(self) -> dict[str, Any]:
        """Return the episodes, where the ring stands, and the state of the sampler."""
        return {"storage": self._storage.state_dict(), "sampler": self._sampler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a :meth:`state_dict` of a buffer of the same capacity, batch by batch as it would have done."""
        self._storage.load_state_dict(state["storage"])
        self._sampler.load_state_dict(state["sampler"])
