"""The contract of whoever plays battles."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from tensordict import TensorDict

from qmix_lightning.spec import Policy, TaskSpec


class AbstractRollout(ABC):
    """Plays B battles side by side and hands out each one that ended, as an episode in the layout of ``spec.py``.

    Attributes:
        spec: The task's sizes.
        env_steps: Environment steps played for training so far, counted over all battles.
        episodes: Episodes handed out for training so far.
    """

    spec: TaskSpec
    env_steps: int
    episodes: int

    @abstractmethod
    def step(self, policy: Policy, *, explore: bool) -> TensorDict | None:
        """Play on, with one call of the policy.

        Args:
            policy: Who decides.
            explore: Whether the policy is told how many environment steps were played, and hence may explore.

        Returns:
            The episodes ``[k, T + 1]`` that ended, if any.
        """

    @abstractmethod
    def play(self, policy: Policy, episodes: int, *, seed: int) -> TensorDict:
        """Play fresh greedy episodes, for evaluation; they are not counted.

        Args:
            policy: Who decides.
            episodes: How many episodes.
            seed: Of the environment; the same seed plays the same battles.

        Returns:
            ``[episodes, T + 1]``.
        """

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs; battles under way are not part of it and begin anew."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a :meth:`state_dict`."""

    def close(self) -> None:  # noqa: B027 (most rollouts hold nothing that must be given back)
        """Give back processes, files and memory."""
