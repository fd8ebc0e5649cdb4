"""Steps side by side in memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from tensordict import TensorDict
from torch import Tensor

from qmix_lightning.functional.memory import BatchMemory
from qmix_lightning.functional.streaming import gather_rows, widen_rows
from qmix_lightning.replay.disk import MappedRows
from qmix_lightning.replay.layout import Key, Layout

PADDING = 32
"""Rows of the padding, all alike: padding is copied by runs of rows, as steps are."""

_BLOCK = 1 << 20
"""Bytes that are given back their form at once, few enough to stay in a CPU's caches in between."""


class StepTable:
    """A row for every step there is room for, and some for the padding: then a padded batch is one copy a key.

    Args:
        layouts: What a step holds.
        rows: Number R of steps.
        device: Where they are.
        folder: Where the files are that they are kept in; None keeps them in memory.
        memory: What batches are read into.

    Attributes:
        padding: The row R, from which on the :data:`PADDING` rows of the padding are.
        has_padding: Whether they were written.

    Example:
        >>> table = StepTable({"state": Layout((2,), torch.float32, "float16")}, 5, torch.device("cpu"))
        >>> table.write(torch.tensor([3]), table.encode({"state": torch.tensor([[0.5, 7.0]])}))
        >>> table.read(torch.tensor([3, 3]), (2, 1), most_rows=5)["state"]
        tensor([[[0.5000, 7.0000]],
                [[0.5000, 7.0000]]])
    """

    def __init__(
        self,
        layouts: Mapping[Key, Layout],
        rows: int,
        device: torch.device,
        folder: Path | None = None,
        memory: BatchMemory | None = None,
    ) -> None:
        self.layouts, self.device = dict(layouts), device
        self.padding, self.has_padding = rows, False
        self._memory = BatchMemory() if memory is None else memory
        self._files: list[MappedRows] = []
        self._rows: dict[Key, Tensor] = {}
        for key, layout in layouts.items():
            shape, dtype = layout.row
            self._rows[key] = self._room((rows + PADDING, *shape), dtype, folder)

    def encode(self, steps: Mapping[Key, Tensor]) -> dict[Key, Tensor]:
        """Turn steps ``[n, ...]`` into the form in which they are kept.

        Raises:
            ValueError: If a number is too large for float16.
        """
        return {key: layout.encode(steps[key]) for key, layout in self.layouts.items()}

    def keep_padding(self, kept: Mapping[Key, Tensor]) -> None:
        """Keep the step ``[1, ...]`` that all padding is like.

        Raises:
            OSError: If the disk is full.
        """
        self.reserve(self.padding, PADDING)
        rows = self.padding + torch.arange(PADDING)
        self.write(rows, {key: row.expand(PADDING, *row.shape[1:]) for key, row in kept.items()})
        self.has_padding = True

    def reserve(self, first: int, count: int) -> None:
        """Claim the room of some rows, if they are on a disk, before they are written.

        Raises:
            OSError: If there is not enough.
        """
        for file in self._files:
            file.reserve(first, count)

    def write(self, row: Tensor, kept: Mapping[Key, Tensor]) -> None:
        """Keep steps ``[n, ...]``, in the form in which they are kept, in rows ``[n]``."""
        row = sent(row, self.device)
        for key, rows in self._rows.items():
            rows.index_copy_(0, row, kept[key].to(self.device))

    def take(self, row: Tensor) -> dict[Key, Tensor]:
        """Copy rows ``[n]`` in the form in which they are kept, to the CPU."""
        row = sent(row, self.device)
        return {key: rows.index_select(0, row).cpu() for key, rows in self._rows.items()}

    def read(self, row: Tensor, shape: tuple[int, ...], *, most_rows: int) -> TensorDict:
        """Copy steps as they came.

        Args:
            row: ``[n]`` int64, on the CPU.
            shape: What n is unfolded to.
            most_rows: The largest n to be expected, for which memory is taken.
        """
        row, whole = sent(row, self.device), len(row) * sum(layout.step_bytes for layout in self.layouts.values())
        entries = {key: self._read(key, row, most_rows, whole) for key in self._rows}
        return TensorDict({key: entry.view(*shape, *self.layouts[key].shape) for key, entry in entries.items()}, shape)

    def _read(self, key: Key, row: Tensor, most_rows: int, whole: int) -> Tensor:
        rows, layout, n = self._rows[key], self.layouts[key], len(row)
        most = max(n, most_rows) * layout.step_bytes
        out = self._memory.take(key, (n, *layout.shape), layout.dtype, most=most, device=self.device)
        if layout.form == "plain":
            return gather_rows(rows, row, out, whole=whole)
        if layout.form == "float16" and widen_rows(rows, row, out, whole=whole):
            return out
        block = 1 + _BLOCK // (1 + layout.row_bytes) if self.device.type == "cpu" else n
        for start in range(0, n, block):
            layout.decode(rows.index_select(0, row[start : start + block]), out[start : start + block])
        return out

    def _room(self, shape: tuple[int, ...], dtype: torch.dtype, folder: Path | None) -> Tensor:
        if folder is None:
            return torch.empty(shape, dtype=dtype, device=self.device)
        self._files.append(MappedRows(shape, dtype, folder))
        return self._files[-1].rows


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor of the CPU to a device without waiting for it."""
    if device.type == "cpu":
        return tensor
    pinned = tensor.pin_memory() if device.type == "cuda" else tensor
    return pinned.to(device, non_blocking=True)
