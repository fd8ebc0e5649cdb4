"""Where mixed precision ends: half is enough for what networks compute, not for differences of what they say."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Final

import torch
from torch import Tensor, nn

HALF: Final = (torch.float16, torch.bfloat16)
"""Between 16 and 32, neighbours lie 0.016 apart in float16, which ends at 65504, and 0.125 apart in bfloat16."""


def autocasts(device: torch.device) -> bool:
    """Whether :class:`torch.autocast` is at work for operations on this device.

    Args:
        device: Any device, even one that knows no autocast.

    Example:
        >>> with torch.autocast("cpu", torch.bfloat16):
        ...     autocasts(torch.device("cpu")), autocasts(torch.device("meta"))
        (True, False)
    """
    return torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)


def as_given(device: torch.device) -> AbstractContextManager[object]:
    """A context in which operations compute in the precision of what they are given, whatever autocast says outside.

    Args:
        device: Where the operations run.

    Example:
        >>> one = torch.ones(1, 1)
        >>> with torch.autocast("cpu", torch.bfloat16):
        ...     outside = one @ one
        ...     with as_given(one.device):
        ...         outside.dtype, (one @ one).dtype
        (torch.bfloat16, torch.float32)
    """
    return torch.autocast(device.type, enabled=False) if autocasts(device) else nullcontext()


def in_its_precision(layer: nn.Linear, value: Tensor) -> Tensor:
    """What a layer makes of a value in the precision of its weights, whatever autocast says.

    Args:
        layer: The layer.
        value: ``[..., I]``, which may have become half precision.

    Returns:
        ``[..., O]``.

    Example:
        >>> layer, half = nn.Linear(1, 1), torch.ones(1, dtype=torch.bfloat16)
        >>> with torch.autocast("cpu", torch.bfloat16):
        ...     layer(half).dtype, in_its_precision(layer, half).dtype
        (torch.bfloat16, torch.float32)
    """
    with as_given(value.device):
        made: Tensor = layer(value.to(layer.weight.dtype))
    return made


def uncast(value: Tensor) -> Tensor:
    """What autocast has made half precision, as float32, which is exact; anything else as it is.

    Args:
        value: Any tensor. Without autocast, half precision is what the user chose, and stays.

    Returns:
        A tensor of the same shape.

    Example:
        >>> half = torch.ones(1, dtype=torch.bfloat16)
        >>> with torch.autocast("cpu", torch.bfloat16):
        ...     uncast(half), uncast(torch.tensor([2]))
        (tensor([1.]), tensor([2]))
        >>> uncast(half)
        tensor([1.], dtype=torch.bfloat16)
    """
    return value.float() if value.dtype in HALF and autocasts(value.device) else value
