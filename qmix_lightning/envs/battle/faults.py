"""Illegal actions on a GPU: noticed in the step, raised later, so that nobody waits for the GPU in a step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Faults:
    """What B battles had to object to since somebody last looked.

    Args:
        battles: Number B of battles.
        device: Where they are fought.

    Attributes:
        rows: ``[B, 2]`` int64, an agent that chose what is illegal, counted from 1 so that 0 is none, and its choice.

    Example:
        >>> faults = Faults(2, torch.device("cpu"))
        >>> faults.settle()
        >>> faults.rows[1] = torch.tensor([3, 8])
        >>> faults.settle()
        Traceback (most recent call last):
        ...
        ValueError: Agent 2 of battle 1 could not take action 8 in an earlier step, and took the first legal one
        instead. Choose by ('agents', 'action_mask').
    """

    def __init__(self, battles: int, device: torch.device) -> None:
        self.rows = torch.zeros(battles, 2, dtype=torch.int64, device=device)
        self._on_gpu = device.type == "cuda"
        self._answer: Tensor | None = None  # whether there were any when last asked, once it has come
        self._answered: Any = None

    def look(self) -> None:
        """Raise what is known by now, without waiting for the GPU.

        Raises:
            ValueError: As :meth:`settle` does.
        """
        if not self._on_gpu:
            self.settle()
            return
        if torch.cuda.is_current_stream_capturing():
            return
        if self._answer is None:
            self._answer = torch.zeros((), dtype=torch.bool, pin_memory=True)
            self._answered = torch.cuda.Event()  # type: ignore[no-untyped-call]
        elif not self._answered.query():
            return
        elif self._answer.item():
            self.settle()
        self._answer.copy_(self.rows.any(), non_blocking=True)
        self._answered.record()

    def settle(self) -> None:
        """Wait for all steps played so far, and raise one of their faults; they are forgotten then.

        Raises:
            ValueError: Naming battle, agent and action.
        """
        if self._on_gpu and torch.cuda.is_current_stream_capturing():
            return
        rows = self.rows.cpu()
        faulty = rows[:, 0].nonzero()
        if len(faulty):
            battle = int(faulty[0])
            agent, action = rows[battle].tolist()
            self.rows.zero_()
            raise ValueError(
                f"Agent {agent - 1} of battle {battle} could not take action {action} in an earlier step, and took the"
                " first legal one instead. Choose by ('agents', 'action_mask')."
            )
