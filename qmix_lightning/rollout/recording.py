"""The recorder's loops, compiled: one call writes a step of all battles down, one cuts episodes out of the record.

Records are rows of bytes here, ``[B C + T + 1, w]`` for an entry of w bytes a battle: one for each of the C columns of
one battle after the other, and at last the padding of an episode. A call of torch for each entry would take as long as
the simulator does for 64 battles.
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

from qmix_lightning.functional.compiling import kernel, kernel_over, readable
from qmix_lightning.functional.streaming import move_bytes
from qmix_lightning.spec import ACTION

Key = str | tuple[str, ...]
Array = NDArray[Any]

STEPS_UNCUT: Final = 8
"""Columns that a record has beyond those of an episode: for so many steps one that ended is still there in full."""


class Book(NamedTuple):
    """What the loops write steps of B battles down from and to.

    Where entries lie in memory is told by numbers: as arrays, each kind of environment would have other loops compiled.
    """

    came: Any  # [k, 3] int64, of what a step brought: its address, that of its record, and bytes of a battle's entry
    seen: Any  # [k, 4] int64, of what is seen then: the same, and the address of what was seen at the end of episodes
    done: Any  # [B, 1] bool, whose episodes ended
    length: Any  # [B] int64, the steps of each episode so far, which are counted on
    limit: int  # how many there may be
    n_columns: int  # of the records, for each battle
    over: Any  # [B] bool, which becomes what done is
    waiting: Any  # [W, 3] int64, battle, column of the end and length of episodes that ended and are not yet cut out
    waits: Any  # [2] int64, how many wait, and for how many steps by now


class SteadyViews:
    """The tensors that an environment writes anew at every step, and the records of them, as the loops take them.

    To look them up takes longer than to copy them. Episodes that ended are cut out together later, which takes a fourth
    of the time; until then what was seen at their end, where the next ones begin, is kept apart.

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
        self._n_columns = (len(records[ACTION]) - limit - 1) // len(done)
        self._actions = records[ACTION][: len(done)]
        self._keys: list[Key] = [*seen, ACTION, *came]
        self._kinds = [(records[key].shape[1:], records[key].numpy().dtype) for key in self._keys]
        self._done = done.numpy()
        # Of each episode that waits to be cut out: its battle, the column of its end, its length.
        self._waiting = np.empty((2 * len(done), 3), dtype=np.int64)
        self._waits = np.zeros(2, dtype=np.int64)  # how many wait, and for how many steps by now
        ends = [entry.new_empty(2 * len(done), *entry.shape[1:]) for entry in seen.values()]
        self._kept = [*seen.values(), *came.values(), *records.values(), *ends]  # what has an address below
        self._came = _addresses([self._actions, *came.values()], [records[key] for key in (ACTION, *came)])
        self._seen = _addresses(list(seen.values()), [records[key] for key in seen], ends)

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
        """All that steps are written down from and to; who keeps it keeps these views and this action."""
        came = self._came.copy()
        came[0, 0] = action.data_ptr()
        return Book(
            came, self._seen, self._done, length, self._limit, self._n_columns, over, self._waiting, self._waits
        )

    def ended(self, count: int) -> Array:
        """The battles of the episodes that ended last, ``[count]``."""
        n_waiting = self._waits[0]
        return self._waiting[n_waiting - count : n_waiting, 0].copy()

    def begin(self, column: int, which: Array, length: Array) -> None:
        """Write down what some battles begin with; see :func:`write_rows`."""
        write_rows(self._seen, column, self._n_columns, which, length)

    def cut(self) -> tuple[Tensor, dict[Key, Tensor], Tensor] | None:
        """Battles, episodes ``[k, T + 1, ...]`` by key, and which steps were played; see :func:`cut`."""
        if not (n_waiting := int(self._waits[0])):
            return None
        waiting, shape = self._waiting[:n_waiting], (n_waiting, self._limit + 1)
        episodes = [np.empty((*shape, *of_step), dtype) for of_step, dtype in self._kinds]
        played = np.empty(shape, dtype=np.bool_)
        targets = np.array([episode.ctypes.data for episode in episodes])
        cut(self._seen, self._came, waiting, self._n_battles, self._n_columns, targets, played)
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


