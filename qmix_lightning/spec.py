"""The shared vocabulary: what a task looks like, what its tensors are called, and how a policy is asked.

The world (environments, rollouts, replay) and the learner (agents, mixers, losses) both speak it and know nothing else
of each other. Letters, everywhere: ``B`` battles or batch, ``T`` steps, ``N`` agents, ``A`` actions, ``O``
observation, ``S`` state, ``H`` memory.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

if TYPE_CHECKING:  # A game in a process of its own speaks of a task's sizes, not of tensors.
    from torch import Generator, Tensor

OBSERVATION: Final = ("agents", "observation")
"""What each agent sees, ``[B, T, N, O]`` float32."""
ACTION_MASK: Final = ("agents", "action_mask")
"""Which actions are legal, ``[B, T, N, A]`` bool."""
ACTION: Final = ("agents", "action")
"""What each agent does, ``[B, T, N]`` int64."""
LAST_ACTION: Final = ("agents", "last_action")
"""What each agent did one step before, ``[B, T, N]`` int64, ``NO_ACTION`` at the first step."""
ACTION_VALUE: Final = ("agents", "action_value")
"""The value of every action of every agent, ``[B, T, N, A]`` float32."""
CHOSEN_ACTION_VALUE: Final = ("agents", "chosen_action_value")
"""The value of the action each agent takes, ``[B, T, N, 1]`` float32."""
GLOBAL_VALUE: Final = "chosen_action_value"
"""The value of the joint action, ``[B, T, 1]`` float32."""
STATE: Final = "state"
"""What the mixer sees of the world, ``[B, T, S]`` float32."""
UNITS: Final = "units"
"""The snapshot of a battle: what shows of its units, agents first, ``[B, T, U, F]`` float32; observations, masks and
state follow from it and the actions."""
MASK: Final = "mask"
"""True where a step was really played, False on padding and on the step that only bootstraps, ``[B, T, 1]`` bool."""
IS_INIT: Final = "is_init"
"""True at the first step of a trajectory, where memories begin anew, ``[B, T, 1]`` bool; a window may hold several."""
REWARD: Final = ("next", "reward")
"""What the team earned by the step, ``[B, T, 1]`` float32."""
DONE: Final = ("next", "done")
"""The episode ended with the step, for whatever reason, ``[B, T, 1]`` bool."""
TERMINATED: Final = ("next", "terminated")
"""The task was decided by the step; done and not terminated means that time ran out, ``[B, T, 1]`` bool."""
INFO: Final = ("next", "info")
"""Where a task reports more about a step: ``battle_won``, ``dead_allies``, ``dead_enemies``, each ``[B, T, 1]``."""
TD_ERROR: Final = "td_error"
"""The (squared) temporal-difference error of a step, ``[B, T, 1]`` float32."""
EPISODE: Final = "index"
"""Which stored episode a replayed step is of: the number of those ever stored before it, ``[B, T, 1]`` int64."""
PRIORITY_WEIGHT: Final = "priority_weight"
"""How much a replayed step counts in the loss, against the bias of prioritised replay, ``[B, T, 1]`` float32."""

NO_ACTION: Final = -1
"""The last action of an agent that has not acted yet."""


@dataclass(frozen=True)
class TaskSpec:
    """The sizes of a cooperative task, made by the environment and read by everything that learns.

    Args:
        name: How the registry of environments calls the task, e.g. ``"battle/3m"``.
        n_agents: Number of agents N.
        n_actions: Number of actions A of each agent, legal or not.
        observation_size: Length O of one agent's observation.
        state_size: Length S of the global state.
        episode_limit: Steps after which an episode is cut off.
        no_op_is_final: Whether an agent that can do nothing but action 0 will not do anything else in that episode, as
            the dead of SMAC. Who plays battles then need not think for it.

    Raises:
        ValueError: If a size is not a positive integer.

    Example:
        >>> spec = TaskSpec("battle/3m", n_agents=3, n_actions=9, observation_size=30, state_size=48, episode_limit=60)
        >>> spec.n_agents
        3
    """

    name: str
    n_agents: int
    n_actions: int
    observation_size: int
    state_size: int
    episode_limit: int
    no_op_is_final: bool = False

    def __post_init__(self) -> None:
        for size in ("n_agents", "n_actions", "observation_size", "state_size", "episode_limit"):
            value = getattr(self, size)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"TaskSpec.{size} of {self.name!r} must be a positive integer, got {value!r}.")


@runtime_checkable
class Policy(Protocol):
    """Decides for every agent of a batch of battles, one step at a time.

    Example:
        >>> class FirstLegal:
        ...     def initial_memory(self, battles):
        ...         return torch.zeros(battles, 3, 0)
        ...
        ...     def act(self, observation, action_mask, last_action, memory, *, env_steps=None, generator=None):
        ...         return action_mask.int().argmax(-1), memory
        >>> isinstance(FirstLegal(), Policy)
        True
    """

    def initial_memory(self, battles: int) -> Tensor:
        """Memory of agents that have not seen anything yet, ``[B, N, H]`` (H may be 0)."""
        ...

    def act(
        self,
        observation: Tensor,
        action_mask: Tensor,
        last_action: Tensor,
        memory: Tensor,
        *,
        env_steps: int | None = None,
        generator: Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Choose one legal action for every agent.

        Args:
            observation: ``[B, N, O]`` float32.
            action_mask: ``[B, N, A]`` bool.
            last_action: ``[B, N]`` int64, ``NO_ACTION`` where the agent has not acted yet.
            memory: ``[B, N, H]`` float32, from :meth:`initial_memory` or the previous call.
            env_steps: Environment steps collected so far, which tell how much to explore; None acts greedily.
            generator: Source of the random choices of exploration.

        Returns:
            The actions ``[B, N]`` int64 and the new memory ``[B, N, H]``.
        """
        ...


