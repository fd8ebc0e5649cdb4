"""Memory that batches are read into."""

from __future__ import annotations

import threading
import weakref
from collections import defaultdict, deque
from collections.abc import Hashable
from functools import partial
from math import prod

import numpy as np
import torch
from torch import Tensor

_KEPT = 3
"""Pieces of memory remembered for a key: one batch that is trained on, one that is being read, and one to spare."""

_ALIGNMENT = 64


class BatchMemory:
    """Gives memory to batches, on the CPU again and again the same.

    To touch new memory for the first time costs several times as much as to copy an episode into it. So what a batch
    was read into is used again, but never before the last tensor that shares it is gone: whoever keeps a batch, or a
    part of it, keeps it unchanged. Threads may ask at once.

    Args:
        pin_memory: Whether memory of the CPU is page-locked, from which copies to a GPU need not be waited for. PyTorch
            keeps and reuses such memory itself. Without a GPU there is no such thing, and nothing changes.

    Example:
        >>> memory = BatchMemory()
        >>> batch = memory.take("state", (32, 7), torch.float32, most=10_000)
        >>> where, batch = batch.data_ptr(), None
        >>> memory.take("state", (16, 7), torch.float32, most=10_000).data_ptr() == where
        True
    """

    def __init__(self, *, pin_memory: bool = False) -> None:
        self.pin_memory = pin_memory and torch.cuda.is_available()
        self._pieces: dict[Hashable, deque[_Piece]] = defaultdict(partial(deque, maxlen=_KEPT))
        self._lock = threading.Lock()

    def take(
        self,
        key: Hashable,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        *,
        most: int,
        device: torch.device | None = None,
    ) -> Tensor:
        """Find memory that nobody uses.

        Args:
            key: What for; memory is used again under the same key only.
            shape: Of the tensor.
            dtype: Of its numbers.
            most: Bytes that later tensors may take, so that memory is taken once for all of them.
            device: Where; None is the CPU. Elsewhere PyTorch reuses memory by itself.

        Returns:
            A tensor of any content.
        """
        if device is not None and device.type != "cpu":
            return torch.empty(shape, dtype=dtype, device=device)
        if self.pin_memory:
            return torch.empty(shape, dtype=dtype, pin_memory=True)
        needed = prod(shape) * dtype.itemsize
        with self._lock:
            pieces = self._pieces[key]
            piece = next((piece for piece in pieces if piece.free and piece.size >= needed), None)
            if piece is None:
                piece = _Piece(max(needed, most))
                pieces.append(piece)
            lent = piece.lend(needed)
        return lent.view(dtype).view(shape)


class _Piece:
    def __init__(self, size: int) -> None:
        whole = np.empty(size + _ALIGNMENT, dtype=np.uint8)
        start = -whole.ctypes.data % _ALIGNMENT
        self.size = size
        self._memory = whole[start : start + size]
        self._lent: weakref.ref[np.ndarray] | None = None

    @property
    def free(self) -> bool:
        return self._lent is None or self._lent() is None

    def lend(self, size: int) -> Tensor:
        # PyTorch holds on to this very array as long as any tensor shares its memory.
        array = self._memory[:size]
        self._lent = weakref.ref(array)
        return torch.from_numpy(array)