def _addresses(entries: list[Tensor], *others: list[Tensor]) -> Array:
    """Where entries ``[B, ...]`` lie, and the first of others that are like them, and how many bytes one battle has."""
    rows = [
        (entry.data_ptr(), first.data_ptr(), entry[0].nbytes, *(more.data_ptr() for more in rest))
        for entry, first, *rest in zip(entries, *others, strict=True)
    ]
    return np.array(rows, dtype=np.int64).reshape(len(entries), 2 + len(others))


@kernel_over(move_bytes)
def write_rows(seen: Any, column: int, n_columns: int, which: Any, length: Any) -> None:
    """Write down what some battles begin with.

    Args:
        seen: As in a :class:`Book`.
        column: Of the records.
        n_columns: Number of columns.
        which: ``[k]`` int64, the battles.
        length: ``[B]`` int64, which becomes 0 for these battles.
    """
    for k in range(len(seen)):
        entry, record, width = seen[k, 0], seen[k, 1], seen[k, 2]
        for b in which:
            move_bytes(record + (b * n_columns + column) * width, entry + b * width, width)
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


@kernel_over(move_bytes)
def write_step(book: Any, column: int, following: int) -> int:
    """Write down what came of a step, and in the column after it what was seen then.

    Args:
        book: A :class:`Book`.
        column: Of what came.
        following: The column of what was seen.

    Returns:
        How many episodes ended; -1, with nothing written, if one goes on after its limit.
    """
    came, seen, done, length, limit, n_columns, over, waiting, waits = book
    n_battles = len(length)
    if overdue(length, limit):
        return -1
    for k in range(len(came)):
        entry, record, width = came[k, 0], came[k, 1], came[k, 2]
        for b in range(n_battles):
            move_bytes(record + (b * n_columns + column) * width, entry + b * width, width)
    for k in range(len(seen)):
        entry, record, width = seen[k, 0], seen[k, 1], seen[k, 2]
        for b in range(n_battles):
            move_bytes(record + (b * n_columns + following) * width, entry + b * width, width)
    at = waits[0]
    for b in range(n_battles):
        length[b] += 1
        over[b] = done[b, 0]
        if done[b, 0]:
            waiting[at, 0], waiting[at, 1], waiting[at, 2] = b, following, length[b]
            for k in range(len(seen)):
                move_bytes(seen[k, 3] + at * seen[k, 2], seen[k, 0] + b * seen[k, 2], seen[k, 2])
            at += 1
    count = at - waits[0]
    waits[0] = at
    waits[1] += at > 0
    return int(count)


@kernel_over(move_bytes)
def cut(seen: Any, came: Any, waiting: Any, n_battles: int, n_columns: int, targets: Any, played: Any) -> None:
    """Copy episodes out of their records.

    Args:
        seen: As in a :class:`Book`.
        came: As well.
        waiting: ``[k, 3]`` int64, their battles, the columns of their ends, and their lengths.
        n_battles: Number B of battles.
        n_columns: Number of columns of the records.
        targets: Addresses of the episodes of each entry, first of those that were seen, ``[k, T + 1, w]`` each.
        played: ``[k, T + 1]`` bool, which steps were played, which is written.
    """
    n_episodes, n_steps = played.shape
    for j in range(n_episodes):
        for t in range(n_steps):
            played[j, t] = t < waiting[j, 2]
    for k in range(len(targets)):
        is_seen = k < len(seen)
        record, width = (seen[k, 1], seen[k, 2]) if is_seen else (came[k - len(seen), 1], came[k - len(seen), 2])
        padding = record + n_battles * n_columns * width
        for j in range(n_episodes):
            row, place = record + waiting[j, 0] * n_columns * width, targets[k] + j * n_steps * width
            length = waiting[j, 2]
            first = (waiting[j, 1] - length + n_columns) % n_columns
            unbroken = min(length, n_columns - first)  # steps up to the last column, after which the ring goes on
            move_bytes(place, row + first * width, unbroken * width)
            move_bytes(place + unbroken * width, row, (length - unbroken) * width)
            if is_seen:
                move_bytes(place + length * width, seen[k, 3] + j * width, width)
                length += 1
            move_bytes(place + length * width, padding, (n_steps - length) * width)
