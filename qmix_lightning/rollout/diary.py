"""Episodes in the making of games that do not advance together: one record a game."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDict

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
    that advance together. In numpy, whose calls take a fifth of torch's on a handful of numbers.

    Args:
        board: Where the games show themselves.
        spec: The task's sizes.

    Attributes:
        length: ``[B]`` int64, steps written down of each game's episode.
    """

    def __init__(self, board: Board, spec: TaskSpec) -> None:
        self._seen: dict[Key, NDArray[Any]] = {
            OBSERVATION: board.observation, ACTION_MASK: board.action_mask, STATE: board.state,
        }  # fmt: skip
        self._came: dict[Key, NDArray[Any]] = {
            ACTION: board.action, REWARD: board.reward, DONE: board.done, TERMINATED: board.terminated,
        }  # fmt: skip
        for number, name in enumerate(board.info_keys):
            self._came[(*INFO, name)] = board.info[:, number : number + 1]
        self._steps = spec.episode_limit + 1
        everything = {**self._seen, **self._came}
        self._record = {
            key: np.zeros((len(now), self._steps, *now.shape[1:]), now.dtype) for key, now in everything.items()
        }
        self.length = np.zeros(len(board.state), dtype=np.int64)

    def begin(self, games: Sequence[int]) -> None:
        """Start the record of new episodes, in place of what was written down of the old ones.

        Args:
            games: Which have begun one.
        """
        self.length[games] = 0
        self._write(self._seen, games)

    def record(self, games: Sequence[int]) -> None:
        """Write down a step: what was done, what it brought, and what is seen now.

        Args:
            games: Which have played one.
        """
        self._write(self._came, games)
        self.length[games] += 1
        self._write(self._seen, games)

    def episode(self, game: int) -> TensorDict:
        """What was written down of an episode that ended, ``[1, T + 1]``, padded as spec.py says."""
        length = int(self.length[game])
        episode = TensorDict({}, [1, self._steps])
        for key, record in self._record.items():
            entry = record[game : game + 1].copy()
            entry[:, length + (key in self._seen) :] = 0
            episode[key] = torch.from_numpy(entry)
        episode[ACTION_MASK][:, length + 1 :, :, 0] = True
        episode[MASK] = (torch.arange(self._steps) < length).view(1, -1, 1)
        return episode

    def nothing(self) -> TensorDict:
        """No episode, ``[0, T + 1]``."""
        return self.episode(0)[:0]

    def _write(self, entries: dict[Key, NDArray[Any]], games: Sequence[int]) -> None:
        at = self.length[games]
        for key, now in entries.items():
            self._record[key][games, at] = now[games]
