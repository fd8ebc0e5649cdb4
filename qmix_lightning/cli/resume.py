"""Which run ``--ckpt_path last`` or ``best`` means."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import yaml
from lightning.pytorch.loggers import Logger

from qmix_lightning.checkpointing import newest_checkpoint

WORDS = ("last", "best")
"""What may stand in place of a path."""


def newest_run(folder: Path, checkpoints: str | None = None) -> Path | None:
    """Find the run of a recipe that was begun last.

    Args:
        folder: Of the recipe's runs, each in ``version_k``; those of several seeds at once are passed over.
        checkpoints: Folder of its checkpoints, if it is not to be the run's own.

    Returns:
        The folder of the run, None if there is none.
    """
    runs = [path for path in folder.glob("version_*") if _is_run(path, checkpoints)]
    return max(runs, key=lambda path: int(path.name.removeprefix("version_")), default=None)


def chosen_run(loggers: Sequence[Logger], root: str | Path | None, checkpoints: str | None = None) -> Path | None:
    """Find the run that checkpoints of a trainer with these loggers belong to.

    Args:
        loggers: The trainer's; the first one that has a folder decides, as it does over the trainer's checkpoints.
        root: The trainer's own folder, which a run without a logger is in; None is where we stand.
        checkpoints: Folder of its checkpoints, if it is not to be the run's own.

    Returns:
        The folder of the run: the newest one of a logger that numbers them. None if no logger has one.
    """
    if not loggers:
        return Path(root or ".")
    for logger in loggers:
        runs = getattr(logger, "root_dir", None) if getattr(logger, "_version", "named") is None else None
        if runs is not None and (run := newest_run(Path(runs), checkpoints)):
            return run
        if folder := logger.log_dir:  # Asked last, because it makes one.
            return Path(folder)
    return None


def checkpoint_of(run: Path, word: str, checkpoints: str | None = None) -> Path | None:
    """Find the last or the best checkpoint of a run.

    Args:
        run: Folder of the run.
        word: ``"last"`` or ``"best"``.
        checkpoints: Folder of its checkpoints, if they are not in the run's own.

    Returns:
        Its path, None if there is none that can be read.
    """
    pattern = "*.ckpt" if word == "last" else f"{word}*.ckpt"
    return newest_checkpoint(Path(checkpoints) if checkpoints else run / "checkpoints", pattern)


def _is_run(path: Path, checkpoints: str | None) -> bool:
    if not re.fullmatch(r"version_\d+", path.name) or not path.is_dir() or (path / "sweep.json").exists():
        return False
    config = path / "config.yaml"
    try:
        saved = yaml.safe_load(config.read_text()) if config.exists() else None
    except yaml.YAMLError:
        saved = None
    # A run that was killed before it wrote its configuration, or while it did, may have a checkpoint all the same.
    return not isinstance(saved, dict) or (saved.get("checkpoint") or {}).get("dirpath") == checkpoints
