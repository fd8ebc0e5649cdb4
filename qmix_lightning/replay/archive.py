"""Replay on a disk, beside a checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qmix_lightning.replay.buffer import ReplayBuffer
from qmix_lightning.replay.chunks import CHUNK, read_chunk, sync, write_chunk
from qmix_lightning.replay.storage import EpisodeStorage

Chunk = dict[str, Any]

_FEWEST = 64
"""Chunks that a full replay has at least, where they are large: a quarter of how many there may be."""


class ReplayArchive:
    """Saves a replay again and again, and writes only what is new.

    A replay of gigabytes changes by a few episodes between two checkpoints. They are written to a new file, a *chunk*,
    that never changes; a checkpoint holds the *manifest*, which names the chunks that the replay consisted of. So any
    checkpoint whose chunks are still there can be resumed exactly, whenever the run was killed.

    Of a large replay no more than a chunk is in memory twice. When there are too many chunks, neighbours are written
    anew as one: a folder holds up to ``most_chunks`` for the last manifest, and those of others until :meth:`prune`.

    Args:
        folder: Of one process, where nobody else writes.
        chunk_bytes: Size of the largest chunks; of a replay of more than 64 of them, a 64th of it.
        most_chunks: How many there may be before neighbours are joined.

    Example:
        >>> import tempfile
        >>> from tensordict import TensorDict
        >>> battles = TensorDict({"mask": torch.ones(4, 3, 1, dtype=torch.bool), "state": torch.rand(4, 3, 7)}, [4, 3])
        >>> saved, resumed = ReplayBuffer(5, batch_size=2), ReplayBuffer(5, batch_size=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     archive = ReplayArchive(folder)
        ...     for _ in range(3):
        ...         saved.extend(battles)
        ...         manifest = archive.save(saved)
        ...     ReplayArchive(folder).load(resumed, manifest)
        >>> [(chunk["first"], chunk["last"]) for chunk in manifest["chunks"]]
        [(4, 7), (8, 11)]
        >>> bool((saved.sample() == resumed.sample()).all())
        True
    """

    def __init__(self, folder: Path | str, *, chunk_bytes: int = 1 << 27, most_chunks: int = 4 * _FEWEST) -> None:
        self.folder, self.chunk_bytes, self.most_chunks = Path(folder), chunk_bytes, most_chunks
        self._chunks: list[Chunk] = []
        self._history: object = None

    def save(self, buffer: ReplayBuffer) -> dict[str, Any]:
        """Write the episodes that came since the last time.

        Returns:
            The manifest, of primitives and small tensors: what :meth:`load` needs beside the files.

        Raises:
            OSError: If the disk is full; what was saved before is untouched.
        """
        storage = buffer.storage
        oldest, end = storage.written - len(storage), storage.written
        chunks = [chunk for chunk in self._chunks if chunk["last"] >= oldest]
        if storage.history is not self._history or not all(map(self._is_there, chunks)):
            chunks = []
        first = chunks[-1]["last"] + 1 if chunks else oldest
        size = self._largest(storage)
        episodes = max(1, size // max(1, storage.episode_bytes()))
        new = [self._write(storage, at, min(at + episodes, end)) for at in range(first, end, episodes)]
        chunks += new
        if len(chunks) > self.most_chunks:
            chunks = self._joined(storage, chunks, size)
        if new:
            sync(self.folder)
        self._chunks, self._history = chunks, storage.history
        return {
            "capacity": storage.capacity,
            "written": storage.written,
            "form": storage.form(),
            "chunks": chunks,
            "sampler": buffer.sampler.state_dict(),
        }

    def load(self, buffer: ReplayBuffer, manifest: dict[str, Any]) -> None:
        """Replace a buffer's content by what was saved, so that it goes on as if it had never been away.

        Args:
            buffer: Of the same capacity and options.
            manifest: What :meth:`save` returned.

        Raises:
            FileNotFoundError: If a chunk is gone.
            ValueError: If a chunk was cut off or changed, or the buffer is of another capacity or other options.
        """
        storage, written, capacity = buffer.storage, manifest["written"], manifest["capacity"]
        if capacity != storage.capacity:
            raise ValueError(
                f"Expected a saved replay of capacity {storage.capacity}, got one of {capacity}. Set the capacity that"
                " it was saved with, or take a share of it by load_shards."
            )
        # All are looked at before the first is taken: where one is bad, the buffer stays as it is.
        read = [(chunk, read_chunk(self.folder, chunk)) for chunk in manifest["chunks"]]
        storage.begin(manifest["form"], written)
        for chunk, episodes in read:
            number = torch.arange(max(chunk["first"], written - capacity), chunk["last"] + 1)
            storage.put(number, _chosen(episodes, number - chunk["first"]))
        buffer.sampler.load_state_dict(manifest["sampler"])
        self._chunks, self._history = list(manifest["chunks"]), storage.history

    def prune(self, manifests: Iterable[dict[str, Any]]) -> None:
        """Remove chunks that neither these manifests nor the last one name, and what was left unfinished."""
        named = {chunk["name"] for chunk in self._chunks}
        named.update(chunk["name"] for manifest in manifests for chunk in manifest["chunks"])
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if CHUNK.fullmatch(path.name) and path.name not in named:
                path.unlink(missing_ok=True)

    def _is_there(self, chunk: Chunk) -> bool:
        path: Path = self.folder / chunk["name"]
        return path.is_file() and path.stat().st_size == int(chunk["bytes"])

    def _largest(self, storage: EpisodeStorage) -> int:
        return max(self.chunk_bytes, storage.capacity * storage.episode_bytes() // _FEWEST)

    def _write(self, storage: EpisodeStorage, first: int, end: int) -> Chunk:
        return write_chunk(self.folder, first, end - 1, storage.take(torch.arange(first, end)))

    def _joined(self, storage: EpisodeStorage, chunks: list[Chunk], size: int) -> list[Chunk]:
        """Neighbours as one where they fit, so that of any two neighbours one is larger than half of that."""
        groups: list[list[Chunk]] = []
        for chunk in chunks:
            if groups and sum(each["bytes"] for each in groups[-1]) + chunk["bytes"] <= size:
                groups[-1].append(chunk)
            else:
                groups.append([chunk])
        oldest = storage.written - len(storage)
        return [
            group[0] if len(group) == 1 else self._write(storage, max(group[0]["first"], oldest), group[-1]["last"] + 1)
            for group in groups
        ]


def load_shards(
    buffer: ReplayBuffer, archives: Sequence[tuple[Path | str, dict[str, Any]]], shard: int, shards: int
) -> None:
    """Replace a buffer's content by its share of a replay that was saved by another number of processes.

    All saved episodes are lined up by age, the newest of every process first, and dealt out: share i of n gets those at
    i, i + n, i + 2n, ..., of which it keeps the newest that fit. No episode comes twice, and as long as they fit, none
    is lost. Episodes and priorities are those that were saved. What is not the same: that two episodes of different
    processes are of one age is taken from how many came after them; and the draws are new, from the seed of the
    buffer's sampler.

    Args:
        buffer: Of any capacity, and of the options that the replay was saved with.
        archives: Folder and manifest of every process that there was.
        shard: Which share, 0, ..., ``shards - 1``.
        shards: Number of shares.

    Raises:
        FileNotFoundError: If a chunk is gone.
        ValueError: If a chunk was cut off or changed, the share is none, or the buffer has other options.

    Example:
        >>> buffer = ReplayBuffer(10, batch_size=2)
        >>> load_shards(buffer, [], shard=0, shards=2)
        >>> len(buffer)
        0
    """
    if not 0 <= shard < shards:
        raise ValueError(f"Expected a share from 0 to {shards - 1} of {shards}, got {shard}.")
    storage, manifests = buffer.storage, [manifest for _, manifest in archives]
    kept = [min(manifest["written"], manifest["capacity"]) for manifest in manifests]
    dealt = sorted((age, process) for process, count in enumerate(kept) for age in range(count))[shard::shards]
    ours = torch.tensor(dealt[: storage.capacity][::-1], dtype=torch.int64).view(-1, 2)
    form, place_before, read = _common_form(manifests), torch.zeros(len(ours), dtype=torch.int64), []
    for process, (folder, manifest) in enumerate(archives):
        now = (ours[:, 1] == process).nonzero().flatten()
        number = manifest["written"] - 1 - ours[now, 0]
        place_before[now] = number % manifest["capacity"]
        for chunk in manifest["chunks"]:
            here = (chunk["first"] <= number) & (number <= chunk["last"])
            if here.any():
                read.append((now[here], number[here] - chunk["first"], read_chunk(Path(folder), chunk)))
    storage.begin(form, len(ours))
    for number, which, episodes in read:
        storage.put(number, _chosen(episodes, which))
    buffer.sampler.inherit([manifest["sampler"] for manifest in manifests], ours[:, 1], place_before)


def _chosen(episodes: dict[str, Any], which: Tensor) -> dict[str, Any]:
    """Some of the episodes in a chunk, ``[k]`` in rising order."""
    lengths = episodes["lengths"]
    chosen = torch.zeros(len(lengths), dtype=torch.bool).index_fill_(0, which, True)
    if chosen.all():
        return episodes
    rows = chosen.repeat_interleave(lengths + 1).nonzero().flatten()
    return {
        "lengths": lengths[chosen],
        "rows": {name: kept.index_select(0, rows) for name, kept in episodes["rows"].items()},
    }


def _common_form(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    """What all episodes look like, with the padding of somebody who has any."""
    forms = [manifest["form"] for manifest in manifests if manifest["form"]]
    for form in forms[1:]:
        if (form["steps"], form["layouts"]) != (forms[0]["steps"], forms[0]["layouts"]):
            raise ValueError("Expected the shares of one replay, got episodes of different tasks or options.")
    return max(forms, key=lambda form: len(form["padding"]), default={})
