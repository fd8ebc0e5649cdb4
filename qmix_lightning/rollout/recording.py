"""The recorder's loops, compiled: one call writes a step of all battles down, one cuts episodes out of the record.

Records are bytes here, ``[B (T + 1) + 1, w]`` for an entry of w bytes a battle: a row for each of the T + 1 columns of
one battle after the other, and at last a row of padding. A call of torch for each entry would take as long as the
simulator does for 64 battles.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import is_
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDict
from torch import Tensor

from qmix_lightning.functional.compiling import inlined, kernel, readable
from qmix_lightning.spec import ACTION

Key = str | tuple[str, ...]
Array = NDArray[Any]


class SteadyViews:
    """The tensors that an environment writes anew at every step, and the records of them, as the loops take them.

    To look them up and to read them from numpy takes longer than to copy them.

    Args:
        outcome: What a step returned.
        came: Its entries that tell what the step brought, each ``[B, ...]``.
        seen: Its entries that tell what is seen now.
        done: The one of those that came that tells whose episodes ended, ``[B, 1]`` bool.
        records: Of all of them and of the actions, ``[B (T + 1) + 1, ...]`` each.
    """

    def __init__(
        self,
        outcome: TensorDict,
        came: Mapping[Key, Tensor],
        seen: Mapping[Key, Tensor],
        done: Tensor,
        records: Mapping[Key, Tensor],
    ) -> None:
        self._tensors, self._seen_tensors = tensors_of(outcome), list(seen.values())
        self._actions, self._n_columns = records[ACTION][: len(done)], (len(records[ACTION]) - 1) // len(done)
        self._keys: list[Key] = [*seen, ACTION, *came]
        self._kinds = [(records[key].shape[1:], records[key].numpy().dtype) for key in self._keys]
        self._came, self._seen = (tuple(map(_bytes, part.values())) for part in (came, seen))
        self._records = tuple(_bytes(records[key]) for key in self._keys)
        self._seen_records, self._came_records = self._records[: len(seen)], self._records[len(seen) :]
        self._done = done.numpy()

    def hold(self, outcome: TensorDict) -> bool:
        """Whether a step returned the same tensors again."""
        return same(self._tensors, tensors_of(outcome))

    def show(self, seen: list[Tensor]) -> bool:
        """Whether these are the tensors that tell what is seen."""
        return same(self._seen_tensors, seen)

    def take(self, action: Tensor) -> bool:
        """Whether actions can be copied as they are."""
        return action.shape == self._actions.shape and action.dtype == torch.int64 and readable(action)

    def write(self, action: Tensor, column: int, following: int, length: Array, limit: int, ended: Array) -> int:
        """Write a step down; see :func:`write_step`."""
        came = (_bytes(action), *self._came)
        return write_step(
            came, self._came_records, column, self._seen, self._seen_records, following, self._done, length, limit,
            ended,
        )  # fmt: skip

    def begin(self, column: int, which: Array, length: Array) -> None:
        """Write down what some battles begin with; see :func:`write_rows`."""
        write_rows(self._seen, self._seen_records, column, which, length)

    def cut(self, cursor: int, which: Array, length: Array) -> tuple[dict[Key, Tensor], Tensor]:
        """Episodes ``[k, T + 1, ...]`` of some battles by key, and which steps were played; see :func:`cut`."""
        shape = (len(which), self._n_columns)
        episodes = [np.empty((*shape, *of_step), dtype) for of_step, dtype in self._kinds]
        played = np.empty(shape, dtype=np.bool_)
        as_bytes = tuple(episode.reshape(*shape, -1).view(np.uint8) for episode in episodes)
        cut(self._records, len(self._seen), cursor, which, length, as_bytes, played)
        return dict(zip(self._keys, map(torch.from_numpy, episodes), strict=True)), torch.from_numpy(played)


def copyable(entries: Mapping[Key, Tensor], records: Mapping[Key, Tensor], n_battles: int) -> bool:
    """Whether loops may copy these entries into their records, of which there is one more, that of the actions."""
    return (
        readable(*entries.values())
        and records.keys() == {ACTION, *entries}
        and readable(*records.values())
        and all(
            entry.shape == (n_battles, *records[key].shape[1:]) and entry.dtype == records[key].dtype
            for key, entry in entries.items()
        )
    )


def tensors_of(views: TensorDict) -> list[Tensor]:
    """The tensors of a tensordict and of those in it, always in the same order."""
    tensors: list[Tensor] = []
    for entry in views.values():
        if isinstance(entry, Tensor):
            tensors.append(entry)
        else:
            tensors += tensors_of(entry)
    return tensors


def same(before: list[Tensor], now: list[Tensor]) -> bool:
    """Whether these are the very same tensors, whatever they hold."""
    return len(before) == len(now) and all(map(is_, before, now))


def _bytes(tensor: Tensor) -> Array:
    return tensor.numpy().reshape(len(tensor), -1).view(np.uint8)


@inlined
def _copy(entry: Any, record: Any, column: int) -> None:
    n_battles, width = entry.shape
    n_columns = (record.shape[0] - 1) // n_battles
    for b in range(n_battles):
        for i in range(width):
            record[b * n_columns + column, i] = entry[b, i]


@kernel
def write_rows(seen: Any, records: Any, column: int, which: Any, length: Any) -> None:
    """Write down what some battles begin with.

    Args:
        seen: A tuple of ``[B, w]``.
        records: As many records.
        column: Of them.
        which: ``[k]`` int64, the battles.
        length: ``[B]`` int64, which becomes 0 for these battles.
    """
    n_columns = (records[0].shape[0] - 1) // len(length)
    for k in range(len(seen)):
        entry, record = seen[k], records[k]
        for b in which:
            for i in range(entry.shape[1]):
                record[b * n_columns + column, i] = entry[b, i]
    for b in which:
        length[b] = 0


@kernel
def write_step(
    came: Any, came_records: Any, column: int, seen: Any, seen_records: Any, following: int, done: Any, length: Any,
    limit: int, ended: Any,
) -> int:  # fmt: skip
    """Write down what came of a step, and in the column after it what was seen then.

    Args:
        came: A tuple of ``[B, w]``.
        came_records: As many records.
        column: Of what came.
        seen: A tuple of ``[B, w]``.
        seen_records: As many records.
        following: The column of what was seen.
        done: ``[B, 1]`` bool, whose episodes ended.
        length: ``[B]`` int64, the steps of each episode so far, which are counted on.
        limit: How many there may be.
        ended: ``[B]`` int64, into which the battles are written whose episodes ended.

    Returns:
        How many episodes ended; -1, with nothing written, if one goes on after its limit.
    """
    n_ended = 0
    for b in range(len(length)):
        if length[b] >= limit:
            return -1
    for k in range(len(came)):
        _copy(came[k], came_records[k], column)
    for k in range(len(seen)):
        _copy(seen[k], seen_records[k], following)
    for b in range(len(length)):
        length[b] += 1
        if done[b, 0]:
            ended[n_ended] = b
            n_ended += 1
    return n_ended


@kernel
def cut(records: Any, n_seen: int, cursor: int, which: Any, length: Any, episodes: Any, played: Any) -> None:
    """Copy episodes out of their records.

    Args:
        records: A tuple, first the ``n_seen`` ones of what was seen.
        n_seen: Of those there is one row more in an episode than of the others.
        cursor: The column that was seen last.
        which: ``[k]`` int64, the battles.
        length: ``[B]`` int64, the steps of their episodes.
        episodes: A tuple of ``[k, T + 1, w]``, which are written.
        played: ``[k, T + 1]`` bool, which steps were played, which is written.
    """
    n_columns, padding = played.shape[1], records[0].shape[0] - 1
    for j in range(len(which)):
        for t in range(n_columns):
            played[j, t] = t < length[which[j]]
    for j in range(len(which)):
        b = which[j]
        for k in range(len(records)):
            record, episode = records[k], episodes[k]
            rows = length[b] + 1 if k < n_seen else length[b]
            for t in range(n_columns):
                row = b * n_columns + (cursor - length[b] + t) % n_columns if t < rows else padding
                for i in range(episode.shape[2]):
                    episode[j, t, i] = record[row, i]
