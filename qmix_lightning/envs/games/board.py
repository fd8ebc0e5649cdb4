"""The arrays in which games side by side show themselves and hear what to do."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from qmix_lightning.envs.games.base import AbstractGame, Sight
from qmix_lightning.spec import TaskSpec

_ALIGNED: Final = 64
"""Bytes to whose multiples arrays begin: a cache line, which two processes should not write at once."""


class Board:
    """The views, actions and outcomes of B games, as arrays in one piece of memory, which processes may share.

    Args:
        spec: The task's sizes.
        info_keys: Names of the numbers that each step reports.
        num_games: Number B of games.
        memory: At least :meth:`size` bytes of zeros; None takes new ones.

    Attributes:
        observation: ``[B, N, O]`` float32.
        action_mask: ``[B, N, A]`` bool.
        state: ``[B, S]`` float32.
        action: ``[B, N]`` int64.
        reward: ``[B, 1]`` float32.
        done: ``[B, 1]`` bool.
        terminated: ``[B, 1]`` bool.
        info: ``[B, K]`` float32, in the order of ``info_keys``.

    Example:
        >>> board = Board(TaskSpec("own/guess", 2, 3, observation_size=1, state_size=1, episode_limit=5), (), 4)
        >>> board.observation.shape
        (4, 2, 1)
    """

    observation: NDArray[np.float32]
    action_mask: NDArray[np.bool_]
    state: NDArray[np.float32]
    action: NDArray[np.int64]
    reward: NDArray[np.float32]
    done: NDArray[np.bool_]
    terminated: NDArray[np.bool_]
    info: NDArray[np.float32]

    def __init__(
        self, spec: TaskSpec, info_keys: tuple[str, ...], num_games: int, memory: bytearray | memoryview | None = None
    ) -> None:
        self.info_keys = info_keys
        memory = bytearray(self.size(spec, info_keys, num_games)) if memory is None else memory
        start = 0
        for name, (shape, dtype) in _arrays(spec, info_keys).items():
            count = num_games * math.prod(shape)
            array: NDArray[Any] = np.frombuffer(memory, dtype, count, start).reshape(num_games, *shape)
            setattr(self, name, array)
            start += _padded(array.nbytes)

    @staticmethod
    def size(spec: TaskSpec, info_keys: tuple[str, ...], num_games: int) -> int:
        """Bytes of memory that the arrays take."""
        arrays = _arrays(spec, info_keys).values()
        return sum(_padded(num_games * math.prod(shape) * np.dtype(dtype).itemsize) for shape, dtype in arrays)


class Seat:
    """A game at its place on a board: plays by the actions that stand there, and writes what comes of them.

    Args:
        game: Who plays.
        board: Where.
        place: Which of its games this is.
    """

    def __init__(self, game: AbstractGame, board: Board, place: int) -> None:
        self._game, self._limit, self._steps = game, game.spec.episode_limit, 0
        self._board, self._place = board, place
        self._sight = Sight(board.observation[place], board.action_mask[place], board.state[place])

    def reset(self, seed: int) -> None:
        """Start a new episode, and show it."""
        self._game.reset(seed)
        self._steps = 0
        self._game.show(self._sight)

    def step(self) -> None:
        """Play the step that the board says, and show what it brought.

        Raises:
            KeyError: If the game does not report what it promised.
        """
        board, place = self._board, self._place
        turn = self._game.step(board.action[place])
        self._steps += 1
        board.reward[place] = turn.reward
        board.terminated[place] = turn.terminated
        board.done[place] = turn.terminated or turn.truncated or self._steps >= self._limit
        for number, name in enumerate(board.info_keys):
            board.info[place, number] = turn.info[name]
        self._game.show(self._sight)


def first_illegal(action: NDArray[np.int64], action_mask: NDArray[np.bool_]) -> tuple[int, int, int, list[int]] | None:
    """Look for an action that is not legal.

    Args:
        action: ``[B, N]`` int64.
        action_mask: ``[B, N, A]`` bool.

    Returns:
        Game, agent and action of the first that is found, and what would be legal; None if there is none.

    Example:
        >>> first_illegal(np.array([[0, 2]]), np.array([[[True, False, False], [True, True, False]]]))
        (0, 1, 2, [0, 1])
    """
    n_actions = action_mask.shape[-1]
    within = (action >= 0) & (action < n_actions)
    legal = within & np.take_along_axis(action_mask, np.where(within, action, 0)[..., None], -1)[..., 0]
    if legal.all():
        return None
    game, agent = (int(index) for index in np.argwhere(~legal)[0])
    return game, agent, int(action[game, agent]), np.flatnonzero(action_mask[game, agent]).tolist()


def _arrays(spec: TaskSpec, info_keys: tuple[str, ...]) -> dict[str, tuple[tuple[int, ...], type]]:
    return {
        "observation": ((spec.n_agents, spec.observation_size), np.float32),
        "action_mask": ((spec.n_agents, spec.n_actions), np.bool_),
        "state": ((spec.state_size,), np.float32),
        "action": ((spec.n_agents,), np.int64),
        "reward": ((1,), np.float32),
        "done": ((1,), np.bool_),
        "terminated": ((1,), np.bool_),
        "info": ((len(info_keys),), np.float32),
    }


def _padded(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED
