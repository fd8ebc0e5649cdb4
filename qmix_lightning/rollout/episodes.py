"""Episodes in the making: what happens to battles that run side by side, cut into one record a battle."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDict
from torch import Tensor

from qmix_lightning.rollout.recording import STEPS_UNCUT, Book, Key, SteadyViews, copyable, same, tensors_of
from qmix_lightning.spec import (
    ACTION,
    ACTION_MASK,
    DONE,
    INFO,
    MASK,
    OBSERVATION,
    REWARD,
    STATE,
    TERMINATED,
    TaskSpec,
)

WHOLE_VIEW: Final[tuple[Key, ...]] = (OBSERVATION, ACTION_MASK, STATE)
"""What every environment shows before a step."""


class EpisodeRecorder:
    """Writes down B battles step by step and hands out those that ended, as episodes of T + 1 steps.

    Step t of an episode holds what was seen before the action of step t, the action, and what it brought. The step
    after the last one holds only what was seen at the end, to bootstrap from: its mask is false and its action 0. All
    later steps are padding, zeros with action 0 legal. Nothing is stored twice.

    The record has some more than T + 1 rows for every battle, a ring over time: whenever an episode began, all battles
    write into the same column, so a step costs one copy a key. The rows of an episode that ends lie one after the
    other, as fits a processor's caches; its padding is T + 1 more rows that are never written. Where the environment
    shows the same tensors in the computer's memory at every step, compiled loops copy them instead of torch.

    Args:
        spec: The task's sizes, of which only ``episode_limit`` T is needed: the rest comes with the first step.
        num_envs: Number B of battles.
        seen: Which entries of the environment's views to record: what it shows, or the ``snapshot_keys`` from which it
            can show it again.

    Attributes:
        over: ``[B]`` bool on the CPU, whose episodes ended in the step that was recorded last.
        cursor: The column of the record that holds what is seen now.

    Example:
        >>> from qmix_lightning.envs.matrix import TwoStepGame
        >>> env = TwoStepGame(num_envs=4)
        >>> recorder = EpisodeRecorder(env.spec, env.num_envs)
        >>> recorder.begin(env.reset())
        >>> action = torch.ones(4, 2, dtype=torch.int64)
        >>> recorder.record(action, env.step(action)) is None
        True
        >>> recorder.record(action, env.step(action))
        tensor([0, 1, 2, 3])
        >>> which, episodes = recorder.take()
        >>> which, episodes["next", "reward"][0, :, 0]
        (tensor([0, 1, 2, 3]), tensor([0., 8., 0.]))
    """

    def __init__(self, spec: TaskSpec, num_envs: int, seen: tuple[Key, ...] = WHOLE_VIEW) -> None:
        self.limit, self.num_envs, self.seen = spec.episode_limit, num_envs, seen
        self._n_columns = self.limit + 1 + STEPS_UNCUT
        self._record: dict[Key, Tensor] = {}  # [B C + T + 1, ...]
        self._columns: dict[Key, tuple[Tensor, ...]] = {}  # views of it, [B, ...] each
        self.cursor = 0
        # On the CPU wherever the environment is, and in numpy, whose calls take half as long on a handful of numbers.
        self._length = np.zeros(num_envs, dtype=np.int64)
        self.over = torch.zeros(num_envs, dtype=torch.bool)
        self._over = self.over.numpy()
        self._steps = np.arange(self.limit + 1)
        self._cut_out: list[tuple[Tensor, dict[Key, Tensor]]] = []
        self._views: SteadyViews | None = None
        self._shown: list[Tensor] = []

    def begin(self, view: TensorDict, which: Tensor | None = None) -> None:
        """Start the record of new episodes.

        Args:
            view: What ``reset`` of the environment returned.
            which: ``[k]`` int64 on the CPU, the battles that start anew, all others having been recorded; None means
                all.
        """
        entries = {key: view.get(key) for key in self.seen}
        if which is not None and self._views is not None and self._views.show(list(entries.values())):
            self._views.begin(self.cursor, which.numpy(), self._length)
            return
        self._write(entries)
        self._length[slice(None) if which is None else which.numpy()] = 0

    def record(self, action: Tensor, outcome: TensorDict) -> Tensor | None:
        """Write down one step of every battle.

        Args:
            action: ``[B, N]`` int64, what was done.
            outcome: What ``step`` of the environment returned.

        Returns:
            None, or the battles that ended, ``[k]`` int64 on the CPU, whose episodes :meth:`take` hands out. They must
            :meth:`begin` anew before the next step.

        Raises:
            RuntimeError: If nothing began, or a battle goes on after its episode limit.
        """
        if not self._record:
            raise RuntimeError("No episode began yet: EpisodeRecorder.begin(env.reset()) comes before record.")
        views, following = self._views_of(outcome), (self.cursor + 1) % self._n_columns
        if views is not None and not views.take(action):
            views = None
        if views is not None:
            if views.must_cut():
                self.cut_waiting()
            count = views.write(action, self.cursor, following, self._length, self._over)
        else:
            count = self._write_step(action, outcome, following)
        if count < 0:
            raise self.overdue()
        self.cursor = following
        if not count:
            return None
        if views is not None:
            return torch.from_numpy(views.ended(count))
        ended = self._over.nonzero()[0]
        which = torch.from_numpy(ended)
        self._cut_out.append((which, self._cut(ended)))
        return which

    def overdue(self) -> RuntimeError:
        """What is wrong with a battle that goes on after its limit."""
        return RuntimeError(
            f"Battle {self._length.argmax()} goes on after {self.limit} steps, the episode_limit of its spec. "
            "The environment must report it done there, and it must begin anew before the next step."
        )

    @property
    def views(self) -> SteadyViews | None:
        """The tensors that the environment writes anew at every step, if it does and compiled loops may read them."""
        return self._views

    def book(self, views: SteadyViews, action: Tensor) -> Book:
        """All that steps are written down from and to, if it is always this action that was taken."""
        return views.book(action, self._length, self._over)

    def take(self) -> tuple[Tensor, TensorDict] | None:
        """Hand out the episodes ``[k, T + 1]`` that ended since the last time, and whose they are; None if none did."""
        self.cut_waiting()
        ended, self._cut_out = self._cut_out, []
        return together(ended)

    def state_dict(self) -> dict[str, Any]:
        """The episodes under way, from their first step to what is seen now; nothing of those that were handed out.

        Returns:
            ``"length"`` ``[B]`` int64, the steps played of each, and under ``"entries"`` what was recorded, one battle
            after the other.
        """
        rows, left = self._rows(np.arange(self.num_envs))
        return {"length": torch.from_numpy(self._length.copy()), "entries": self._read(rows[left >= 0])}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on recording from a :meth:`state_dict` of a recorder of as many battles, once episodes :meth:`begin`."""
        self._length[:] = state["length"].numpy(force=True)
        rows, left = self._rows(np.arange(self.num_envs))
        where, device = torch.from_numpy(rows[left >= 0]), next(iter(self._record.values())).device
        for key, entry in state["entries"].items():
            self._make(key, entry.to(device).new_zeros(self.num_envs, *entry.shape[1:]))
            self._record[key].index_copy_(0, where.to(device), entry.to(device))

    def _views_of(self, outcome: TensorDict) -> SteadyViews | None:
        if self._views is not None and self._views.hold(outcome):
            return self._views
        self.cut_waiting()
        self._views, before, self._shown = None, self._shown, tensors_of(outcome)
        if same(before, self._shown):
            came, seen = came_of(outcome), {key: outcome.get(key) for key in self.seen}
            if copyable({**came, **seen}, self._record, self.num_envs):
                self._views = SteadyViews(outcome, came, seen, came[DONE], self._record, self.limit)
        return self._views

    def _write_step(self, action: Tensor, outcome: TensorDict, following: int) -> int:
        if self._length.max() >= self.limit:
            return -1
        self.cut_waiting()
        self._write({ACTION: action, **came_of(outcome)})
        self.cursor = following
        self._write({key: outcome.get(key) for key in self.seen})
        self._length += 1
        self._over[:] = outcome.get("done").flatten().numpy(force=True)
        return int(self._over.sum())

    def _write(self, entries: dict[Key, Tensor]) -> None:
        for key, entry in entries.items():
            if key not in self._columns:
                self._make(key, entry)
        torch._foreach_copy_([self._columns[key][self.cursor] for key in entries], list(entries.values()))

    def _make(self, key: Key, like: Tensor) -> None:
        self.cut_waiting()
        n_rows = self.num_envs * self._n_columns
        record = like.new_zeros(n_rows + self.limit + 1, *like.shape[1:])
        if key == ACTION_MASK:
            record[n_rows:, ..., 0] = True
        self._record[key] = record
        self._columns[key] = record[:n_rows].view(self.num_envs, self._n_columns, *like.shape[1:]).unbind(1)
        self._views = None

    def _cut(self, ended: NDArray[np.int64]) -> dict[Key, Tensor]:
        """The episodes ``[k, T + 1, ...]`` of battles that ended."""
        rows, left = self._rows(ended)
        rows[left < 0] = self.num_envs * self._n_columns
        entries = {key: entry.view(*rows.shape, *entry.shape[1:]) for key, entry in self._read(rows.ravel()).items()}
        played = torch.from_numpy(left > 0).to(entries[DONE].device)
        entries[MASK] = played.unsqueeze(-1)
        return entries

    def cut_waiting(self) -> None:
        """Cut out the episodes that compiled loops have noted down so far."""
        if self._views is not None and (waiting := self._views.cut()) is not None:
            which, entries, played = waiting
            entries[MASK] = played.unsqueeze(-1)
            self._cut_out.append((which, entries))

    def _read(self, rows: NDArray[np.int64]) -> dict[Key, Tensor]:
        # Nothing was done yet in the column that was seen last; it holds what was done there a ring ago.
        if came := [entry[self.cursor] for key, entry in self._columns.items() if key not in self.seen]:
            torch._foreach_zero_(came)
        where = torch.from_numpy(rows).to(next(iter(self._record.values())).device)
        return {key: record.index_select(0, where) for key, record in self._record.items()}

    def _rows(self, which: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where each step of some battles stands in the record, and how many came after it, ``[k, T + 1]`` each."""
        length = self._length[which, None]
        column = (self.cursor - length + self._steps) % self._n_columns
        return which[:, None] * self._n_columns + column, length - self._steps


def came_of(outcome: TensorDict) -> dict[Key, Tensor]:
    """What a step brought, by the keys of an episode."""
    info = outcome.get("info", None)
    came: dict[Key, Tensor] = {REWARD: outcome.get("reward"), DONE: outcome.get("done")}
    came[TERMINATED] = outcome.get("terminated")
    if info is not None:
        came.update({(*INFO, name): value for name, value in info.items()})
    return came


def together(ended: list[tuple[Tensor, dict[Key, Tensor]]]) -> tuple[Tensor, TensorDict] | None:
    """Battles ``[k]`` and their episodes ``[k, T + 1]``, one part after the other; None if there is no part."""
    if not ended:
        return None
    which, entries = ended[0]
    if len(ended) > 1:
        which = torch.cat([battles for battles, _ in ended])
        entries = {key: torch.cat([part[key] for _, part in ended]) for key in entries}
    return which, _nested(entries, entries[MASK].shape[:2])


def _nested(entries: dict[Key, Tensor], shape: torch.Size) -> TensorDict:
    """A tensordict of entries that are known to have its shape: checked one by one, they cost as much as to be cut."""
    places, parents = _tree(tuple(entries))
    branches: list[dict[str, Any]] = [{} for _ in range(len(parents) + 1)]
    for (branch, name), entry in zip(places, entries.values(), strict=True):
        branches[branch][name] = entry
    # A branch was met before those below it.
    for branch in range(len(parents), 0, -1):
        parent, name = parents[branch - 1]
        branches[parent][name] = TensorDict._new_unsafe(branches[branch], shape)
    made: TensorDict = TensorDict._new_unsafe(branches[0], shape)
    return made


@cache
def _tree(keys: tuple[Key, ...]) -> tuple[list[tuple[int, str]], list[tuple[int, str]]]:
    """In which branch each key stands, under what name, and in which branch each branch but the first, the trunk."""
    numbers: dict[tuple[str, ...], int] = {(): 0}
    places, parents = [], []
    for key in keys:
        *path, name = (key,) if isinstance(key, str) else key
        for depth in range(1, len(path) + 1):
            if (branch := tuple(path[:depth])) not in numbers:
                numbers[branch] = len(numbers)
                parents.append((numbers[branch[:-1]], branch[-1]))
        places.append((numbers[tuple(path)], name))
    return places, parents
