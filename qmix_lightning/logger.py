"""TensorBoard with environment steps on the x-axis."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
from torch import Tensor

_LARGEST = 1e20
"""Where TensorBoard's histograms end."""


class EnvStepLogger(TensorBoardLogger):
    """Writes everything against the environment steps collected, which is what learning curves are compared by.

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
        # Training waits for the disk whenever more points come at once than the writer's queue holds: 10 unless told.
        super().__init__(save_dir, name=name, version=version, default_hp_metric=False, max_queue=1_000)
        self.env_steps: Callable[[], int] | None = None

    def go_on_from(self, env_steps: int) -> None:
        """Take back the points after so many environment steps, which a run that was broken off will draw anew."""
        self._kwargs["purge_step"] = env_steps + 1

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write scalars against the environment steps, once a monitor has told where to read them."""
        # Lightning adds its epoch to everything; here there is only one.
        shown = {name: value for name, value in metrics.items() if name != "epoch"}
        step = step if self.env_steps is None else self.env_steps()
        if not all(isinstance(value, int | float | Tensor) for value in shown.values()):
            super().log_metrics(shown, step)
        elif shown:
            # One record for all of them takes a fifth of the time that one for each does.
            values = [Summary.Value(tag=name, simple_value=float(value)) for name, value in shown.items()]
            self.experiment._get_file_writer().add_summary(Summary(value=values), step)

    @rank_zero_only
    def log_hyperparams(self, params: Any, metrics: dict[str, Any] | None = None, step: int | None = None) -> None:
        """Write options and, at the end of a run, what came of them, which the tab HPARAMS compares over runs."""
        super().log_hyperparams(params, metrics, step if self.env_steps is None else self.env_steps())

    @rank_zero_only
    def log_histograms(self, histograms: Mapping[str, Tensor]) -> None:
        """Write how the elements of tensors are distributed.

        Args:
            histograms: By tag, tensors of any shape. Elements that are not finite are left out.
        """
        for tag, values in histograms.items():
            shown = values.detach().flatten()
            shown = shown[shown.abs() < _LARGEST]
            if len(shown):
                self.experiment.add_histogram(tag, shown.float().cpu().numpy(), self._now())

    @rank_zero_only
    def log_animation(self, tag: str, gif: bytes) -> None:
        """Write a GIF, which the tab IMAGES plays: the way in for whoever draws battles.

        Args:
            tag: How it is called, e.g. ``"val/battle"``.
            gif: The file's content.

        Raises:
            ValueError: If it is no GIF.
        """
        if gif[:6] not in (b"GIF87a", b"GIF89a"):
            raise ValueError(f"Expected the content of a GIF file for {tag!r}, got bytes that begin with {gif[:6]!r}.")
        width, height = (int.from_bytes(gif[at : at + 2], "little") for at in (6, 8))
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=gif)
        summary = Summary(value=[Summary.Value(tag=tag, image=image)])
        self.experiment._get_file_writer().add_summary(summary, self._now())

    @rank_zero_only
    def log_layout(self, layout: Mapping[str, Mapping[str, list[Any]]]) -> None:
        """Write how the tab CUSTOM SCALARS groups the curves.

        Args:
            layout: By the names of groups and of their charts, ``["Multiline", tags]``, in which tags are regular
                expressions, or ``["Margin", [value, lower, upper]]``.
        """
        self.experiment.add_custom_scalars(layout)

    def _now(self) -> int:
        return 0 if self.env_steps is None else self.env_steps()

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


def boards(trainer: Trainer) -> list[EnvStepLogger]:
    """The loggers of a trainer that can show more than scalars."""
    return [logger for logger in trainer.loggers if isinstance(logger, EnvStepLogger)]


def write(trainer: Trainer, scalars: Mapping[str, float], update: int | None = None) -> None:
    """Give scalars to all loggers of a trainer at once, on the first of its processes.

    ``LightningModule.log`` keeps account of means over batches and processes, which takes it 0.3 ms a scalar. Where
    nothing is to be averaged, and no checkpoint or progress bar asks, the loggers alone do.

    Args:
        trainer: Whose loggers.
        scalars: Numbers by tag.
        update: To which they belong, as Lightning counts them, from 0; None is the one that was just finished. Our
            logger goes by environment steps.
    """
    if trainer.is_global_zero:
        update = max(trainer.global_step - 1, 0) if update is None else update
        for logger in trainer.loggers:
            logger.log_metrics(scalars, step=update)  # type: ignore[arg-type]


def is_logging_step(trainer: Trainer, every: int = 1) -> bool:
    """Whether the update that a trainer has just finished is to be logged.

    Args:
        trainer: In its hook ``on_train_batch_end``.
        every: Of how many logging steps one counts.
    """
    steps: int = trainer.log_every_n_steps * every  # type: ignore[attr-defined]
    # Asked by several with every batch: what mostly says no comes first.
    if steps < 1 or trainer.global_step % steps or not trainer.loggers:
        return False
    return (trainer.fit_loop.batch_idx + 1) % trainer.accumulate_grad_batches == 0
