"""How the simulator's functions become machine code.

They are scalar functions over one battle's records. numba counts references to every array at every call, which costs
more than the arithmetic here; nothing in the simulator allocates, so the counting is switched off, and small functions
are inlined into the few kernels that Python calls.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from importlib.resources import files
from typing import Any, Final, ParamSpec, TypeVar, cast

from numba import njit
from numba.core.registry import CPUDispatcher

P = ParamSpec("P")
R = TypeVar("R")

SOURCES: Final = zlib.crc32(
    b"".join(sorted(f.read_bytes() for f in files(__package__).iterdir() if f.name.endswith(".py")))
)
"""Digest of the simulator's sources. numba sees when the file of a kernel changes, but not the files whose functions it
calls; as a kernel's default argument the digest is part of its signature, so that stale machine code is never taken
from the cache. All kernels have the same: in each process numba is quick with the first default only that it meets."""

_OPTIONS: Final[dict[str, Any]] = {"nogil": True, "error_model": "numpy", "_nrt": False, "no_cfunc_wrapper": True}


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function for use inside kernels only: made callable from Python, each would take long to compile."""
    options: dict[str, Any] = {"no_cpython_wrapper": True, **_OPTIONS}
    dispatcher: Any = njit(forceinline=True, **options)(function)
    dispatcher.__class__ = _Inlined
    return cast(Callable[P, R], dispatcher)


def shared(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a small function for use inside kernels and from Python."""
    return cast(Callable[P, R], njit(forceinline=True, **_OPTIONS)(function))


def subroutine(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a large function for use inside kernels without inlining it: the optimiser does better on it alone."""
    return cast(Callable[P, R], njit(**_OPTIONS)(function))


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function that Python calls; its code is kept on disk, and it runs without holding Python's lock."""
    return cast(Callable[P, R], njit(cache=True, **_OPTIONS)(function))


def parallel_kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a kernel whose ``prange`` loops are shared out over threads, none of which is given a bare record."""
    return cast(Callable[P, R], njit(cache=True, parallel=True, **_OPTIONS)(function))


class _Inlined(CPUDispatcher):
    """A function without a way in from Python, where numba itself would crash."""

    def __call__(self, *_args: Any, **_kwargs: Any) -> Any:
        raise TypeError(f"{self.py_func.__name__} can be called in compiled code only. Call it from a kernel.")
