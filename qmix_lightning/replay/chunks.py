"""Files of episodes that are written once and never changed."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, cast
from zlib import crc32

import torch

CHUNK = re.compile(r"\d{9,}-\d{9,}-[0-9a-f]{8}\.pt|\d{9,}-\d{9,}\.pt\.tmp")
"""The names of whole chunks, and of those in the making."""

_BLOCK = 1 << 24


def write_chunk(folder: Path, first: int, last: int, episodes: dict[str, Any]) -> dict[str, Any]:
    """Write episodes to a file that is there as a whole or not at all, whatever ends the process.

    The name says which episodes, and the checksum of the content: a run that goes on from an older checkpoint writes
    over a file of the run before it only if that has the same content.

    Args:
        folder: Where; it is made if it is not there.
        first: Number of the first of the episodes.
        last: Number of the last.
        episodes: Primitives and tensors.

    Returns:
        What it takes to find the file again and to know whether it is the same: ``name``, ``first``, ``last``,
        ``bytes``, ``crc32``.

    Raises:
        OSError: If the disk is full, or the folder not to be written to; other files are untouched.
    """
    part = folder / f"{first:09d}-{last:09d}.pt.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            checked = _Checked(file)
            torch.save(episodes, cast(BinaryIO, checked))
            if checked.trouble is not None:
                raise checked.trouble
            file.flush()
            os.fsync(file.fileno())
        name = f"{first:09d}-{last:09d}-{checked.crc32:08x}.pt"
        os.replace(part, folder / name)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise OSError(
            error.errno,
            f"Expected to save episodes {first} to {last} of the replay, got: {error.strerror}. Free space there, or"
            " save without the replay; what was saved before is untouched",
            str(folder),
        ) from error
    return {"name": name, "first": first, "last": last, "bytes": checked.bytes, "crc32": checked.crc32}


def read_chunk(folder: Path, chunk: dict[str, Any]) -> dict[str, Any]:
    """Read what :func:`write_chunk` wrote, as tensors that are mapped from the file.

    Args:
        folder: Where it is.
        chunk: What it returned.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is another one.
    """
    path, crc, size = folder / chunk["name"], 0, 0
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                crc, size = crc32(block, crc), size + len(block)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            error.errno,
            f"Expected episodes {chunk['first']} to {chunk['last']} of a saved replay, got no such file. Only the last"
            " checkpoints keep theirs: go on from a newer one, or without its replay",
            str(path),
        ) from error
    if (size, crc) != (chunk["bytes"], chunk["crc32"]):
        raise ValueError(
            f"Expected {path} to be the {chunk['bytes']:,} bytes of checksum {chunk['crc32']:08x} that were saved, got"
            f" {size:,} bytes of {crc:08x}. It was cut off or changed since: go on from another checkpoint, or without"
            " its replay."
        )
    episodes: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return episodes


def sync(folder: Path) -> None:
    """Wait until new names in a folder are on the disk too, where the file system can be asked to."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class _Checked:
    """A file that adds up what is written to it, and keeps its trouble to itself.

    An exception that passes through PyTorch's writer comes out of it as another one.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.bytes = self.crc32 = 0
        self.trouble: OSError | None = None

    def write(self, data: Any) -> int:
        """Write as long as it goes well."""
        self.crc32, self.bytes = crc32(data, self.crc32), self.bytes + len(data)
        if self.trouble is None:
            try:
                self._file.write(data)
            except OSError as error:
                self.trouble = error
        return len(data)

    def flush(self) -> None:
        """Leave it to the file's owner."""
