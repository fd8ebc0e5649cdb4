"""Rows of tensors copied by runs of those that follow each other, and past the caches where these do not hold them.

Episodes are rows one after the other: as much as follows each other is copied at once.

Who writes to memory that is not in the caches has it read first, and pushes out of them what is needed sooner. A batch
of a large map is many times as large as they are, and nobody reads it before all of it is written: stores that bypass
the caches take half the time.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import torch
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import types
from numba.core import cgutils as typed_cgutils
from numba.extending import intrinsic
from torch import Tensor

from qmix_lightning.functional.compiling import inlined, kernel

cgutils: Any = typed_cgutils  # numba's types end here

LARGE: Final = 16 << 20
"""Bytes from which on copies go past the caches: what is smaller may still be there when it is read."""

_WIDE: Final = 1024
"""Bytes of the shortest runs that are worth it: the ends of each are copied through the caches."""

_LINE: Final = 64
"""Bytes that a processor moves at once."""

_AHEAD: Final = 128 * _LINE
"""Bytes between what is copied and what is asked for meanwhile: further than a processor looks ahead by itself."""


def _widens() -> bool:
    """Whether this processor has an instruction for it; compiled code would call a routine otherwise."""
    machine = platform.machine().lower()
    return machine in ("arm64", "aarch64") or bool(get_host_cpu_features().get("f16c", False))


WIDENS: Final = _widens()
"""Whether float16 becomes float32 past the caches."""


def gather_rows(rows: Tensor, which: Tensor, out: Tensor, *, whole: int = 0) -> Tensor:
    """Copy some rows of a tensor, as :func:`torch.index_select` does, past the caches if there is much to copy.

    By as many threads as torch computes with, if the rows alone are much.

    Args:
        rows: ``[R, ...]``.
        which: ``[n]`` int64, on the same device.
        out: ``[n, ...]``, which is written; in memory of its own.
        whole: Bytes of everything that is copied before any of it is read, if there is more than these rows.

    Returns:
        ``out``.

    Raises:
        IndexError: If there is no such row.

    Example:
        >>> gather_rows(torch.tensor([[1, 2], [3, 4]]), torch.tensor([1, 1, 0]), torch.empty(3, 2, dtype=torch.int64))
        tensor([[3, 4],
                [3, 4],
                [1, 2]])
    """
    alike = rows.dtype == out.dtype and rows.shape[1:] == out.shape[1:] and len(which) == len(out)
    if not (alike and _is_worth_it(rows, out, whole)):
        return torch.index_select(rows, 0, which, out=out)
    places = rows.data_ptr(), out.data_ptr(), which.numpy(), len(rows), out.nbytes // len(out)
    _share(lambda first, end: gather(*places, first, end), rows, which, out)
    return out


def widen_rows(rows: Tensor, which: Tensor, out: Tensor, *, whole: int = 0) -> bool:
    """Copy some rows of float16 to float32, past the caches, where that pays and the processor can.

    Args:
        rows: ``[R, ...]``.
        which: ``[n]`` int64, on the same device.
        out: ``[n, ...]``, which is written; in memory of its own.
        whole: Bytes of everything that is copied before any of it is read, if there is more than these rows.

    Returns:
        Whether they were copied.

    Raises:
        IndexError: If there is no such row.

    Example:
        >>> rows, out = torch.ones(3, 2, dtype=torch.float16), torch.empty(1, 2)
        >>> widen_rows(rows, torch.tensor([2]), out)  # so few may still be in the caches
        False
    """
    halves = rows.dtype == torch.float16 and out.dtype == torch.float32 and out.data_ptr() % 4 == 0
    alike = rows.shape[1:] == out.shape[1:] and len(which) == len(out)
    if not (WIDENS and halves and alike and _is_worth_it(rows, out, whole) and out.nbytes // len(out) >= _WIDE):
        return False
    places = rows.data_ptr(), out.data_ptr(), which.numpy(), len(rows), out.numel() // len(out)
    _share(lambda first, end: widen(*places, first, end), rows, which, out)
    return True


def _is_worth_it(rows: Tensor, out: Tensor, whole: int) -> bool:
    beside = rows.is_cpu and out.is_cpu and rows.is_contiguous() and out.is_contiguous()
    return beside and out.nbytes > 0 and max(out.nbytes, whole) >= LARGE


def _share(copy: Callable[[int, int], bool], rows: Tensor, which: Tensor, out: Tensor) -> None:
    """Share the rows out over threads, if there are many."""
    threads = torch.get_num_threads() if out.nbytes >= LARGE else 1
    ends = [len(which) * part // threads for part in range(threads + 1)]
    if threads == 1:
        copied = copy(*ends)
    else:
        with ThreadPoolExecutor(threads) as pool:
            copied = all(list(pool.map(copy, ends[:-1], ends[1:])))
    if not copied:
        raise IndexError(f"Expected rows from 0 to {len(rows) - 1}, got {which.min()} to {which.max()}.")


def _move_line(_: Any, target: Any, source: Any) -> Any:
    """Copy a line from address ``source`` to address ``target``, which is a multiple of one, past the caches."""
    return types.void(types.intp, types.intp), _store_line


def _store_line(context: Any, builder: Any, _: Any, addresses: Any) -> Any:
    target, source = (builder.inttoptr(address, _LINE_OF_BYTES.as_pointer()) for address in addresses)
    store = builder.store(builder.load(source, align=1), target, align=_LINE)
    store.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)]))
    return context.get_dummy_value()


def _widen_line(_: Any, target: Any, source: Any) -> Any:
    """Copy half a line of float16 to a line of float32, as :data:`move_line` does."""
    return types.void(types.intp, types.intp), _store_wider


def _store_wider(context: Any, builder: Any, _: Any, addresses: Any) -> Any:
    return _widen(context, builder, addresses, _LINE // 4, past_caches=True)


def _widen_number(_: Any, target: Any, source: Any) -> Any:
    """Copy a float16 to a float32."""
    return types.void(types.intp, types.intp), _store_number


def _store_number(context: Any, builder: Any, _: Any, addresses: Any) -> Any:
    return _widen(context, builder, addresses, 1, past_caches=False)


def _widen(context: Any, builder: Any, addresses: Any, count: int, past_caches: bool) -> Any:
    wide, narrow = (ir.VectorType(kind, count) for kind in (ir.FloatType(), ir.HalfType()))
    target, source = (
        builder.inttoptr(address, kind.as_pointer()) for address, kind in zip(addresses, (wide, narrow), strict=True)
    )
    numbers = builder.fpext(builder.load(source, align=2), wide)
    store = builder.store(numbers, target, align=_LINE if past_caches else 4)
    if past_caches:
        store.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)]))
    return context.get_dummy_value()


def _move_bytes(_: Any, target: Any, source: Any, count: Any) -> Any:
    """Copy so many bytes from address ``source`` to address ``target``."""
    return types.void(types.intp, types.intp, types.intp), _store_bytes


def _store_bytes(context: Any, builder: Any, _: Any, values: Any) -> Any:
    target, source = (builder.inttoptr(address, ir.IntType(8).as_pointer()) for address in values[:2])
    cgutils.raw_memcpy(builder, target, source, values[2], 1)
    return context.get_dummy_value()


def _expect(_: Any, source: Any) -> Any:
    """Have the line at address ``source`` brought nearer, to the second of the caches."""
    return types.void(types.intp), _prefetch


def _prefetch(context: Any, builder: Any, _: Any, addresses: Any) -> Any:
    pointer, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
    prefetch = builder.module.declare_intrinsic(
        "llvm.prefetch", (pointer,), ir.FunctionType(ir.VoidType(), (pointer, flag, flag, flag))
    )
    reads, second, data = (flag(option) for option in (0, 2, 1))
    builder.call(prefetch, (builder.inttoptr(addresses[0], pointer), reads, second, data))
    return context.get_dummy_value()


def _finish(_: Any) -> Any:
    """Let nobody see what comes after before what was stored past the caches."""
    return types.void(), _fence


def _fence(context: Any, builder: Any, *_: Any) -> Any:
    builder.fence("seq_cst")
    return context.get_dummy_value()


_LINE_OF_BYTES: Final = ir.VectorType(ir.IntType(8), _LINE)
move_line: Any = intrinsic(_move_line)
widen_line: Any = intrinsic(_widen_line)
widen_number: Any = intrinsic(_widen_number)
move_bytes: Any = intrinsic(_move_bytes)
expect: Any = intrinsic(_expect)
finish: Any = intrinsic(_finish)


@inlined
def _follow_each_other(which: Any, k: int, end: int, n_rows: int) -> int:
    """How many rows from the ``k``-th on are copied as one, as the steps of an episode are; 0 if one is not there."""
    n = 1
    while k + n < end and which[k + n] == which[k] + n:
        n += 1
    return n if which[k] >= 0 and which[k] + n <= n_rows else 0


@kernel
def gather(source: int, target: int, which: Any, n_rows: int, width: int, first: int, end: int) -> bool:
    """Copy rows, runs of them past the caches.

    Args:
        source: Address of the rows.
        target: Where to.
        which: ``[n]`` int64, their numbers.
        n_rows: How many there are.
        width: Bytes of a row.
        first: Of the numbers, where to begin.
        end: Of the numbers, where to end.

    Returns:
        Whether all of them are there; if not, copying ends at the first that is not.
    """
    k = first
    while k < end:
        n = _follow_each_other(which, k, end, n_rows)
        if n == 0:
            return False
        place, row, size = target + k * width, source + which[k] * width, n * width
        head = min(-place % _LINE, size) if size >= _WIDE else size
        lines = (size - head) // _LINE
        move_bytes(place, row, head)
        for line in range(lines):
            i = head + line * _LINE
            if i + _AHEAD < size:
                expect(row + i + _AHEAD)
            move_line(place + i, row + i)
        done = head + lines * _LINE
        move_bytes(place + done, row + done, size - done)
        k += n
    finish()
    return True


@kernel
def widen(source: int, target: int, which: Any, n_rows: int, width: int, first: int, end: int) -> bool:
    """Copy rows of float16 to float32 past the caches.

    Args:
        source: Address of the rows.
        target: Where to, a multiple of 4.
        which: ``[n]`` int64, their numbers.
        n_rows: How many there are.
        width: Entries of a row.
        first: Of the numbers, where to begin.
        end: Of the numbers, where to end.

    Returns:
        Whether all of them are there; if not, copying ends at the first that is not.
    """
    k, at_once = first, _LINE // 4
    while k < end:
        n = _follow_each_other(which, k, end, n_rows)
        if n == 0:
            return False
        place, row, size = target + k * width * 4, source + which[k] * width * 2, n * width
        head = min((-place % _LINE) // 4, size)
        lines = (size - head) // at_once
        for i in range(head):
            widen_number(place + i * 4, row + i * 2)
        for line in range(lines):
            i = head + line * at_once
            widen_line(place + i * 4, row + i * 2)
        for i in range(head + lines * at_once, size):
            widen_number(place + i * 4, row + i * 2)
        k += n
    finish()
    return True
