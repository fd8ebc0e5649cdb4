"""What every agent network has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor, nn

from qmix_lightning.functional.stages import Stage
from qmix_lightning.spec import TaskSpec


class AbstractAgent(nn.Module, ABC):
    """Maps what each agent saw to the value of each of its actions; all agents share the parameters.

    Args:
        spec: The task's sizes.

    Attributes:
        memory_size: Length H of the memory that is carried from step to step; 0 for an agent that remembers nothing.
        no_op_is_final: Whether the task's dead stay dead; see :class:`~qmix_lightning.spec.TaskSpec`.

    Example:
        >>> class LinearAgent(AbstractAgent):
        ...     memory_size = 0
        ...
        ...     def __init__(self, spec):
        ...         super().__init__(spec)
        ...         self.layer = nn.Linear(spec.observation_size, spec.n_actions)
        ...
        ...     def step(self, observation, last_action, memory):
        ...         return self.layer(observation), memory
        ...
        ...     def forward(self, observation, last_action, is_init=None):
        ...         return self.layer(observation)
        >>> from qmix_lightning.module import QLearner
        >>> spec = TaskSpec("battle/3m", n_agents=3, n_actions=9, observation_size=30, state_size=48, episode_limit=60)
        >>> QLearner(spec, agent=LinearAgent).agent
        LinearAgent(
          (layer): Linear(in_features=30, out_features=9, bias=True)
        )
    """

    memory_size: int

    def __init__(self, spec: TaskSpec) -> None:
        super().__init__()
        self.n_agents, self.n_actions, self.no_op_is_final = spec.n_agents, spec.n_actions, spec.no_op_is_final

    def initial_memory(self, battles: int) -> Tensor:
        """Memory at the start of an episode: zeros ``[B, N, H]`` on the parameters' device and in their dtype."""
        return next(self.parameters()).new_zeros(battles, self.n_agents, self.memory_size)

    @abstractmethod
    def step(self, observation: Tensor, last_action: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Value one step.

        Args:
            observation: ``[B, N, O]``.
            last_action: ``[B, N]`` int64, ``NO_ACTION`` at the first step.
            memory: ``[B, N, H]``.

        Returns:
            Action values ``[B, N, A]`` and the new memory ``[B, N, H]``.
        """

    def infer(
        self, observation: Tensor, last_action: Tensor, memory: Tensor, action_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Value one step where nobody asks for gradients, as :meth:`step` does but for roundings, and perhaps faster.

        Playing battles takes this. An agent that has no faster way leaves it as it is.

        Args:
            observation: ``[B, N, O]``.
            last_action: ``[B, N]`` int64.
            memory: ``[B, N, H]``.
            action_mask: ``[B, N, A]`` bool, legal actions. If :attr:`no_op_is_final`, values and new memory of those
                who can only do action 0 matter to nobody, and may be anything finite.

        Returns:
            Action values and the new memory.
        """
        return self.step(observation, last_action, memory)

    def stage(
        self,
        observation: Tensor,
        last_action: Tensor,
        memory: Tensor,
        action_mask: Tensor,
        value: Tensor,
        after: Tensor,
    ) -> tuple[Stage, Callable[[], bool]] | None:
        """What :meth:`infer` does with tensors that stay where they are, as a stage of a compiled loop.

        Args:
            observation: As of :meth:`infer`, as all up to ``action_mask``; what they hold is read anew by each call.
            last_action: As well.
            memory: As well.
            action_mask: As well.
            value: ``[B, N, A]`` float32, which the stage writes.
            after: ``[B, N, H]``, where it writes the new memory.

        Returns:
            The stage, which returns 0 if it could do so, and who tells whether it still does what :meth:`infer` would;
            None (the default) if there is no such stage.
        """
        return None

    @abstractmethod
    def forward(self, observation: Tensor, last_action: Tensor, is_init: Tensor | None = None) -> Tensor:
        """Value windows of steps, the first of them with the initial memory.

        Args:
            observation: ``[B, T, N, O]``.
            last_action: ``[B, T, N]`` int64, ``NO_ACTION`` at the first step of a trajectory.
            is_init: ``[B, T, 1]`` bool, True where another trajectory begins and all agents have the initial memory
                again, so that a window can hold several; None if each window holds one, from its first step.

        Returns:
            Action values ``[B, T, N, A]``, equal to those of :meth:`step` applied T times.

        An agent may take a ``packing`` too (:class:`~qmix_lightning.functional.packing.Packing`, or None), by that
        name. Then losses spare it the padding: it must read no other steps than those packed, and what it gives back
        for others may be any number.
        """
