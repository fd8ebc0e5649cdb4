"""The processes that train together, and what they tell each other beside gradients."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class Ranks:
    """Numbers on the CPU, summed, compared and collected over the processes of a training.

    All processes must ask the same things in the same order. Alone, a process hears only itself. Where gradients travel
    between GPUs, a group of its own carries these numbers, so that nothing waits for a GPU.

    Args:
        rank: Number of this process.
        size: Number of processes.

    Example:
        >>> ranks = Ranks()
        >>> ranks.sum(3), ranks.least(0.5), ranks.gather("here")
        (3, 0.5, ['here'])
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size
        shared = size > 1 and dist.is_initialized() and "gloo" not in str(dist.get_backend())
        self._group = dist.new_group(backend="gloo") if shared else None

    def sum(self, number: int) -> int:
        """Sum of a whole number over all processes."""
        return int(self._reduce(torch.tensor(number, dtype=torch.int64), dist.ReduceOp.SUM))

    def least(self, number: float) -> float:
        """The smallest of the processes' numbers."""
        return float(self._reduce(torch.tensor(number, dtype=torch.float64), dist.ReduceOp.MIN))

    def gather(self, thing: Any) -> list[Any]:
        """What every process has, in the order of their ranks; known to all of them."""
        if self.size == 1:
            return [thing]
        things: list[Any] = [None] * self.size
        dist.all_gather_object(things, thing, group=self._group)
        return things

    def share(self, total: int, name: str) -> int:
        """An equal part of a total.

        Args:
            total: What all processes have together.
            name: What a user calls it.

        Raises:
            ValueError: If it cannot be divided evenly.
        """
        part, rest = divmod(total, self.size)
        if rest:
            near = max(part, 1) * self.size
            raise ValueError(
                f"{name} is divided among the {self.size} processes of the trainer and must be a multiple of"
                f" {self.size}, got {total}. Take {near}, or another number of devices."
            )
        return part

    def range(self, total: int) -> tuple[int, int]:
        """First of this process's part of ``total`` things, and the first behind it; parts differ by one at most."""
        return self.rank * total // self.size, (self.rank + 1) * total // self.size

    def _reduce(self, number: Tensor, operation: Any) -> Tensor:
        if self.size > 1:
            dist.all_reduce(number, operation, group=self._group)
        return number
