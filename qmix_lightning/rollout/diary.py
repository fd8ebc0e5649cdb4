"""Episodes in the making of games that do not advance together: one record a game."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from qmix_lightning.envs.games.board import Board
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

Key = str | tuple[str, ...]


class Diary:
    """Writes down B games of a board, each at its own pace, and hands out those that ended.

    Episodes are those of :class:`~qmix_lightning.rollout.episodes.EpisodeRecorder`, whose ring over time needs games
    that advance together.

    Args:
        board: Where the games show themselves.
        spec: The task's sizes.

    Attributes:
        length: ``[B]`` int64, steps written down of each game's episode.
    """

    def __init__(self, board: Board, spec: TaskSpec) -> None:
        views: dict[Key, Any] = {OBSERVATION: board.observation, ACTION_MASK: board.action_mask, STATE: board.state}
        came: dict[Key, Any] = {
            ACTION: board.action,
            REWARD: board.reward,
            DONE: board.done,
            TERMINATED: board.terminated,
        }
        self._seen: dict[Key, Tensor] = {key: torch.from_numpy(array) for key, array in views.items()}
        self._came: dict[Key, Tensor] = {key: torch.from_numpy(array) for key, array in came.items()}
        for name, column in zip(board.info_keys, torch.from_numpy(board.info)[..., None].unbind(1), strict=True):
            self._came[(*INFO, name)] = column
        self._steps = spec.episode_limit + 1
        everything: dict[Key, Tensor] = {**self._seen, **self._came}
        self._record: dict[Key, Tensor] = {}
        for key, now in everything.items():
            self._record[key] = now.new_zeros(len(now), self._steps, *now.shape[1:])
        self.length = torch.zeros(len(board.state), dtype=torch.int64)

    def begin(self, games: Tensor) -> None:
        """Start the record of new episodes, in place of what was written down of the old ones.

        Args:
            games: ``[k]`` int64, which have begun one.
        """
        self.length[games] = 0
        self._write(self._seen, games)

    def record(self, games: Tensor) -> None:
        """Write down a step: what was done, what it brought, and what is seen now.

        Args:
            games: ``[k]`` int64, which have played one.
        """
        self._write(self._came, games)
        self.length[games] += 1
        self._write(self._seen, games)

    def episode(self, game: int) -> TensorDict:
        """What was written down of an episode that ended, ``[1, T + 1]``, padded as spec.py says."""
        length = int(self.length[game])
        episode = TensorDict({}, [1, self._steps])
        for key, record in self._record.items():
            entry = record[game : game + 1].clone()
            entry[:, length + (key in self._seen) :] = 0
            episode[key] = entry
        episode[ACTION_MASK][:, length + 1 :, :, 0] = True
        episode[MASK] = (torch.arange(self._steps) < length).view(1, -1, 1)
        return episode

    def nothing(self) -> TensorDict:
        """No episode, ``[0, T + 1]``."""
        return self.episode(0)[:0]

    def _write(self, entries: dict[Key, Tensor], games: Tensor) -> None:
        at = self.length[games]
        for key, now in entries.items():
            self._record[key][games, at] = now[games]
