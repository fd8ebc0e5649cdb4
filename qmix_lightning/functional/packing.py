"""Episodes of different lengths without their padding.

Sorted by length and with time first, a batch of episodes is a staircase: the longer the fewer. A network that goes
through time runs over it stair by stair, each as wide as there are episodes left, and hands its memory on::

    a b c d
    a b c .      4 episodes of 5, 3, 3 and 1 steps
    a b c .      stairs: 1 step of 4, 2 steps of 3, 2 steps of 1
    a . . .      12 steps instead of 20
    a . . .

torch's PackedSequence does the same with a stair for each step, and gains nothing on a CPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import torch
from torch import Tensor

STAIR: Final = 24
"""How many steps of an episode cost as much as one stair more, by measurement; from 12 to 48 it hardly matters."""
WORTHWHILE: Final = 0.95
"""Share of a batch's steps, each stair counted as :data:`STAIR` of them, above which packing gains nothing."""


@dataclass(frozen=True)
class Rows:
    """Some steps of episodes.

    Args:
        shape: B and T.
        index: ``[R]`` int64, which of the B T steps.

    Example:
        >>> rows = Rows((2, 2), torch.tensor([3, 0]))
        >>> rows.take(torch.tensor([[1, 2], [3, 4]]))
        tensor([4, 1])
        >>> rows.put(torch.tensor([4, 1]))
        tensor([[1, 0],
                [0, 4]])
    """

    shape: tuple[int, int]
    index: Tensor

    def take(self, entry: Tensor) -> Tensor:
        """These steps ``[R, ...]`` of ``[B, T, ...]``.

        Raises:
            ValueError: If the entry has another shape.
        """
        if entry.shape[:2] != self.shape:
            raise ValueError(f"Expected an entry for each step {[*self.shape]}, got one of shape {[*entry.shape]}.")
        return entry.flatten(0, 1).index_select(0, self.index)

    def put(self, packed: Tensor) -> Tensor:
        """What was taken, ``[R, ...]``, in its places ``[B, T, ...]``, no two in the same; 0 elsewhere."""
        whole = packed.new_zeros(math.prod(self.shape), *packed.shape[1:])
        return whole.index_copy(0, self.index, packed).view(*self.shape, *packed.shape[1:])


@dataclass(frozen=True)
class Packing:
    """Which steps of episodes ``[B, T]`` were seen, in the order of a staircase: R steps, with little fill.

    A step of fill stands behind the end of an episode. It holds the episode's last seen one once more, so that what
    padding holds, NaN included, is never read.

    Args:
        source: Which step each packed one repeats.
        place: Where it stands itself.
        stairs: Number of steps and of episodes of each stair, from the first step on.

    Example:
        >>> lengths = torch.tensor([20, 60, 20, 19])
        >>> packing = pack(torch.arange(60).view(60, 1) < lengths.view(4, 1, 1))
        >>> packing.stairs
        ((20, 4), (40, 1))
        >>> episodes = torch.randn(4, 60, 7)
        >>> packed = packing.take(episodes)
        >>> packed.shape, [stair.shape for stair in packing.split(packed)]
        (torch.Size([120, 7]), [torch.Size([20, 4, 7]), torch.Size([40, 1, 7])])
        >>> torch.equal(packing.put(packed)[1], episodes[1])
        True
    """

    source: Rows
    place: Rows
    stairs: tuple[tuple[int, int], ...]

    def take(self, entry: Tensor) -> Tensor:
        """The packed steps ``[R, ...]`` of ``[B, T, ...]``."""
        return self.source.take(entry)

    def put(self, packed: Tensor) -> Tensor:
        """Packed steps ``[R, ...]`` in their places ``[B, T, ...]``; what was not packed is 0."""
        return self.place.put(packed)

    def split(self, packed: Tensor) -> list[Tensor]:
        """The stairs ``[t, b, ...]`` of packed steps ``[R, ...]``, each of the first episodes of the one before."""
        parts = torch.split(packed, [steps * battles for steps, battles in self.stairs])
        return [part.view(*stair, *part.shape[1:]) for part, stair in zip(parts, self.stairs, strict=True)]


def pack(seen: Tensor) -> Packing | None:
    """How to go through episodes without their padding.

    Args:
        seen: ``[B, T, 1]`` bool, False on padding.

    Returns:
        None where it would not pay: if little is padding; while a graph is compiled and on accelerators, because
        lengths have to be known to Python. None, too, if a step was seen after one that was not.

    Example:
        >>> pack(torch.ones(32, 61, 1, dtype=torch.bool)) is None
        True
    """
    if torch.compiler.is_compiling() or seen.device.type != "cpu":
        return None
    battles, steps = shape = seen.shape[0], seen.shape[1]
    seen = seen.reshape(shape)
    alive = seen.sum(0).tolist()
    enough = WORTHWHILE * seen.numel()
    if not 0 < sum(alive) < enough or (seen[:, 1:] & ~seen[:, :-1]).any():
        return None
    stairs = _stairs(alive)
    if sum(t * b + STAIR for t, b in stairs) > enough:
        return None
    lengths, order = seen.sum(1).sort(descending=True, stable=True)
    widths = torch.tensor([b for t, b in stairs for _ in range(t)])
    t, b = (torch.arange(battles) < widths.unsqueeze(1)).nonzero(as_tuple=True)
    first = order[b] * steps
    return Packing(Rows(shape, first + torch.minimum(t, lengths[b] - 1)), Rows(shape, first + t), stairs)


def played_rows(played: Tensor) -> tuple[Rows, Rows, Rows]:
    """The steps of episodes that were played.

    Args:
        played: ``[B, T+1, 1]`` bool, of which the last step only bootstraps.

    Returns:
        Among the B T steps without the last; among all B (T+1); and the step after each among all.

    Example:
        >>> steps, now, after = played_rows(torch.tensor([[[True], [False], [False]], [[True], [True], [False]]]))
        >>> steps.index, now.index, after.index
        (tensor([0, 2, 3]), tensor([0, 3, 4]), tensor([1, 4, 5]))
    """
    battles, steps = played.shape[0], played.shape[1] - 1
    b, t = played[:, :-1].reshape(battles, steps).nonzero(as_tuple=True)
    without_last, now = b * steps + t, b * (steps + 1) + t
    whole = battles, steps + 1
    return Rows((battles, steps), without_last), Rows(whole, now), Rows(whole, now + 1)


def _stairs(alive: list[int]) -> tuple[tuple[int, int], ...]:
    """Begin a stair where going on as wide would fill more than a stair costs: within 5 % of the best choice."""
    stairs, wide, steps, fill = [], alive[0], 0, 0
    for now, run in groupby(filter(None, alive)):
        length = len(list(run))
        if fill + (wide - now) * length > STAIR:
            stairs.append((steps, wide))
            wide, steps, fill = now, 0, 0
        fill += (wide - now) * length
        steps += length
    return (*stairs, (steps, wide))
