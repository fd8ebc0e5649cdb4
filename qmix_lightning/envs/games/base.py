"""The contract of a world that plays one episode at a time, in numpy: StarCraft II, PettingZoo, or your own.

:class:`~qmix_lightning.envs.games.batch.GameBatch` plays several in this process, as an environment like any other;
:class:`~qmix_lightning.rollout.workers.WorkerRollout` plays each in a process of its own. Neither this file nor what a
game needs imports torch, which would cost each of these processes seconds and 200 MB.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qmix_lightning.spec import TaskSpec


class Sight(NamedTuple):
    """Where a game writes what there is to see.

    Attributes:
        observation: ``[N, O]`` float32, what each agent sees.
        action_mask: ``[N, A]`` bool, which actions are legal, at least one for each agent.
        state: ``[S]`` float32, the whole.
    """

    observation: NDArray[np.float32]
    action_mask: NDArray[np.bool_]
    state: NDArray[np.float32]


@dataclass(frozen=True)
class Turn:
    """What a step of a game brought.

    Args:
        reward: What the team earned.
        terminated: Whether the step decided the task.
        truncated: Whether the episode ends undecided. After ``spec.episode_limit`` steps it ends in any case.
        info: A number for each of the game's ``info_keys``.
    """

    reward: float
    terminated: bool = False
    truncated: bool = False
    info: Mapping[str, float] = field(default_factory=dict)


class GameFaultError(Exception):
    """Says that the episode under way is spoilt: neither its rewards nor its end may be learned from.

    Args:
        reason: A word or two by which such faults are counted, e.g. ``"crash"``.
        words: What happened.

    Example:
        >>> str(GameFaultError("stale units", "2 of 3 enemies are not at full health"))
        'stale units: 2 of 3 enemies are not at full health'
    """

    def __init__(self, reason: str, words: str = "") -> None:
        super().__init__(f"{reason}: {words}" if words else reason)
        self.reason = reason


class AbstractGame(ABC):
    """One episode at a time of a cooperative task.

    Attributes:
        spec: The task's sizes.
        info_keys: Names of the numbers that each step reports; ``battle_won`` becomes a win rate.

    Example:
        >>> class Guess(AbstractGame):
        ...     spec = TaskSpec("own/guess", n_agents=2, n_actions=3, observation_size=1, state_size=1, episode_limit=5)
        ...
        ...     def reset(self, seed):
        ...         self.secret = np.random.default_rng(seed).integers(3)
        ...
        ...     def show(self, sight):
        ...         sight.observation[:] = sight.state[:] = self.secret
        ...         sight.action_mask[:] = True
        ...
        ...     def step(self, action):
        ...         return Turn(reward=float((action == self.secret).all()))
        >>> game = Guess()
        >>> game.reset(seed=1)
        >>> game.step(np.array([1, 1])).reward
        1.0
    """

    spec: TaskSpec
    info_keys: tuple[str, ...] = ()

    @abstractmethod
    def reset(self, seed: int) -> None:
        """Start a new episode, also in the middle of another.

        Args:
            seed: Of all that is random in this episode, where the world lets itself be seeded.
        """

    @abstractmethod
    def step(self, action: NDArray[np.int64]) -> Turn:
        """Play one step.

        Args:
            action: ``[N]`` int64, legal for each agent.

        Returns:
            What it brought.

        Raises:
            GameFaultError: If the episode is spoilt. Any other exception counts as one, too: a new game is made.
        """

    @abstractmethod
    def show(self, sight: Sight) -> None:
        """Write down what there is to see now; also after the last step."""

    def versions(self) -> dict[str, str]:
        """What results may depend on, for the records of a run: builds, commits, checksums of maps."""
        return {}

    def close(self) -> None:  # noqa: B027 (most games hold nothing that must be given back)
        """Give back processes and files; to be called in any state, more than once."""


GameFactory = Callable[[int], AbstractGame]
"""Makes a game from a seed; pickled where the game plays in a process of its own."""
