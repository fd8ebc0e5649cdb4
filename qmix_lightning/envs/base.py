"""The contract between a world and whoever plays in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

from tensordict import TensorDict
from torch import Tensor

from qmix_lightning.spec import TaskSpec

if TYPE_CHECKING:  # Worlds without compiled loops need no compiler.
    from qmix_lightning.functional.stages import Stage


class Stages(NamedTuple):
    """An environment as stages of a compiled loop.

    Attributes:
        advance: Plays a step of every episode and returns -1, or does nothing and returns another number if an action
            is illegal.
        restart: Starts episodes anew, and may return anything.
        around: What is opened around a loop that calls them.
        stay: Tells whether they still do what ``step`` and ``reset`` would, which somebody may have replaced.
    """

    advance: Stage
    restart: Stage
    around: Callable[[], AbstractContextManager[object]] = nullcontext
    stay: Callable[[], bool] = lambda: True


class AbstractEnvironment(ABC):
    """A batch of B independent episodes of one cooperative task, which advance together and restart one by one.

    What :meth:`reset` and :meth:`step` return are views of the environment's own memory: they are overwritten by the
    next call, so copy what must last. :func:`qmix_lightning.envs.checking.check_env` tests an implementation against
    this contract.

    Attributes:
        spec: The task's sizes.
        num_envs: Number B of episodes played side by side.
        info_keys: Names of the entries that a step reports under ``"info"``, each ``[B, 1]`` float32 or bool.
        snapshot_keys: Names of further entries ``[B, ...]`` of what :meth:`reset` and :meth:`step` return, from which,
            with the actions of an episode, :meth:`observe` makes observations, masks and state again; none if it
            cannot.
        replayable: Whether :meth:`step` and ``reset(which)`` run on an accelerator alone, so that a graph may replay
            them: they wait for nothing, change nothing but its memory, and return the same tensors in each call.

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
    snapshot_keys: tuple[str, ...] = ()
    replayable: bool = False

    @abstractmethod
    def reset(self, which: Tensor | None = None) -> TensorDict:
        """Start a new episode.

        Args:
            which: ``[B]`` bool, the episodes to start anew; None starts all. The others are left as they are.

        Returns:
            ``("agents", "observation")`` ``[B, N, O]`` float32, ``("agents", "action_mask")`` ``[B, N, A]`` bool with
            at least one legal action each, and ``"state"`` ``[B, S]`` float32, of all B episodes; and an entry for each
            of :attr:`snapshot_keys`.
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
            ValueError: If an action is illegal, naming episode, agent and action. Where this method does not wait for
                the step, as on a GPU, :meth:`state_dict` or a later :meth:`reset` raises it, at the latest that of all.
        """

    def stages(self, action: Tensor, which: Tensor) -> Stages | None:
        """What ``step(action)`` and ``reset(which)`` do, as stages of a compiled loop, or None (the default).

        They write to the tensors that every :meth:`step` and :meth:`reset` returns, and for as long as this environment
        is open.

        Args:
            action: ``[B, N]`` int64, contiguous in the computer's memory, which is read anew by each call.
            which: ``[B]`` bool, likewise.
        """
        return None

    def look(self) -> None:  # noqa: B027 (worlds that object at once have nothing left to say)
        """Raise what steps had to object to that a graph replayed, as far as is known without waiting for them."""

    @abstractmethod
    def seed(self, seed: int) -> None:
        """Make the episodes that start from now on depend on this seed alone; takes effect at the next full reset."""

    def state_dict(self) -> dict[str, Any] | None:
        """Everything that the episodes under way and those after them depend on.

        Returns:
            Numbers, strings, tensors, and lists and dictionaries of these, none of which the environment overwrites
            later; None (the default) if this world cannot be rewound, as a running StarCraft cannot.
        """
        return None

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a :meth:`state_dict` of an environment that was made with the same arguments.

        From here on every call returns, bit for bit, what it would have returned there. The episodes under way are seen
        by a :meth:`reset` that starts none of them anew.

        Raises:
            NotImplementedError: If this world cannot be rewound.
            ValueError: If the state is of another number of episodes or another task.
        """
        raise NotImplementedError(
            f"{type(self).__name__} cannot be rewound: its state_dict() is None. Start new episodes with reset()."
        )

    def observe(self, episodes: TensorDict) -> TensorDict:
        """Add to recorded episodes what was seen in them, from their snapshot and their actions.

        Args:
            episodes: ``[b, L + 1]`` in the layout of ``spec.py``, with the entries of :attr:`snapshot_keys` in
                place of observations, action masks and state.

        Returns:
            The same episodes with these three as well, bit for bit as they were returned when the episodes were played;
            after the step to bootstrap from, zeros with action 0 legal.

        Raises:
            NotImplementedError: If the views hold no snapshot.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no snapshot to observe again: its snapshot_keys are empty. Record its"
            " observations, action masks and state."
        )

    def close(self) -> None:  # noqa: B027 (most worlds hold nothing that must be given back)
        """Give back processes, files and memory."""
