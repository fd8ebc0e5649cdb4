"""How loops over many small tensors become machine code, and when that may be used."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from types import CellType, FunctionType
from typing import Any, Final, ParamSpec, TypeVar, cast

import torch
from numba import njit
from torch import Tensor
from torch._C._functorch import is_batchedtensor

P = ParamSpec("P")
R = TypeVar("R")

# Nothing allocates, so references need not be counted. Sums of products may be rounded once instead of twice. C calls
# none of them.
_OPTIONS: Final[dict[str, Any]] = {
    "nogil": True, "error_model": "numpy", "_nrt": False, "fastmath": {"contract"}, "no_cfunc_wrapper": True,
}  # fmt: skip


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function for use inside kernels of the same file, whose code on disk would not notice other changes."""
    return cast(Callable[P, R], njit(forceinline=True, **_OPTIONS)(function))


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function of arrays that Python calls; its code is kept on disk, and it runs without Python's lock."""
    return cast(Callable[P, R], njit(cache=True, **_OPTIONS)(function))


def kernel_over(*functions: Any) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Compile a kernel that calls compiled functions of other files.

    numba sees when the file of a kernel changes, but not the others. It looks at what a function has closed over,
    though: here a digest of their sources, so that stale machine code is never taken from the disk. (A default argument
    would serve as well, but for two kernels of different defaults numba works out the types of all arguments anew at
    every call of the second, which takes longer than to play with 64 battles.)

    Args:
        functions: Those that it calls.
    """
    files = [sys.modules[function.__module__].__file__ for function in functions]
    digest = zlib.crc32(b"".join(Path(file).read_bytes() for file in files if file))

    def compile_over(function: Callable[P, R]) -> Callable[P, R]:
        code, closure = function.__code__, function.__closure__ or ()
        code = code.replace(co_freevars=(*code.co_freevars, "digest"))
        closed = FunctionType(code, function.__globals__, function.__name__, None, (*closure, CellType(digest)))
        closed.__doc__, closed.__module__ = function.__doc__, function.__module__
        return kernel(closed)

    return compile_over


def may_compute() -> bool:
    """Whether kernels may stand in for torch's operations at all, which compile, autocast and keep track of gradients.

    Example:
        >>> with torch.no_grad():
        ...     may_compute()
        True
        >>> may_compute()
        False
    """
    return not (torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling())


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


_READABLE: Final = frozenset((torch.float32, torch.int64, torch.bool))
