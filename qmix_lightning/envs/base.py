"""The contract between a world and whoever plays in it."""

from __future__ import annotations

from abc import ABC, abstractmethod

from tensordict import TensorDict
from torch import Tensor

from qmix_lightning.spec import TaskSpec


class AbstractEnvironment(ABC):
    """A batch of B independent episodes of one cooperative task, which advance together and restart one by one.

    What :meth:`reset` and :meth:`step` return are views of the environment's own memory: they are overwritten by the
    next call, so copy what must last. :func:`qmix_lightning.envs.checking.check_env` tests an implementation against
    this contract.

    Attributes:
        spec: The task's sizes.
        num_envs: Number B of episodes played side by side.
        info_keys: Names of the entries that a step reports under ``"info"``, each ``[B, 1]`` float32 or bool.

    Example:
        >>> from qmix_lightning.envs.registry import make
        >>> env = make("battle/3m", num_envs=2, seed=1)
        >>> start = env.reset()
        >>> start["agents", "observation"].shape
        torch.Size([2, 3, 30])
        >>> env.step(start["agents", "action_mask"].int().argmax(-1))["reward"].shape
        torch.Size([2, 1])
    """

    spec: TaskSpec
    num_envs: int
    info_keys: tuple[str, ...] = ()

    @abstractmethod
    def reset(self, which: Tensor | None = None) -> TensorDict:
        """Start a new episode.

        Args:
            which: ``[B]`` bool, the episodes to start anew; None starts all. The others are left as they are.

        Returns:
            ``("agents", "observation")`` ``[B, N, O]`` float32, ``("agents", "action_mask")`` ``[B, N, A]`` bool with
            at least one legal action each, and ``"state"`` ``[B, S]`` float32, of all B episodes.
        """

    @abstractmethod
    def step(self, action: Tensor) -> TensorDict:
        """Play one step of every episode.

        An episode that ended must be reset before the next step.

        Args:
            action: ``[B, N]`` int64, legal for each agent.

        Returns:
            The entries of :meth:`reset` after the step, and of the step ``"reward"``, ``"done"``, ``"terminated"``,
            each ``[B, 1]`` (float32, bool, bool), and ``("info", name)`` for each of :attr:`info_keys`.

        Raises:
            ValueError: If an action is illegal, naming episode, agent and action.
        """

    @abstractmethod
    def seed(self, seed: int) -> None:
        """Make the episodes that start from now on depend on this seed alone; takes effect at the next full reset."""

    def close(self) -> None:  # noqa: B027 (most worlds hold nothing that must be given back)
        """Give back processes, files and memory."""
