"""The recorder's loops, compiled: one call writes a step of all battles down, one cuts episodes out of the record.

Records are bytes here, ``[B C + T + 1, w]`` for an entry of w bytes a battle: a row for each of the C columns of one
battle after the other, and at last the padding of an episode. A call of torch for each entry would take as long as the
simulator does for 64 battles.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import is_
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDict
from torch import Tensor

from qmix_lightning.functional.compiling import inlined, kernel, readable
from qmix_lightning.spec import ACTION

Key = str | tuple[str, ...]
Array = NDArray[Any]

STEPS_UNCUT: Final = 8
"""Columns that a record has beyond those of an episode: for so many steps one that ended is still there in full."""


class Book(NamedTuple):
    """What the loops write steps of B battles down from and to."""

    came: Any  # a tuple of [B, w], what a step brought
    came_records: Any  # as many records
    seen: Any  # a tuple of [B, w], what is seen then
    seen_records: Any  # as many records
    done: Any  # [B, 1] bool, whose episodes ended
    length: Any  # [B] int64, the steps of each episode so far, which are counted on
    limit: int  # how many there may be
    over: Any  # [B] bool, which becomes what done is
    waiting: Any  # [W, 3] int64, battle, column of the end and length of episodes that ended and are not yet cut out
    ends: Any  # a tuple of [W, w], what was seen at their end
    waits: Any  # [2] int64, how many wait, and for how many steps by now


class SteadyViews:
    """The tensors that an environment writes anew at every step, and the records of them, as the loops take them.

    To look them up and to read them from numpy takes longer than to copy them. Episodes that ended are cut out together
    later, which takes a fourth of the time; until then what was seen at their end, where the next ones begin, is kept
    apart.

    Args:
        outcome: What a step returned.
        came: Its entries that tell what the step brought, each ``[B, ...]``.
        seen: Its entries that tell what is seen now.
        done: The one of those that came that tells whose episodes ended, ``[B, 1]`` bool.
        records: Of all of them and of the actions, ``[B C + T + 1, ...]`` each.
        limit: Most steps T of an episode.
    """

    def __init__(
        self,
        outcome: TensorDict,
        came: Mapping[Key, Tensor],
        seen: Mapping[Key, Tensor],
        done: Tensor,
        records: Mapping[Key, Tensor],
        limit: int,
    ) -> None:
        self._tensors, self._seen_tensors = tensors_of(outcome), list(seen.values())
        self._limit, self._n_battles = limit, len(done)
        self._actions = records[ACTION][: len(done)]
        self._keys: list[Key] = [*seen, ACTION, *came]
        self._kinds = [(records[key].shape[1:], records[key].numpy().dtype) for key in self._keys]
        self._came, self._seen = (tuple(map(_bytes, part.values())) for part in (came, seen))
        self._records = tuple(_bytes(records[key]) for key in self._keys)
        self._flat = tuple(record.reshape(-1) for record in self._records)
        self._seen_records, self._came_records = self._records[: len(seen)], self._records[len(seen) :]
        self._done = done.numpy()
        # Of each episode that waits to be cut out: its battle, the column of its end, its length.
        self._waiting = np.empty((2 * len(done), 3), dtype=np.int64)
        self._waits = np.zeros(2, dtype=np.int64)  # how many wait, and for how many steps by now
        self._ends = tuple(np.empty((2 * len(done), entry.shape[1]), dtype=np.uint8) for entry in self._seen)

    def hold(self, outcome: TensorDict) -> bool:
        """Whether a step returned the same tensors again."""
        return same(self._tensors, tensors_of(outcome))

    def show(self, seen: list[Tensor]) -> bool:
        """Whether these are the tensors that tell what is seen."""
        return same(self._seen_tensors, seen)

    def take(self, action: Tensor) -> bool:
        """Whether actions can be copied as they are."""
        return action.shape == self._actions.shape and action.dtype == torch.int64 and readable(action)

    def must_cut(self) -> bool:
        """Whether the episodes that wait must be cut out before the next step."""
        return must_cut(self._waits, self._waiting, self._n_battles)

    def write(self, action: Tensor, column: int, following: int, length: Array, over: Array) -> int:
        """Write a step down; see :func:`write_step`."""
        return write_step(self.book(action, length, over), column, following)

    def book(self, action: Tensor, length: Array, over: Array) -> Book:
        """All that steps are written down from and to."""
        came = (_bytes(action), *self._came)
        return Book(
            came, self._came_records, self._seen, self._seen_records, self._done, length, self._limit, over,
            self._waiting, self._ends, self._waits,
        )  # fmt: skip

    def ended(self, count: int) -> Array:
        """The battles of the episodes that ended last, ``[count]``."""
        n_waiting = self._waits[0]
        return self._waiting[n_waiting - count : n_waiting, 0].copy()

    def begin(self, column: int, which: Array, length: Array) -> None:
        """Write down what some battles begin with; see :func:`write_rows`."""
        write_rows(self._seen, self._seen_records, column, which, length, self._limit)

    def cut(self) -> tuple[Tensor, dict[Key, Tensor], Tensor] | None:
        """Battles, episodes ``[k, T + 1, ...]`` by key, and which steps were played; see :func:`cut`."""
        if not (n_waiting := int(self._waits[0])):
            return None
        waiting, shape = self._waiting[:n_waiting], (n_waiting, self._limit + 1)
        episodes = [np.empty((*shape, *of_step), dtype) for of_step, dtype in self._kinds]
        played = np.empty(shape, dtype=np.bool_)
        as_bytes = tuple(episode.reshape(-1).view(np.uint8) for episode in episodes)
        cut(self._flat, self._ends, waiting, self._n_battles, as_bytes, played)
        battles = waiting[:, 0].copy()
        self._waits.fill(0)
        entries = dict(zip(self._keys, map(torch.from_numpy, episodes), strict=True))
        return torch.from_numpy(battles), entries, torch.from_numpy(played)


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
def _copy(entry: Any, record: Any, column: int, n_columns: int) -> None:
    n_battles, width = entry.shape
    for b in range(n_battles):
        for i in range(width):
            record[b * n_columns + column, i] = entry[b, i]


@kernel
def write_rows(seen: Any, records: Any, column: int, which: Any, length: Any, limit: int) -> None:
    """Write down what some battles begin with.

    Args:
        seen: A tuple of ``[B, w]``.
        records: As many records.
        column: Of them.
        which: ``[k]`` int64, the battles.
        length: ``[B]`` int64, which becomes 0 for these battles.
        limit: Most steps of an episode.
    """
    n_columns = (records[0].shape[0] - limit - 1) // len(length)
    for k in range(len(seen)):
        entry, record = seen[k], records[k]
        for b in which:
            for i in range(entry.shape[1]):
                record[b * n_columns + column, i] = entry[b, i]
    for b in which:
        length[b] = 0


@kernel
def must_cut(waits: Any, waiting: Any, n_battles: int) -> bool:
    """Whether the episodes that wait must be cut out before the next step; arrays of a :class:`Book`."""
    return bool(waits[0] > 0 and (waits[1] >= STEPS_UNCUT or waits[0] + n_battles > len(waiting)))


@kernel
def overdue(length: Any, limit: int) -> bool:
    """Whether an episode goes on after its limit; of a :class:`Book`."""
    late = False
    for b in range(len(length)):
        late |= length[b] >= limit
    return late


@kernel
def write_step(book: Any, column: int, following: int) -> int:
    """Write down what came of a step, and in the column after it what was seen then.

    Args:
        book: A :class:`Book`.
        column: Of what came.
        following: The column of what was seen.

    Returns:
        How many episodes ended; -1, with nothing written, if one goes on after its limit.
    """
    came, came_records, seen, seen_records, done, length, limit, over, waiting, ends, waits = book
    n_columns = (came_records[0].shape[0] - limit - 1) // len(length)
    if overdue(length, limit):
        return -1
    for k in range(len(came)):
        _copy(came[k], came_records[k], column, n_columns)
    for k in range(len(seen)):
        _copy(seen[k], seen_records[k], following, n_columns)
    at = waits[0]
    for b in range(len(length)):
        length[b] += 1
        over[b] = done[b, 0]
        if done[b, 0]:
            waiting[at, 0], waiting[at, 1], waiting[at, 2] = b, following, length[b]
            for k in range(len(seen)):
                for i in range(seen[k].shape[1]):
                    ends[k][at, i] = seen[k][b, i]
            at += 1
    count = at - waits[0]
    waits[0] = at
    waits[1] += at > 0
    return int(count)


@kernel
def cut(records: Any, ends: Any, waiting: Any, n_battles: int, episodes: Any, played: Any) -> None:
    """Copy episodes out of their records.

    Args:
        records: A tuple, first of what was seen, each ``[(B C + T + 1) w]``.
        ends: A tuple of ``[W, w]``, what was seen at the end of the episodes.
        waiting: ``[k, 3]`` int64, their battles, the columns of their ends, and their lengths.
        n_battles: Number B of battles.
        episodes: A tuple of ``[k (T + 1) w]``, which are written.
        played: ``[k, T + 1]`` bool, which steps were played, which is written.
    """
    n_episodes, n_steps = played.shape
    for j in range(n_episodes):
        for t in range(n_steps):
            played[j, t] = t < waiting[j, 2]
    for k in range(len(records)):
        record, episode = records[k], episodes[k]
        width = episode.shape[0] // (n_episodes * n_steps)
        n_columns = (record.shape[0] // width - n_steps) // n_battles
        for j in range(n_episodes):
            row, place = waiting[j, 0] * n_columns, episode[j * n_steps * width : (j + 1) * n_steps * width]
            length = waiting[j, 2]
            first = (waiting[j, 1] - length + n_columns) % n_columns
            unbroken = min(length, n_columns - first)  # steps up to the last column, after which the ring goes on
            _copy_bytes(record[(row + first) * width : (row + first + unbroken) * width], place)
            _copy_bytes(record[row * width : (row + length - unbroken) * width], place[unbroken * width :])
            if k < len(ends):
                _copy_bytes(ends[k][j], place[length * width :])
                length += 1
            _copy_bytes(record[n_battles * n_columns * width :][: (n_steps - length) * width], place[length * width :])


@inlined
def _copy_bytes(source: Any, target: Any) -> None:
    # Of arrays that begin where the copy does: an index that is a sum might be negative for all the compiler knows.
    for i in range(len(source)):
        target[i] = source[i]
