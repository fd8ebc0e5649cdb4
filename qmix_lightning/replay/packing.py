"""Truth values by bits."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def pack_bits(truths: Tensor) -> Tensor:
    """Write eight truth values into a byte.

    Args:
        truths: ``[n, ...]`` bool, K of them in a row.

    Returns:
        ``[n, ⌈K / 8⌉]`` uint8, the first value of a row in the lowest bit of its first byte.

    Example:
        >>> pack_bits(torch.tensor([[True, False, True], [False, True, False]]))
        tensor([[5],
                [2]], dtype=torch.uint8)
    """
    n, k = len(truths), truths.shape[1:].numel()
    eights = F.pad(truths.reshape(n, k), (0, -k % 8)).view(n, -(-k // 8), 8)
    packed: Tensor = (eights * _weights(truths.device)).sum(-1, dtype=torch.uint8)
    return packed


def unpack_bits(packed: Tensor, out: Tensor) -> Tensor:
    """Read what :func:`pack_bits` wrote.

    Args:
        packed: ``[n, ⌈K / 8⌉]`` uint8.
        out: Where to, ``[n, ...]`` bool, K of them in a row; contiguous.

    Returns:
        ``out``.

    Example:
        >>> unpack_bits(torch.tensor([[5], [2]], dtype=torch.uint8), torch.empty(2, 3, dtype=torch.bool))
        tensor([[ True, False,  True],
                [False,  True, False]])
    """
    n, k = len(out), out.shape[1:].numel()
    eights = _bytes(packed.device).index_select(0, packed.flatten().int()).view(torch.bool)
    out.view(n, k).copy_(eights.view(n, -(-k // 8) * 8)[:, :k])
    return out


@cache
def _weights(device: torch.device) -> Tensor:
    return 2 ** torch.arange(8, dtype=torch.uint8, device=device)


@cache
def _bytes(device: torch.device) -> Tensor:
    """The eight truth values of every byte, as one number of eight bytes each."""
    truths = torch.arange(256)[:, None] >> torch.arange(8) & 1
    return truths.to(torch.uint8).view(torch.int64).flatten().to(device)
