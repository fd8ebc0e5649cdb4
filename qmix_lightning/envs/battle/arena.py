"""Where a batch of battles is fought: their memory, and the processors that work on it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qmix_lightning.envs.base import Stages
from qmix_lightning.envs.battle.engine import advance_lawfully, restart
from qmix_lightning.envs.battle.hindsight import Recording, see_again
from qmix_lightning.envs.battle.observation import show
from qmix_lightning.envs.battle.saving import as_tensor
from qmix_lightning.envs.battle.state import UNIT, seen
from qmix_lightning.envs.battle.threads import advance_lawfully_together, at_most, see_together, usable
from qmix_lightning.envs.battle.views import Views
from qmix_lightning.envs.battle.world import RULES
from qmix_lightning.functional.stages import stage_of


class Memory(NamedTuple):
    """All that is known of B battles, as arrays that compiled code reads and writes."""

    battles: Any  # [B, U] UNIT
    clocks: Any  # [B] CLOCK
    laws: Any  # [B] LAWS
    world: Any  # World
    lineup: Any  # Lineup
    views: Any  # Views


class Arena(ABC):
    """Fights a batch of battles.

    Attributes:
        memory: The battles, where the processor finds them.
        tensors: The same memory as tensors: ``"battles"``, ``"clocks"`` and ``"laws"`` as bytes ``[B, ...]``, and each
            of the :class:`~qmix_lightning.envs.battle.views.Views` by its name.
        device: Where they are.
    """

    memory: Memory
    tensors: dict[str, Tensor]
    device: torch.device

    @abstractmethod
    def restart(self, which: Tensor | None) -> None:
        """Start battles anew, those that ``which`` ``[B]`` bool marks or all."""

    @abstractmethod
    def advance(self, actions: Tensor) -> None:
        """Play one environment step of every battle, with ``actions`` ``[B, N]`` int64.

        Raises:
            ValueError: If an action is illegal; where looking at once would cost too much, later.
        """

    @abstractmethod
    def show(self) -> None:
        """Write what is seen of the battles as they stand."""

    @abstractmethod
    def see(self, recording: Recording) -> None:
        """Write what was seen in recorded battles; those under way are left as they are."""

    def stages(self, actions: Tensor, which: Tensor) -> Stages | None:
        """What :meth:`advance` and :meth:`restart` do with these tensors, for compiled loops; None if there is none."""
        return None

    def settle(self) -> None:  # noqa: B027 (where errors are raised at once nothing is open)
        """Raise what is still to be raised of the steps played so far."""

    def look(self) -> None:  # noqa: B027 (where errors are raised at once nothing is open)
        """Raise what is known by now of what is still to be raised."""

    def close(self) -> None:  # noqa: B027 (an arena may hold nothing that must be given back)
        """Give back what the processor holds."""


class HostArena(Arena):
    """Battles in the memory of this process, fought by its threads.

    Args:
        memory: The battles, as numpy arrays.
        threads: Over which steps, and what is seen again, are spread. The few battles that start anew are not worth it.
    """

    device = torch.device("cpu")

    def __init__(self, memory: Memory, threads: int) -> None:
        self.memory, self.tensors = memory, tensors_of(memory)
        self._usable = usable(threads)
        self._threads = min(self._usable, len(memory.battles))
        self._shared_world = memory.world._replace(rules=np.frombuffer(memory.world.rules.tobytes(), RULES).copy())
        self._all = np.ones(len(memory.battles), dtype=np.bool_)

    def restart(self, which: Tensor | None) -> None:
        """Start battles anew."""
        restart(*self._restarting(self._all if which is None else np.ascontiguousarray(which.numpy(force=True))))

    def advance(self, actions: Tensor) -> None:
        """Play one environment step of every battle; illegal actions are refused before anything happens."""
        chosen = np.ascontiguousarray(actions.numpy(force=True))  # another memory layout would be compiled anew
        kernel, arguments = self._advancing(chosen)
        with self._around():
            illegal = kernel(*arguments)
        if illegal >= 0:
            self._refuse(chosen, illegal)

    def stages(self, actions: Tensor, which: Tensor) -> Stages:
        """What :meth:`advance` and :meth:`restart` do with these tensors, contiguous and in this process."""
        kernel, arguments = self._advancing(actions.numpy())
        restarting = stage_of(restart, *self._restarting(which.numpy()))
        return Stages(stage_of(kernel, *arguments), restarting, self._around)

    def show(self) -> None:
        """Write what is seen of the battles as they stand."""
        battles, clocks, _, world, _, views = self.memory
        show(battles, world, clocks, views, 0, len(battles))

    def see(self, recording: Recording) -> None:
        """Write what was seen in recorded battles."""
        arrays, threads = Recording(*(tensor.numpy() for tensor in recording)), self._usable
        n_units, n_fields = arrays.units.shape[2:]
        battles = np.zeros((threads, n_units), dtype=UNIT)  # one for each thread
        shown = seen(battles, n_fields)
        if threads == 1:
            see_again(arrays, battles[0], shown[0], self.memory.world, 0, len(arrays.units))
        else:
            with at_most(threads):
                see_together(arrays, battles, shown, self._shared_world, threads)

    def _advancing(self, actions: NDArray[np.int64]) -> tuple[Any, tuple[Any, ...]]:
        battles, clocks, laws, _, _, views = self.memory
        arguments = (battles, self._shared_world, laws, clocks, views, actions)
        if self._threads == 1:
            return advance_lawfully, arguments
        return advance_lawfully_together, (*arguments, self._threads)

    def _around(self) -> AbstractContextManager[object]:
        return nullcontext() if self._threads == 1 else at_most(self._threads)

    def _restarting(self, which: NDArray[np.bool_]) -> tuple[Any, ...]:
        battles, clocks, laws, _, lineup, views = self.memory
        return battles, self._shared_world, laws, clocks, lineup, views, which, 0, len(battles)

    def _refuse(self, actions: NDArray[np.int64], illegal: int) -> None:
        battle, agent = divmod(illegal, actions.shape[1])
        legal = np.flatnonzero(self.memory.views.action_mask[battle, agent]).tolist()
        raise ValueError(
            f"Agent {agent} of battle {battle} cannot take action {actions[battle, agent]}; "
            f"legal are {legal}. Choose by ('agents', 'action_mask')."
        )


def tensors_of(memory: Memory) -> dict[str, Tensor]:
    """The parts of a batch of battles that change, as tensors in the same memory."""
    views: Views = memory.views
    records = {"battles": memory.battles, "clocks": memory.clocks, "laws": memory.laws}
    return {name: as_tensor(array) for name, array in (records | views._asdict()).items()}
