"""Values of one step where nobody asks for gradients: compiled loops over the memory of an agent's parameters."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Final, Self, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn

from qmix_lightning.agents.bound import Bound
from qmix_lightning.functional.compiling import inlined, may_compute, readable
from qmix_lightning.functional.products import SGEMM
from qmix_lightning.functional.stages import Stage, stage_of
from qmix_lightning.spec import NO_ACTION


class CompiledStep(ABC):
    """Runs one step of an agent without a graph, in room that is used again.

    Copies and pickles of it hold nothing: they would be of the parameters as they were.

    Args:
        agent: Whose parameters to run over, with an ``input`` of
            :class:`~qmix_lightning.agents.inputs.AgentInput`; None for nobody.

    Attributes:
        kernel: Writes values and new memory, and returns 0; or 1, with some of it unwritten, if there are no such last
            actions. It takes :data:`~qmix_lightning.functional.products.SGEMM`; the weights; a tuple of observation
            ``[B, N, O]``, last action ``[B, N]`` and memory ``[B, N, H]``; legal actions ``[B, N, A]``; room; and a
            tuple of values ``[B, N, A]`` and new memory, which are written. Who may do nothing but action 0 is passed
            over: its values are 0, its memory stays. Legal actions without entries pass over nobody.
    """

    kernel: ClassVar[Any]

    def __init__(self, agent: Any = None) -> None:
        self._bound, self._here = Bound(agent, {} if agent is None else self.parts_of(agent)), threading.local()
        self._usable = SGEMM != 0 and self._bound.readable()
        if not self._usable:
            return
        self._sizes, self._memory_size = agent.input.sizes, agent.memory_size
        self._hidden_size, self._n_actions = agent.input.linear.out_features, agent.n_actions
        self._weights = self.weights_of(agent)
        self._usable = self._weights is not None

    @abstractmethod
    def parts_of(self, agent: Any) -> Mapping[str, type[nn.Module]]:
        """What kind of module each part of an agent must be, by name."""

    @abstractmethod
    def weights_of(self, agent: Any) -> Any:
        """The parameters of an agent, as the kernel takes them; None if they are none that it could take."""

    @abstractmethod
    def layers(self, n_rows: int, size: int) -> list[tuple[int, ...]]:
        """Shapes of the room that so many rows of layers of this size need beside what all agents need."""

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        """Copy nothing."""
        return type(self), ()

    def fits(self) -> bool:
        """Whether the agent's parts and their parameters are where they were."""
        return self._bound.stays()

    def takes(self, observation: Tensor, last_action: Tensor, memory: Tensor) -> bool:
        """Whether kernels may stand in for torch's operations on these tensors and the parameters."""
        return (
            self._usable
            and not self._bound.watched()
            and may_compute()
            and readable(observation, last_action, memory)
            and last_action.dtype == torch.int64
            and observation.dtype == memory.dtype == torch.float32
            and observation.shape[:2] == last_action.shape == memory.shape[:2]
            and self._sizes[2] in (0, last_action.shape[1])
            and (observation.shape[2], memory.shape[2]) == (self._sizes[0], self._memory_size)
        )

    def run(
        self, observation: Tensor, last_action: Tensor, memory: Tensor, action_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Values and new memory, as of ``step`` of the agent but for roundings.

        Args:
            observation: ``[B, N, O]``.
            last_action: ``[B, N]`` int64.
            memory: ``[B, N, H]``.
            action_mask: ``[B, N, A]`` bool. Who can only do action 0 is passed over: see :attr:`kernel`. None passes
                over nobody.

        Raises:
            IndexError: If there is no such last action.
        """
        seen = observation.numpy(), last_action.numpy(), memory.numpy()
        value = np.empty((*last_action.shape, self._n_actions), dtype=np.float32)
        after = np.empty(memory.shape, dtype=np.float32)
        may = action_mask.numpy() if _tells(action_mask, value.shape) else _EVERYBODY
        if self.kernel(SGEMM, self._weights, seen, may, self._room(last_action.shape), (value, after)):
            raise IndexError(
                f"Expected last actions from {NO_ACTION}, none, to {self._sizes[1] - 1}, got {last_action.min()} to"
                f" {last_action.max()}."
            )
        return torch.from_numpy(value), torch.from_numpy(after)

    def stage(
        self, observation: Tensor, last_action: Tensor, memory: Tensor, action_mask: Tensor | None, value: Tensor,
        after: Tensor,
    ) -> Stage:  # fmt: skip
        """What :meth:`run` does with these tensors, for compiled loops, which returns 0 if there are such last actions.

        It is of the parameters where they are, and for no other thread than the next that calls it.

        Args:
            observation: As in :meth:`run`, as all up to ``action_mask``.
            last_action: As well.
            memory: As well.
            action_mask: As well.
            value: ``[B, N, A]``, which is written.
            after: ``[B, N, H]``, which is written.
        """
        seen, written = (observation.numpy(), last_action.numpy(), memory.numpy()), (value.numpy(), after.numpy())
        may = action_mask.numpy() if _tells(action_mask, value.shape) else _EVERYBODY
        return stage_of(self.kernel, SGEMM, self._weights, seen, may, self._new_room(last_action.shape), written)

    def _room(self, shape: torch.Size) -> Any:
        """Where one thread computes: memory that comes and goes costs as much as the gates, page by page."""
        if getattr(self._here, "shape", None) != shape:
            self._here.shape, self._here.room = shape, self._new_room(shape)
        return self._here.room

    def _new_room(self, shape: torch.Size) -> Any:
        n_rows, size = min(shape.numel(), AT_ONCE), self._hidden_size
        sizes: list[tuple[int, ...]] = [
            (self._sizes[1] + 1, size), (self._sizes[2], size), (n_rows, size), *self.layers(n_rows, size),
            (n_rows, self._sizes[0]), (n_rows, self._memory_size), (n_rows, self._memory_size),
            (n_rows, self._n_actions),
        ]  # fmt: skip
        return np.empty(n_rows, dtype=np.int64), *(np.empty(size, dtype=np.float32) for size in sizes)


def arrays_of(*expected: tuple[Tensor | None, tuple[int, ...]]) -> tuple[Any, ...] | None:
    """Parameters as arrays; None if one is missing or has another shape than expected, which no kernel would notice."""
    if any(tensor is None or tensor.shape != shape for tensor, shape in expected):
        return None
    return tuple(tensor.detach().numpy() for tensor, _ in expected if tensor is not None)


AT_ONCE: Final = 192
"""Rows that are worked on at once: so few that what their layers say stays in the caches beside all else."""

_EVERYBODY: Final = np.empty((0, 0, 0), dtype=np.bool_)


def _tells(action_mask: Tensor | None, shape: tuple[int, ...]) -> TypeGuard[Tensor]:
    """Whether kernels may read from a mask who need not be thought for."""
    if action_mask is None:
        return False
    return action_mask.shape == shape and action_mask.dtype == torch.bool and readable(action_mask)


@inlined
def find_active(may: Any, begin: int, end: int, numbers: Any) -> int:
    """Write down, of some rows, those of who may do more than action 0, or all if nothing is said, and count them."""
    n = 0
    for i in range(begin, end):
        active = len(may) == 0
        for a in range(1, may.shape[1]):
            active |= i < len(may) and may[i, a]
        numbers[n] = i
        n += active
    return n


@inlined
def pick(rows: Any, numbers: Any, begin: int, few: Any) -> None:
    """Copy those of the rows, the first of which has the number ``begin``, that have these numbers."""
    for k in range(len(numbers)):
        copy_row(rows[numbers[k] - begin], few[k])


@inlined
def spread(few_after: Any, few_values: Any, numbers: Any, begin: int, memory: Any, after: Any, values: Any) -> None:
    """Write what came of few rows to where they belong, and for the others 0 and the memory that they had."""
    k = 0
    for i in range(len(values)):
        if k < len(numbers) and numbers[k] == begin + i:
            copy_row(few_after[k], after[i])
            copy_row(few_values[k], values[i])
            k += 1
        else:
            copy_row(memory[i], after[i])
            for a in range(values.shape[1]):
                values[i, a] = np.float32(0)


@inlined
def copy_row(row: Any, target: Any) -> None:
    """Copy a row."""
    for j in range(len(row)):
        target[j] = row[j]
