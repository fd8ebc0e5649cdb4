"""Which run ``--ckpt_path last`` or ``best`` means."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

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
    saved = yaml.safe_load(config.read_text()) if config.exists() else None
    # A run that was killed before it wrote its configuration has no checkpoint either.
    return saved is None or (saved.get("checkpoint") or {}).get("dirpath") == checkpoints
