"""Checkpoints that are whole or not there, which of them is the last, and whether one is of another learner."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from torch import Tensor

from qmix_lightning.spec import TaskSpec


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and moves it there when it is complete and on the disk.

    Whoever looks, whatever was killed or filled the disk, finds the checkpoint before or the one after, never a part.
    Lightning's own writes to the temporary folder first, from where a move to another file system is a copy, and holds
    the whole file in memory. Paths that are not local are left to it.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> trainer = Trainer(plugins=[AtomicCheckpointIO()], logger=False, accelerator="cpu")
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint.

        Raises:
            OSError: If the disk is full; the checkpoint that was there before is untouched.
        """
        if "://" in str(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
        else:
            write_whole(checkpoint, Path(path))


def write_whole(content: Any, path: Path) -> None:
    """Save ``content`` by ``torch.save``, atomically and durably.

    Raises:
        OSError: If it cannot be written; what was at ``path`` before is untouched, as it is whatever else is raised.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part{os.getpid()}")
    trouble: list[OSError] = []
    try:
        with part.open("wb") as file:
            torch.save(content, cast(BinaryIO, _Witness(file, trouble)))
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        # torch reports a full disk as a RuntimeError, if need be without a reason.
        reason = error if isinstance(error, OSError) else trouble[0] if trouble else None
        if reason is None:
            raise
        raise OSError(
            reason.errno or errno.ENOSPC,
            f"Expected to write {path}, but it broke off ({reason}). What was saved before is untouched: make room, and"
            " go on from it",
        ) from error
    _sync_folder(path.parent)


class _Witness:
    """A file that keeps what it objects to, because PyTorch's writer makes another error of that.

    Args:
        file: Where everything is written.
        trouble: To which its objections are added.
    """

    def __init__(self, file: BinaryIO, trouble: list[OSError]) -> None:
        self._file, self._trouble = file, trouble

    def write(self, data: Any) -> int:
        """Write, or raise what is in the way."""
        try:
            return self._file.write(data)
        except OSError as error:
            self._trouble.append(error)
            raise

    def flush(self) -> None:
        """Leave it to the file's owner."""


def newest_checkpoint(folder: Path, pattern: str = "*.ckpt") -> Path | None:
    """Find the checkpoint of a folder that is furthest in training; unreadable files are passed over.

    Args:
        folder: Where to look.
        pattern: Which files count.

    Returns:
        The checkpoint with the most updates, the one written last if several have them; None if there is none.
    """
    found = []
    for path in folder.glob(pattern):
        with suppress(Exception):  # Half a file fails wherever its reader happens to stumble.
            checkpoint = torch.load(path, map_location="meta", weights_only=True, mmap=True)
            found.append((checkpoint["global_step"], path.stat().st_mtime_ns, path))
    return max(found)[2] if found else None


def _sync_folder(folder: Path) -> None:
    # A new name is only on the disk once its folder is.
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def refuse_other_task(task: Mapping[str, Any] | None, spec: TaskSpec) -> None:
    """Refuse a checkpoint of another task.

    Args:
        task: The fields of the checkpoint's :class:`TaskSpec`; None if it has none.
        spec: The task at hand.

    Raises:
        ValueError: If their sizes differ.
    """
    ours = asdict(spec)
    sizes = ("n_agents", "n_actions", "observation_size", "state_size")
    if task is None or any(task[size] != ours[size] for size in sizes):
        came = "of nothing that QLearner saved" if task is None else f"of {task['name']} ({_sizes(task)})"
        raise ValueError(
            f"The checkpoint is {came}, but the task is {spec.name} ({_sizes(ours)})."
            " Choose the checkpoint's own task with data.env, or another checkpoint."
        )


def refuse_other_networks(theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> None:
    """Refuse the parameters of other networks: those kept as a tensordict load whatever they are given.

    Args:
        theirs: A checkpoint's, by name.
        ours: The learner's.

    Raises:
        ValueError: If there are others, or of other shapes.
    """
    before, now = ({name: list(tensor.shape) for name, tensor in state.items()} for state in (theirs, ours))
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            raise ValueError(
                f"The checkpoint has other networks than the model: {name} is {before.get(name, 'missing')} there"
                f" and {now.get(name, 'missing')} here. Give the agent, mixer and target_update that it was"
                " trained with; the config.yaml of its run tells."
            )


def _sizes(task: Mapping[str, Any]) -> str:
    return f"{task['n_agents']} agents, {task['n_actions']} actions, observation {task['observation_size']}"
