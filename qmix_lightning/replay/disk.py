"""Tensors on a disk."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import torch
from tensordict import MemoryMappedTensor
from torch import Tensor


class MappedRows:
    """A tensor in a file, of which only those rows take up room that were reserved.

    The file has no name: nobody else can find it, and its room is free again when the process ends, whatever ends it.
    So processes may share a folder, and nothing is left behind.

    Args:
        shape: Of the tensor.
        dtype: Of its numbers.
        folder: On the disk to use; it is made if it is not there.

    Attributes:
        rows: The tensor, zeros at first.

    Raises:
        OSError: If there can be no such file.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     mapped = MappedRows((1_000, 3), torch.float32, Path(folder))
        ...     mapped.reserve(10, 2)
        ...     mapped.rows[10:12] = 1.0
        ...     mapped.rows.sum(), os.listdir(folder)
        (tensor(6.), [])
    """

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, folder: Path) -> None:
        self._folder, self._row = folder, torch.Size(shape[1:]).numel() * dtype.itemsize
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file, name = tempfile.mkstemp(dir=folder, prefix="replay-")
        except OSError as error:
            raise self._trouble(error, "a file for replayed episodes") from error
        try:
            os.ftruncate(self._file, shape[0] * self._row)
            self.rows: Tensor = MemoryMappedTensor.from_filename(name, dtype, shape).as_subclass(torch.Tensor)
        except OSError as error:
            raise self._trouble(error, f"a file of up to {shape[0] * self._row:,} bytes") from error
        finally:
            os.unlink(name)

    def reserve(self, first: int, count: int) -> None:
        """Claim the room of some rows, before they are written: without, a full disk would kill the process.

        Raises:
            OSError: If there is not enough.
        """
        try:
            os.posix_fallocate(self._file, first * self._row, count * self._row)
        except OSError as error:
            raise self._trouble(error, f"room for {count * self._row:,} bytes") from error

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)

    def _trouble(self, error: OSError, expected: str) -> OSError:
        cure = "Free space there, name another folder for the replay, or keep fewer episodes"
        return OSError(error.errno, f"Expected {expected}, got: {error.strerror}. {cure}", str(self._folder))
