"""How a number changes in the course of training."""

from __future__ import annotations

from typing import overload

import torch
from torch import Tensor


@overload
def linear(step: int, start: float, end: float, steps: int) -> float: ...
@overload
def linear(step: Tensor, start: float, end: float, steps: int) -> Tensor: ...
def linear(step: int | Tensor, start: float, end: float, steps: int) -> float | Tensor:
    """Go from ``start`` to ``end`` in a straight line and stay there: ``start + (end - start) min(step / steps, 1)``.

    Args:
        step: Where training stands, e.g. the environment steps so far, at least 0. A tensor is not looked into, so that
            a graph of an accelerator can follow it.
        start: Value at step 0.
        end: Value from step ``steps`` on.
        steps: Length of the way, at least 1.

    Returns:
        The value at ``step``; of a tensor, the same number in double precision.

    Raises:
        ValueError: If the way has no length, or ``step`` lies before its start.

    Example:
        >>> [round(linear(step, 1.0, 0.05, 50_000), 3) for step in (0, 25_000, 50_000, 2_000_000)]
        [1.0, 0.525, 0.05, 0.05]

    Source:
        Mnih et al., "Human-level control through deep reinforcement learning", 2015, table 1.
    """
    if steps < 1:
        raise ValueError(f"A linear schedule needs steps >= 1, got {steps}; for a constant, set start = end.")
    if isinstance(step, Tensor):
        return torch.where(step >= steps, end, start + (end - start) * step.double() / steps)
    if step < 0:
        raise ValueError(f"A schedule starts at step 0, got step {step}.")
    # Not start + (end - start) * 1, which misses the end by a rounding.
    return end if step >= steps else start + (end - start) * step / steps
