"""Agents that have a compiled form of one step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final

from torch import Tensor

from qmix_lightning.agents.base import AbstractAgent
from qmix_lightning.agents.inference import CompiledStep
from qmix_lightning.functional.stages import Stage, is_own
from qmix_lightning.spec import TaskSpec


class CompiledAgent(AbstractAgent):
    """Values steps by compiled loops, where they may be used and a subclass has no step of its own.

    Attributes:
        compiled: What computes the same as ``step`` of the class that names it.
    """

    compiled: ClassVar[type[CompiledStep]]
    _owner: ClassVar[type[CompiledAgent]]

    def __init_subclass__(cls, **options: Any) -> None:
        """Note whose methods the compiled form stands for."""
        super().__init_subclass__(**options)
        if "compiled" in vars(cls):
            cls._owner = cls

    def __init__(self, spec: TaskSpec) -> None:
        super().__init__(spec)
        self._inference = self.compiled()

    def infer(
        self, observation: Tensor, last_action: Tensor, memory: Tensor, action_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Value one step, by one compiled call if that is possible."""
        inference = self._bound_step()
        if inference is None or not inference.takes(observation, last_action, memory):
            return self.step(observation, last_action, memory)
        return inference.run(observation, last_action, memory, action_mask if self.no_op_is_final else None)

    def stage(
        self,
        observation: Tensor,
        last_action: Tensor,
        memory: Tensor,
        action_mask: Tensor,
        value: Tensor,
        after: Tensor,
    ) -> tuple[Stage, Callable[[], bool]] | None:
        """What :meth:`infer` does, as a stage of a compiled loop, under the same conditions."""
        inference, passed_over = self._bound_step(), self.no_op_is_final

        def stays() -> bool:
            return (
                inference is not None
                and self._steps_as_compiled()
                and is_own(self, "infer", _INFER)
                and inference.fits()
                and inference.takes(observation, last_action, memory)
                and self.no_op_is_final == passed_over
            )

        if inference is None or not stays():
            return None
        may = action_mask if passed_over else None
        return inference.stage(observation, last_action, memory, may, value, after), stays

    def _bound_step(self) -> CompiledStep | None:
        """The compiled form over the parameters where they are now; None if it is not that of this class."""
        if not self._steps_as_compiled():
            return None
        if not self._inference.fits():
            self._inference = self.compiled(self)
        return self._inference

    def _steps_as_compiled(self) -> bool:
        ours, theirs = type(self), self._owner
        return ours.step is theirs.step and ours.forward is theirs.forward


_INFER: Final = CompiledAgent.infer
"""As it is here, whatever is put in its place."""
