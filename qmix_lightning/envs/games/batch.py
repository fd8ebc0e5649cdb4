"""Several games in this process, as one environment."""

from __future__ import annotations

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

from qmix_lightning.envs.base import AbstractEnvironment
from qmix_lightning.envs.games.base import GameFactory
from qmix_lightning.envs.games.board import Board, Seat, first_illegal
from qmix_lightning.envs.games.seeds import episode_seed
from qmix_lightning.spec import ACTION_MASK, OBSERVATION, STATE


class GameBatch(AbstractEnvironment):
    """Plays B games one after the other in this process, as an environment like any other.

    The e-th episode of the game in place ``first + b`` is the same whatever the batch, where the game lets itself be
    seeded. A fault of a game is an exception here.

    Args:
        factory: Makes a game from a seed, e.g. its class.
        num_envs: Number B of games.
        seed: Of the episodes.
        first: Number of this batch's first game, so that several batches can share a seed.

    Example:
        >>> from qmix_lightning.envs.games.base import AbstractGame, Turn
        >>> from qmix_lightning.spec import TaskSpec
        >>> class Wait(AbstractGame):
        ...     spec = TaskSpec("own/wait", n_agents=1, n_actions=2, observation_size=1, state_size=1, episode_limit=3)
        ...
        ...     def __init__(self, seed):
        ...         self.left = 0
        ...
        ...     def reset(self, seed):
        ...         self.left = 3
        ...
        ...     def show(self, sight):
        ...         sight.observation[:], sight.action_mask[:], sight.state[:] = self.left, True, self.left
        ...
        ...     def step(self, action):
        ...         self.left -= 1
        ...         return Turn(reward=float(action[0]))
        >>> env = GameBatch(Wait, num_envs=2)
        >>> env.reset()["state"].flatten()
        tensor([3., 3.])
        >>> env.step(torch.tensor([[0], [1]]))["reward"].flatten()
        tensor([0., 1.])
    """

    def __init__(self, factory: GameFactory, num_envs: int = 1, seed: int = 0, *, first: int = 0) -> None:
        self._games = [factory(episode_seed(seed, first + place)) for place in range(num_envs)]
        game = self._games[0]
        self.spec, self.info_keys, self.num_envs, self._first = game.spec, game.info_keys, num_envs, first
        self._board = Board(game.spec, game.info_keys, num_envs)
        self._seats = [Seat(game, self._board, place) for place, game in enumerate(self._games)]
        view = {OBSERVATION: self._board.observation, ACTION_MASK: self._board.action_mask, STATE: self._board.state}
        came = {"reward": self._board.reward, "done": self._board.done, "terminated": self._board.terminated}
        self._view = TensorDict({key: torch.from_numpy(array) for key, array in view.items()}, [num_envs])
        outcome = {key: torch.from_numpy(array) for key, array in came.items()}
        info = dict(zip(game.info_keys, torch.from_numpy(self._board.info)[..., None].unbind(1), strict=True))
        self._outcome = self._view.copy().update(outcome | ({"info": info} if info else {}))
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Make the episodes that start at the next full reset, and after, depend on this seed alone."""
        self._seed, self._episodes = seed, np.zeros(self.num_envs, dtype=np.int64)

    def reset(self, which: Tensor | None = None) -> TensorDict:
        """Start new episodes; see :class:`AbstractEnvironment`."""
        for place in range(self.num_envs) if which is None else which.nonzero().flatten().tolist():
            self._seats[place].reset(episode_seed(self._seed, self._first + place, int(self._episodes[place])))
            self._episodes[place] += 1
        return self._view

    def step(self, action: Tensor) -> TensorDict:
        """Play one step of every game; see :class:`AbstractEnvironment`."""
        actions = action.numpy()
        if (illegal := first_illegal(actions, self._board.action_mask)) is not None:
            game, agent, wrong, legal = illegal
            raise ValueError(
                f"Agent {agent} of episode {game} cannot take action {wrong}; legal are {legal}. Choose by ('agents',"
                " 'action_mask')."
            )
        self._board.action[:] = actions
        for seat in self._seats:
            seat.step()
        return self._outcome

    def close(self) -> None:
        """Close the games."""
        for game in self._games:
            game.close()
