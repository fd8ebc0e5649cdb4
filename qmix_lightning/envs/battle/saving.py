"""A batch of battles as tensors, for checkpoints, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def as_tensor(array: NDArray[Any]) -> Tensor:
    """An array as a tensor in the same memory; records come out as their bytes.

    Example:
        >>> as_tensor(np.zeros((4, 2), dtype=[("x", np.float32), ("kind", np.int8)])).shape
        torch.Size([4, 10])
    """
    return torch.from_numpy(array if array.dtype.names is None else array.view(np.uint8).reshape(len(array), -1))


def layout(dtype: np.dtype[Any]) -> str:
    """How the bytes of a record are to be read.

    Example:
        >>> layout(np.dtype([("x", np.float32), ("kind", np.int8)], align=True))
        'x float32 0, kind int8 4, size 8'
    """
    places = (dtype.fields or {}).items()
    return ", ".join([*(f"{name} {kind} {offset}" for name, (kind, offset, *_) in places), f"size {dtype.itemsize}"])


def refuse_other_battles(
    state: Mapping[str, Any], made_as: Mapping[str, str | int | float], memory: Mapping[str, Tensor]
) -> None:
    """Refuse a state that is not of battles like these.

    Args:
        state: What is to be loaded.
        made_as: What it must say of the environment.
        memory: Where its tensors are to go.

    Raises:
        ValueError: Saying what was expected and what came.
    """
    for name, expected in made_as.items():
        if (came := state.get(name)) != expected:
            raise ValueError(
                f"Expected battles saved with {name} {expected!r}, got {came!r}. Make the environment as the one that "
                "was saved, by the same version of qmix-lightning, or start new battles with reset()."
            )
    for name, tensor in memory.items():
        came = state.get(name)
        if not isinstance(came, Tensor) or came.dtype != tensor.dtype or came.shape != tensor.shape:
            got = f"{came.dtype} {list(came.shape)}" if isinstance(came, Tensor) else repr(came)
            raise ValueError(
                f"Expected {name!r} of {tensor.dtype} {list(tensor.shape)} in saved battles, got {got}. "
                "Load what state_dict() of a battle environment returned."
            )
