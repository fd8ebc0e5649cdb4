"""Numbers that change, and of which one is to be found by the sum of those before it."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

_FAN_OUT = 32
"""Children of a node. An operation on 32 rows of 32 numbers costs little more than on 32 pairs, and 5,000 numbers are
three levels deep instead of 13."""


class SumTree:
    """Non-negative numbers by place, all 0 at first, drawn from in proportion to their size.

    A node holds the sum of its children, so that changing a number or finding one takes a step a level. Sums are added
    up anew from the children, never corrected by differences: what was set is all that matters, not what was before.

    Args:
        capacity: Number of places.

    Raises:
        ValueError: If there is no place.

    Example:
        >>> tree = SumTree(capacity=5_000)
        >>> tree.set(torch.tensor([7, 4_000]), torch.tensor([1.0, 3.0]))
        >>> tree.total, tree.find(torch.tensor([0.0, 0.9, 1.0, 3.9])).tolist()
        (4.0, [7, 7, 4000, 4000])

    Source:
        Schaul et al., "Prioritized Experience Replay", 2016, appendix B.2.1, with more than two children a node.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"SumTree needs capacity >= 1, got {capacity}.")
        self.capacity = capacity
        # From the leaves to the root: number i of a level is the sum of row i of the level below.
        self._levels: list[Tensor] = []
        rows = capacity
        while rows > 1 or not self._levels:
            rows = -(-rows // _FAN_OUT)
            self._levels.append(torch.zeros(rows, _FAN_OUT, dtype=torch.float64))

    def __getitem__(self, index: Tensor) -> Tensor:
        """The numbers ``[k]`` float64 at places ``[k]``."""
        return self._levels[0].view(-1)[index]

    @property
    def total(self) -> float:
        """Sum of all numbers."""
        return float(self._levels[-1].sum())

    def set(self, index: Tensor, value: Tensor) -> None:
        """Replace numbers.

        Args:
            index: Places ``[k]`` int64, all different.
            value: What they become ``[k]``, finite and not negative.

        Raises:
            IndexError: If a place is not in 0, ..., ``capacity - 1``.
            ValueError: If a place comes twice, or a number is negative or not finite.
        """
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < self.capacity:
            raise IndexError(f"Expected places in 0, ..., {self.capacity - 1}, got {index.tolist()}.")
        if len(set(index.tolist())) < len(index):
            raise ValueError(f"Expected a place to be set once in a call, got {index.tolist()}. Keep its last value.")
        if not ((value >= 0) & (value < torch.inf)).all():
            raise ValueError(f"Expected finite numbers of at least 0, got {value.tolist()}.")
        self._levels[0].view(-1)[index] = value.to(torch.float64)
        for below, above in pairwise(self._levels):
            index = index // _FAN_OUT
            above.view(-1)[index] = below[index].sum(-1)

    def find(self, prefix: Tensor) -> Tensor:
        """Find the places that prefix sums fall on: place i owns the sums from Σ_{j<i} to Σ_{j≤i}, the end excluded.

        A place of value 0 owns nothing and is never found, whatever the rounding: a sum below 0 falls on the first
        place that owns something, one of ``total`` or more on the last.

        Args:
            prefix: ``[k]``, from 0 to ``total``.

        Returns:
            ``[k]`` int64.

        Raises:
            ValueError: If all numbers are 0.
        """
        if not self.total > 0:
            raise ValueError("Expected a positive number to be found, got nothing but zeros. Set one before.")
        rest = prefix.to(torch.float64).clamp(min=0)
        node = torch.zeros_like(rest, dtype=torch.int64)
        for level in reversed(self._levels):
            ahead = F.pad(level[node].cumsum(-1), (1, 0))
            # The sums of two levels differ by roundings: stay below the end of the node that was entered.
            rest = rest.minimum(ahead[:, -1].nextafter(rest.new_zeros(())))
            child = torch.searchsorted(ahead, rest[:, None], right=True) - 1
            rest = rest - ahead.gather(-1, child).squeeze(-1)
            node = node * _FAN_OUT + child.squeeze(-1)
        return node
