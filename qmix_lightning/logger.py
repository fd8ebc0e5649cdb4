"""TensorBoard with environment steps on the x-axis."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only


class EnvStepLogger(TensorBoardLogger):
    """Writes every scalar against the environment steps collected, which is what learning curves are compared by.

    Every run has a folder of its own, ``save_dir/name/version_k``, also when several start at once; nothing is written
    over an earlier one.

    Args:
        name: Folder of the runs of one recipe, e.g. ``battle-3m``.
        save_dir: Folder of all runs.
        version: Folder of this run; None takes the next free ``version_k``.

    Example:
        >>> EnvStepLogger("battle-3m", version="mine").log_dir
        'logs/battle-3m/mine'
    """

    def __init__(self, name: str = "qmix", save_dir: str = "logs", version: str | int | None = None) -> None:
        super().__init__(save_dir, name=name, version=version, default_hp_metric=False)
        self.env_steps: Callable[[], int] | None = None

    def go_on_from(self, env_steps: int) -> None:
        """Take back the points after so many environment steps, which a run that was broken off will draw anew."""
        self._kwargs["purge_step"] = env_steps + 1

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write scalars against the environment steps, once a monitor has told where to read them."""
        # Lightning adds its epoch to everything; here there is only one.
        shown = {name: value for name, value in metrics.items() if name != "epoch"}
        super().log_metrics(shown, step if self.env_steps is None else self.env_steps())

    def _get_next_version(self) -> int:
        version: int = super()._get_next_version()
        # Runs that start at the same time must not share a folder: it belongs to whoever makes it.
        while getattr(rank_zero_only, "rank", 0) == 0:
            try:
                (Path(self.root_dir) / f"version_{version}").mkdir(parents=True)
                break
            except FileExistsError:
                version += 1
        return version
