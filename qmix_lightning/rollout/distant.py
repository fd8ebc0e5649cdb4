"""Episodes in the making in an accelerator's memory, which the host looks at once in many steps."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDict
from torch import Tensor

from qmix_lightning.rollout.episodes import WHOLE_VIEW, came_of, together
from qmix_lightning.rollout.recording import Key
from qmix_lightning.spec import ACTION, ACTION_MASK, MASK, TaskSpec

STEPS_UNSEEN: Final = 16
"""Steps after which the host looks who ended, if nobody asked before."""


class DistantRecorder:
    """Writes down B battles step by step where they are fought, without asking whose episodes ended.

    It hands out the episodes of an :class:`~qmix_lightning.rollout.episodes.EpisodeRecorder`. Each battle writes into a
    ring of its own, at a column that moves on by 1 with each step and, where an episode ended, by 1 more, so that what
    was seen at its end stands beside what the next one begins with. The device moves the columns by itself; the host
    follows them when it has read whose episodes ended, all steps at once. :meth:`record` and :meth:`begin` of battles
    that ended touch the device alone, in memory that stays where it is from the first step on, so that a graph can
    replay them; :meth:`make_room` is for the host.

    Args:
        spec: The task's sizes, of which only ``episode_limit`` T is needed: the rest comes with the first step.
        num_envs: Number B of battles.
        seen: Which entries of the environment's views to record.

    Example:
        >>> from qmix_lightning.envs.matrix import TwoStepGame
        >>> env = TwoStepGame(num_envs=2)
        >>> recorder = DistantRecorder(env.spec, env.num_envs)
        >>> recorder.begin(env.reset())
        >>> action = torch.ones(2, 2, dtype=torch.int64)
        >>> for _ in range(2):
        ...     recorder.make_room()
        ...     outcome = env.step(action)
        ...     recorder.record(action, outcome)
        ...     over = outcome["done"].flatten().clone()
        ...     recorder.begin(env.reset(over), over)
        >>> which, episodes = recorder.take()
        >>> which, episodes["next", "reward"][..., 0]
        (tensor([0, 1]), tensor([[0., 8., 0.],
                [0., 8., 0.]]))
    """

    def __init__(self, spec: TaskSpec, num_envs: int, seen: tuple[Key, ...] = WHOLE_VIEW) -> None:
        self.limit, self.num_envs, self.seen = spec.episode_limit, num_envs, seen
        # An episode that ends in the first unseen step, what was seen at its end, and two rows for each step since.
        self._n_columns = self.limit + 1 + 2 * STEPS_UNSEEN
        self._record: dict[Key, Tensor] = {}  # [B n_columns + 1, ...], the last row being padding
        self._column: Tensor  # [B] int64, on the device
        self._first_row: Tensor  # [B] int64, on the device
        self._done: Tensor  # [STEPS_UNSEEN, B] bool, on the device, who ended in the last steps, in a ring
        self._next: Tensor  # [1] int64, on the device, where in it the next step is written
        self._first, self._unseen = 0, 0  # where in it the steps begin that the host has not seen, and how many
        self._start, self._length = np.zeros(num_envs, dtype=np.int64), np.zeros(num_envs, dtype=np.int64)
        self._ended: list[tuple[Tensor, dict[Key, Tensor]]] = []

    def begin(self, view: TensorDict, which: Tensor | None = None) -> None:
        """Start the record of new episodes.

        Args:
            view: What ``reset`` of the environment returned.
            which: ``[B]`` bool on the device, the battles that start anew, each of which ended in the step before; None
                means all, whatever was recorded of them.
        """
        if which is None:
            device = view.get(self.seen[0]).device
            self._column = torch.zeros(self.num_envs, dtype=torch.int64, device=device)
            self._first_row = torch.arange(self.num_envs, device=device) * self._n_columns
            self._done = torch.zeros(STEPS_UNSEEN, self.num_envs, dtype=torch.bool, device=device)
            self._next = torch.zeros(1, dtype=torch.int64, device=device)
            self._start[:], self._length[:], self._first, self._unseen, self._ended = 0, 0, 0, 0, []
        else:
            self._column.add_(which).remainder_(self._n_columns)
        self._write({key: view.get(key) for key in self.seen})

    def make_room(self) -> None:
        """Count the step that is played next, whoever plays it; waits for the device where too many were not seen.

        Raises:
            RuntimeError: If a battle went on after its episode limit.
        """
        if self._unseen == STEPS_UNSEEN:
            self._look()
        self._unseen += 1

    def record(self, action: Tensor, outcome: TensorDict) -> None:
        """Write down one step of every battle; those that ended must :meth:`begin` anew before the next step.

        Before each step :meth:`make_room`.

        Args:
            action: ``[B, N]`` int64, what was done.
            outcome: What ``step`` of the environment returned.
        """
        self._write({ACTION: action, **came_of(outcome)})
        self._column.add_(1).remainder_(self._n_columns)
        self._write({key: outcome.get(key) for key in self.seen})
        self._done.index_copy_(0, self._next, outcome.get("done").view(1, -1))
        self._next.add_(1).remainder_(STEPS_UNSEEN)

    def take(self) -> tuple[Tensor, TensorDict] | None:
        """Hand out the episodes ``[k, T + 1]`` that ended since the last time, and whose they are; None if none did."""
        self._look()
        ended, self._ended = self._ended, []
        return together(ended)

    def state_dict(self) -> dict[str, Any]:
        """The episodes under way, as of an :class:`~qmix_lightning.rollout.episodes.EpisodeRecorder`."""
        self._look()
        rows, left = self._rows(np.arange(self.num_envs), self._start, self._length)
        entries = self._read(rows[left >= 0])
        last = torch.from_numpy((left[left >= 0] == 0).nonzero()[0])
        for key in entries.keys() - set(self.seen):
            entries[key].index_fill_(0, last.to(entries[key].device), 0)  # nothing was done there yet
        return {"length": torch.from_numpy(self._length.copy()), "entries": entries}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on recording from a :meth:`state_dict` of a recorder of as many battles, once episodes :meth:`begin`."""
        self._start[:], self._length[:] = 0, state["length"].numpy(force=True)
        rows, left = self._rows(np.arange(self.num_envs), self._start, self._length)
        device = self._column.device
        self._column.copy_(torch.from_numpy(self._length))
        where = torch.from_numpy(rows[left >= 0]).to(device)
        for key, entry in state["entries"].items():
            self._make(key, entry.to(device))
            self._record[key].index_copy_(0, where, entry.to(device))

    def _write(self, entries: dict[Key, Tensor]) -> None:
        rows = self._first_row + self._column
        for key, entry in entries.items():
            if key not in self._record:
                self._make(key, entry)
            self._record[key].index_copy_(0, rows, entry)

    def _make(self, key: Key, like: Tensor) -> None:
        record = like.new_zeros(self.num_envs * self._n_columns + 1, *like.shape[1:])
        if key == ACTION_MASK:
            record[-1, ..., 0] = True
        self._record[key] = record

    def _look(self) -> None:
        """Wait for the device, and cut out the episodes that ended in the steps not seen so far."""
        if not self._unseen:
            return
        steps = np.roll(self._done.cpu().numpy(), -self._first, axis=0)[: self._unseen]
        self._first, self._unseen = (self._first + self._unseen) % STEPS_UNSEEN, 0
        which, start, length = [], [], []
        for done in steps:
            self._length += 1
            late = self._length.argmax()
            if self._length[late] > self.limit:
                raise RuntimeError(
                    f"Battle {late} goes on after {self.limit} steps, the episode_limit of its spec. The environment"
                    " must report it done there, and it must begin anew before the next step."
                )
            ended = done.nonzero()[0]
            which.append(ended)
            start.append(self._start[ended])
            length.append(self._length[ended])
            self._start[ended] = (self._start[ended] + self._length[ended] + 1) % self._n_columns
            self._length[ended] = 0
        battles = np.concatenate(which)
        if not len(battles):
            return
        rows, left = self._rows(battles, np.concatenate(start), np.concatenate(length))
        rows[left < 0] = self.num_envs * self._n_columns
        entries = {key: entry.view(*rows.shape, *entry.shape[1:]) for key, entry in self._read(rows.ravel()).items()}
        played = torch.from_numpy(left > 0)
        for key in entries.keys() - set(self.seen):  # what was done after the end is what was done there a ring ago
            over = (~played).to(entries[key].device)
            entries[key].masked_fill_(over.view(*over.shape, *[1] * (entries[key].dim() - 2)), 0)
        entries[MASK] = played.unsqueeze(-1).to(self._column.device)
        self._ended.append((torch.from_numpy(battles), entries))

    def _read(self, rows: NDArray[np.int64]) -> dict[Key, Tensor]:
        where = torch.from_numpy(rows).to(self._column.device)
        return {key: record.index_select(0, where) for key, record in self._record.items()}

    def _rows(
        self, which: NDArray[np.int64], start: NDArray[np.int64], length: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where each step of some episodes stands in the record, and how many came after it, ``[k, T + 1]`` each."""
        steps = np.arange(self.limit + 1)
        rows = which[:, None] * self._n_columns + (start[:, None] + steps) % self._n_columns
        return rows, length[:, None] - steps
