"""How loops over many small tensors become machine code, and when that may be used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, ParamSpec, TypeVar, cast

import torch
from numba import njit
from torch import Tensor
from torch._C._functorch import is_batchedtensor

from qmix_lightning.functional.precision import autocasts

P = ParamSpec("P")
R = TypeVar("R")

# Nothing allocates, so references need not be counted. Sums of products may be rounded once instead of twice.
_OPTIONS: Final[dict[str, Any]] = {"nogil": True, "error_model": "numpy", "_nrt": False, "fastmath": {"contract"}}


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function for use inside kernels of the same file, whose code on disk would not notice other changes."""
    return cast(Callable[P, R], njit(forceinline=True, **_OPTIONS)(function))


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function of arrays that Python calls; its code is kept on disk, and it runs without Python's lock."""
    return cast(Callable[P, R], njit(cache=True, **_OPTIONS)(function))


def may_compute() -> bool:
    """Whether kernels may stand in for torch's operations at all, which compile, autocast and keep track of gradients.

    Example:
        >>> with torch.no_grad():
        ...     may_compute()
        True
        >>> may_compute()
        False
    """
    return not (torch.is_grad_enabled() or torch.compiler.is_compiling() or autocasts(_CPU))


def readable(*tensors: Tensor) -> bool:
    """Whether kernels may read these tensors.

    Args:
        tensors: Any.

    Returns:
        True for contiguous float32, int64 and bool in the computer's memory, not below vmap.

    Example:
        >>> readable(torch.zeros(2, 3)), readable(torch.zeros(2, 3).t()), readable(torch.zeros(2, dtype=torch.float64))
        (True, False, False)
    """
    for tensor in tensors:  # in a loop, since a generator for all() takes as long as the questions themselves
        if not (tensor.dtype in _READABLE and tensor.is_cpu and tensor.is_contiguous()) or is_batchedtensor(tensor):
            return False
    return True


_CPU: Final = torch.device("cpu")
_READABLE: Final = frozenset((torch.float32, torch.int64, torch.bool))
