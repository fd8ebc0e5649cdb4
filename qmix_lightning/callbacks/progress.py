"""A progress bar that speaks of battles."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_REFRESH_SECONDS = 0.25
_BESIDE = len("━━━━ 00:00:00 left 00:00:00") + 2
"""Room on a line for the shortest bar, the times, and the gaps around the updates and the figures."""
_BAR = (("win", "val/win_rate", ".1%"), ("return", "val/return", ".2f"), ("loss", "train/loss", ".3g"))
_LINE = (
    ("win rate", "val/win_rate", "6.1%"),
    ("return", "val/return", "6.2f"),
    ("length", "val/episode_length", "5.1f"),
)


class BattleProgress(ProgressBar):
    """Shows updates, environment steps, win rate, return, loss and speed, and prints a line for every evaluation.

    Where the output is no terminal the bar is left out and the lines stay. On a narrow one the last figures of the bar
    are left out, loss first.

    Args:
        console: Where to draw; None is standard output.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> trainer = Trainer(callbacks=[BattleProgress()], logger=False, accelerator="cpu")
    """

    def __init__(self, console: Console | None = None) -> None:
        super().__init__()
        self._console = console or Console()
        self._enabled = True
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._shown = 0.0
        self._started = (0.0, 0)

    def disable(self) -> None:
        """Show nothing."""
        self._enabled = False

    def enable(self) -> None:
        """Show again."""
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to draw."""
        if not self._enabled:
            return
        self._started = (time.perf_counter(), _env_steps(trainer))
        self._bar = Progress(
            TextColumn(f"[bold]{{task.completed}}[/]{_of_all(trainer)}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
            refresh_per_second=2,
        )
        total = trainer.max_steps if trainer.max_steps > 0 else None
        self._task = self._bar.add_task("", total=total, completed=trainer.global_step, figures="")
        self._bar.start()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Draw, a few times a second."""
        if self._bar is None or self._bar.disable:
            return
        now = time.perf_counter()
        if now - self._shown >= _REFRESH_SECONDS:
            self._shown = now
            self._bar.update(self._task, completed=trainer.global_step, figures=self._figures(trainer))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print what an evaluation during training found."""
        if self._bar is not None and not trainer.sanity_checking:
            self._bar.console.print(_evaluation(trainer), highlight=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop drawing."""
        self._stop(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the terminal back."""
        self._stop(trainer)

    def _stop(self, trainer: Trainer) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=trainer.global_step, figures=self._figures(trainer))
            self._bar.stop()
            self._bar = None

    def _figures(self, trainer: Trainer) -> str:
        since, steps_before = self._started
        steps = _env_steps(trainer)
        rate = (steps - steps_before) / max(time.perf_counter() - since, 1e-9)
        metrics = trainer.callback_metrics
        parts = [f"{steps:,} env steps", f"{rate:,.0f}/s"]
        parts += [f"{name} {float(metrics[key]):{form}}" for name, key, form in _BAR if key in metrics]
        # Rich would cut the times and the updates instead, which are what one looks at.
        room = self._console.width - len(f"{trainer.global_step}{_of_all(trainer)}") - _BESIDE
        while len(parts) > 1 and len(" · ".join(parts)) > room:
            parts.pop()
        return " · ".join(parts)


def _of_all(trainer: Trainer) -> str:
    return f"/{trainer.max_steps} updates" if trainer.max_steps > 0 else " updates"


def _env_steps(trainer: Trainer) -> int:
    return int(getattr(trainer.datamodule, "env_steps", 0))  # type: ignore[attr-defined]


def _evaluation(trainer: Trainer) -> str:
    metrics = trainer.callback_metrics
    parts = [f"{_env_steps(trainer):>9,} env steps"]
    parts += [f"{name} {float(metrics[key]):{form}}" for name, key, form in _LINE if key in metrics]
    return "   ".join(parts)
