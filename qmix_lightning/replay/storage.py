"""Where episodes are kept."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from qmix_lightning.spec import MASK

Key = str | tuple[str, ...]


class EpisodeStorage:
    """A ring of episodes in preallocated tensors ``[capacity, T + 1, ...]``; the newest overwrites the oldest.

    The first episodes stored say what an episode looks like. Memory is only taken up as it fills.

    Args:
        capacity: Number of episodes kept.
        device: Where they are kept; None is where the first ones are.

    Raises:
        ValueError: If there is no room for an episode.

    Example:
        >>> storage = EpisodeStorage(capacity=2)
        >>> mask = torch.tensor([[[True], [True], [False]], [[True], [False], [False]]])
        >>> storage.extend(TensorDict({"mask": mask, "state": torch.ones(2, 3, 4)}, [2, 3]))
        tensor([0, 1])
        >>> storage.read(torch.tensor([1, 1]))["state"].shape
        torch.Size([2, 2, 4])
    """

    def __init__(self, capacity: int, device: torch.device | str | None = None) -> None:
        if capacity < 1:
            raise ValueError(f"EpisodeStorage needs capacity >= 1, got {capacity}.")
        self.capacity, self.device = capacity, device
        self._entries: dict[Key, Tensor] = {}
        self._lengths = torch.zeros(capacity, dtype=torch.int64)
        self._written = 0

    def __len__(self) -> int:
        return min(self._written, self.capacity)

    def extend(self, episodes: TensorDict) -> Tensor:
        """Store episodes ``[k, T + 1]``, of which the last ``capacity`` stay.

        Returns:
            The places of those that stay, int64.

        Raises:
            ValueError: If they do not look like those stored before.
        """
        came = dict(episodes.items(True, True))
        if self._entries:
            self._refuse_other_task(came)
        else:
            self._entries = {key: self._room(entry) for key, entry in came.items()}
        after, kept = self._written + len(episodes), min(len(episodes), self.capacity)
        place = torch.arange(after - kept, after) % self.capacity
        self._lengths[place] = came[MASK][-kept:].sum((1, 2)).cpu()
        for key, stored in self._entries.items():
            stored.index_copy_(0, place.to(stored.device), came[key][-kept:].to(stored.device))
        self._written = after
        return place

    def number(self, place: Tensor) -> Tensor:
        """Count how many episodes were ever stored before those at places ``[k]``: a name that is not given again."""
        last = self._written - 1
        return last - (last - place) % self.capacity

    def place(self, number: Tensor) -> tuple[Tensor, Tensor]:
        """Find episodes again by their number.

        Args:
            number: ``[k]`` int64, from :meth:`number`.

        Returns:
            The place ``[k]`` of each, and whether it is still there ``[k]`` bool, not overwritten since.
        """
        oldest = self._written - len(self)
        return number % self.capacity, (oldest <= number) & (number < self._written)

    def read(self, index: Tensor) -> TensorDict:
        """Copy episodes, cut behind the step after the last of the longest.

        Args:
            index: ``[batch]`` int64 in 0, ..., ``len(self) - 1``, on the CPU.

        Returns:
            ``[batch, L + 1]``, contiguous, with L steps in the longest of these episodes.

        Raises:
            RuntimeError: If nothing was stored yet.
        """
        if not self._entries:
            raise RuntimeError("The storage holds no episode yet, extend it before reading.")
        steps = int(self._lengths[index].max()) + 1
        index = index.to(self._entries[MASK].device)
        # Cut before copying, and index_select because plain indexing of a cut tensor takes five times as long.
        read = {key: stored[:, :steps].index_select(0, index) for key, stored in self._entries.items()}
        return TensorDict(read, [len(index), steps])

    def state_dict(self) -> dict[str, Any]:
        """Return the episodes, as tensors by dotted name, and where the ring stands."""
        episodes = {_dotted(key): stored[: len(self)].clone() for key, stored in self._entries.items()}
        return {"episodes": episodes, "written": self._written}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Replace the content by that of a :meth:`state_dict` of a storage of the same capacity.

        Raises:
            ValueError: If the number of episodes does not fit the capacity.
        """
        count = len(state["episodes"][MASK]) if state["episodes"] else 0
        if count != min(state["written"], self.capacity):
            raise ValueError(
                f"Expected the state of a storage of capacity {self.capacity}, "
                f"got one with {count} of {state['written']} episodes kept. Set the capacity it was saved with."
            )
        self._entries, self._written = {}, 0
        if count:
            shape = state["episodes"][MASK].shape[:2]
            self.extend(TensorDict(state["episodes"], shape).unflatten_keys("."))
        self._written = state["written"]

    def _room(self, entry: Tensor) -> Tensor:
        return torch.empty(self.capacity, *entry.shape[1:], dtype=entry.dtype, device=self.device or entry.device)

    def _refuse_other_task(self, came: dict[Key, Tensor]) -> None:
        for key in {**self._entries, **came}:
            before, now = self._entries.get(key), came.get(key)
            if before is None or now is None or before.shape[1:] != now.shape[1:] or before.dtype != now.dtype:
                raise ValueError(
                    f"Expected episodes with {key!r} {_words(before)} as stored before, got {_words(now)}. "
                    "A buffer holds the episodes of one task: make a new one for another."
                )


def _dotted(key: Key) -> str:
    return key if isinstance(key, str) else ".".join(key)


def _words(entry: Tensor | None) -> str:
    return "absent" if entry is None else f"{list(entry.shape[1:])} {str(entry.dtype).removeprefix('torch.')}"