@runtime_checkable
class Replayable(Protocol):
    """A policy of which an accelerator can record one call of ``act``, and replay it without asking Python again.

    There ``act`` is given ``env_steps`` as a ``[]`` int64 tensor, returns a memory of the dtype that it was given, and
    neither waits for the accelerator nor changes anything but tensors.

    Example:
        >>> isinstance(3, Replayable)
        False
    """

    def fixed(self) -> tuple[Hashable, ...]:
        """What a recording depends on: it is made anew when this changes.

        Such as where parameters lie, their dtype, and the modes they are used in. The numbers in the parameters may
        change.
        """
        ...


class PlannedSteps(Protocol):
    """The next calls of a policy, as a stage of a compiled loop.

    Attributes:
        stage: The address of a compiled function and its arguments, see :mod:`qmix_lightning.functional.stages`. Each
            call writes actions over the last ones and new memories over the old, and returns -1; or it changes nothing
            and returns another number, and ``act`` must be asked.
        most: How many calls can be prepared at once.
    """

    stage: Any
    most: int

    def stays(self) -> bool:
        """Whether the stage still does what ``act`` would."""
        ...

    def prepare(self, env_steps: Sequence[int] | None, generator: Generator | None) -> int:
        """Draw what the next calls decide by, one for each of these ``env_steps``; None acts greedily.

        Returns:
            How many calls may follow; ``act`` must be asked in place of the next.
        """
        ...

    def take_back(self, n_calls: int) -> None:
        """Leave the generator as if only so many calls had been prepared the last time."""
        ...


@runtime_checkable
class Staged(Protocol):
    """A policy that compiled loops can ask for actions, without Python in between.

    Example:
        >>> isinstance(3, Staged)
        False
    """

    def stage(
        self, observation: Tensor, action_mask: Tensor, last_action: Tensor, memory: Tensor, *, explore: bool
    ) -> PlannedSteps | None:
        """What ``act`` does with these very tensors, in the computer's memory; None if no compiled loop can."""
        ...


@runtime_checkable
class Freezable(Protocol):
    """A policy that changes by training, and of which a still picture can be had.

    Example:
        >>> isinstance(3, Freezable)
        False
    """

    def snapshot(self) -> Policy:
        """The policy as it is now, in memory of its own, which the next call overwrites."""
        ...
