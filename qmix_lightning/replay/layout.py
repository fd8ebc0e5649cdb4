"""The form in which numbers are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from qmix_lightning.replay.packing import pack_bits, unpack_bits
from qmix_lightning.spec import OBSERVATION, STATE

Key = str | tuple[str, ...]
Precision = Literal["float32", "float16"]
Form = Literal["plain", "float16", "bits"]

_LARGEST = torch.finfo(torch.float16).max


@dataclass(frozen=True)
class Layout:
    """What a step holds under one key, and in which form it is kept.

    Args:
        shape: Of a step.
        dtype: Of its numbers, as they come and as they are given back.
        form: ``"plain"`` as they are, ``"float16"`` in half the room of float32, or ``"bits"`` truth values by bits.

    Example:
        >>> layout = Layout((10, 18), torch.bool, "bits")
        >>> layout.row_bytes, str(layout)
        (23, '[10, 18] bool kept as bits')
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    form: Form

    @classmethod
    def of(cls, key: Key, shape: tuple[int, ...], dtype: torch.dtype, precision: Precision, pack: bool) -> Layout:
        """Choose the form: observations and states of float32 by the precision, truth values by ``pack``."""
        form: Form = "plain"
        if precision == "float16" and dtype == torch.float32 and key in (OBSERVATION, STATE):
            form = "float16"
        elif pack and dtype == torch.bool:
            form = "bits"
        return cls(tuple(shape), dtype, form)

    @property
    def row(self) -> tuple[tuple[int, ...], torch.dtype]:
        """Shape and type of a step as it is kept."""
        if self.form == "bits":
            return (-(-torch.Size(self.shape).numel() // 8),), torch.uint8
        return self.shape, torch.float16 if self.form == "float16" else self.dtype

    @property
    def row_bytes(self) -> int:
        """Bytes of a step as it is kept."""
        shape, dtype = self.row
        return torch.Size(shape).numel() * dtype.itemsize

    @property
    def step_bytes(self) -> int:
        """Bytes of a step as it is given back."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize

    def encode(self, steps: Tensor) -> Tensor:
        """Turn steps ``[n, *shape]`` into the form in which they are kept.

        Raises:
            ValueError: If a number is too large for float16.
        """
        if self.form == "bits":
            return pack_bits(steps)
        if self.form == "float16":
            if (steps.abs() > _LARGEST).any():
                raise ValueError(
                    f"Expected numbers of at most {_LARGEST:g} to keep as float16, got {float(steps.abs().max()):g}."
                    " Keep them as float32, or scale them."
                )
            return steps.half()
        return steps

    def decode(self, kept: Tensor, out: Tensor) -> None:
        """Write steps, as they came, into ``out`` ``[n, *shape]``."""
        if self.form == "bits":
            unpack_bits(kept, out)
        else:
            out.copy_(kept)

    def state_dict(self) -> dict[str, Any]:
        """Return it in primitives, which make it again."""
        return {"shape": tuple(self.shape), "dtype": self.dtype, "form": self.form}

    def __str__(self) -> str:
        kept = "" if self.form == "plain" else f" kept as {self.form}"
        return f"{list(self.shape)} {str(self.dtype).removeprefix('torch.')}{kept}"
