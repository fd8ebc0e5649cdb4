"""Replay: episodes in, batches out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from qmix_lightning.replay.layout import Precision
from qmix_lightning.replay.samplers.base import AbstractSampler
from qmix_lightning.replay.samplers.uniform import UniformSampler
from qmix_lightning.replay.storage import EpisodeStorage
from qmix_lightning.replay.table import sent
from qmix_lightning.spec import EPISODE, MASK, OBSERVATION, PRIORITY_WEIGHT, UNITS


class ReplayBuffer:
    """Keeps the last episodes and hands out random batches of them, no longer than their longest.

    Args:
        capacity: Number of episodes kept.
        batch_size: Number of different episodes in a batch.
        sampler: Chooses them; None draws all alike.
        device: Where episodes are kept; None is where the first ones are.
        folder: A folder to keep them in, in files that are gone when the process ends; None keeps them in memory.
        precision: Of observations and states while they are kept: ``"float16"`` takes half the room, and numbers come
            back as float32 with an error of up to 0.05 % (2⁻¹¹).
        pack: Whether action masks and other truth values are kept by bits; they come back exactly.
        pin_memory: Whether batches are read into page-locked memory, from which copies to a GPU need not be waited for.
        observe: What makes whole batches ``[batch_size, L + 1]`` of episodes that were recorded without what follows
            from the rest; None where they are whole.

    Attributes:
        sampler: The sampler.
        storage: Where the episodes are.
        steps_drawn: Steps played in the episodes of the last batch, which nobody need ask a GPU for.

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
        self,
        capacity: int,
        batch_size: int,
        sampler: AbstractSampler | None = None,
        *,
        device: torch.device | str | None = None,
        folder: Path | str | None = None,
        precision: Precision = "float32",
        pack: bool = False,
        pin_memory: bool = False,
        observe: Callable[[TensorDict], TensorDict] | None = None,
    ) -> None:
        if not 1 <= batch_size <= capacity:
            raise ValueError(f"Expected 1 <= batch_size <= capacity, got batch_size {batch_size}, capacity {capacity}.")
        self.batch_size = batch_size
        self.sampler = UniformSampler() if sampler is None else sampler
        self.storage = EpisodeStorage(
            capacity, device, folder=folder, precision=precision, pack=pack, pin_memory=pin_memory
        )
        self._observe = observe
        self.steps_drawn = 0

    def __len__(self) -> int:
        return len(self.storage)

    def extend(self, episodes: TensorDict) -> None:
        """Add episodes ``[k, T + 1]`` in the layout of ``spec.py``, in place of the oldest once the buffer is full.

        Raises:
            ValueError: If they are of another task than those before.
        """
        self.sampler.added(self.storage.extend(episodes))

    def sample(self) -> TensorDict:
        """Draw a batch of episodes.

        Returns:
            ``[batch_size, L + 1]``, contiguous, with L steps in the longest episode of the batch. Where the sampler
            goes by priorities, also which episode it is and how much it counts, ``EPISODE`` and ``PRIORITY_WEIGHT`` of
            ``spec.py``, one number an episode expanded over its steps. A batch stays as it is for as long as anybody
            has a tensor of it; then its memory is used again, so that those who keep none sample several times faster.

        Raises:
            RuntimeError: If there are not enough episodes yet.
        """
        if len(self) < self.batch_size:
            raise RuntimeError(
                f"A batch takes {self.batch_size} episodes, the buffer holds {len(self)}. Play more before sampling."
            )
        place, weight = self.sampler.sample(len(self), self.batch_size)
        batch, self.steps_drawn = self.storage.read(place), self.storage.steps(place)
        if self._observe is not None:
            batch = self._observe(batch)
        if weight is not None:
            for key, entry in ((EPISODE, self.storage.number(place)), (PRIORITY_WEIGHT, weight.float())):
                batch[key] = sent(entry, batch[MASK].device)[:, None, None].expand(-1, batch.shape[1], 1)
        return batch

    def update_priorities(self, episode: Tensor, priority: Tensor) -> None:
        """Tell the sampler how much there is to learn from episodes; of those overwritten since, nothing is kept.

        Args:
            episode: Which ones ``[k]``, all different, as ``EPISODE`` of a batch says.
            priority: ``[k]``, finite and not negative.

        Raises:
            TypeError: If the sampler draws all alike.
            ValueError: If a priority is negative or not finite.
        """
        place, there = self.storage.place(episode.cpu())
        self.sampler.set_priorities(place[there], priority.cpu()[there])

    def state_dict(self) -> dict[str, Any]:
        """Return the episodes as they are kept, where the ring stands, and the state of the sampler."""
        return {"storage": self.storage.state_dict(), "sampler": self.sampler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on, as it would have done, from a :meth:`state_dict` of a buffer of the same capacity and options.

        Raises:
            ValueError: If it is of another one.
        """
        self.storage.load_state_dict(state["storage"])
        self.sampler.load_state_dict(state["sampler"])

    def refuse_other_form(self, form: dict[str, Any]) -> None:
        """Refuse saved episodes that are compact where ours are whole, and the reverse.

        Args:
            form: What the storage that they were saved from says they look like.

        Raises:
            ValueError: If they are.
        """
        kept = form.get("layouts", {}).keys()
        seen, compact = ".".join(OBSERVATION) in kept, self._observe is not None
        if (seen and compact) or (not seen and not compact and UNITS in kept):
            was, now = ("whole", "compact") if seen else ("compact", "whole")
            raise ValueError(
                f"Expected episodes that are kept {now}, got a checkpoint with episodes kept {was}. Go on with"
                f" data.compact={str(not seen).lower()}, and data.workers as they were, or start a new run."
            )
