"""Where the time of a training goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from qmix_lightning.logger import is_logging_step, write

_WORK = {"collect": "env_steps", "sample": "batches", "update": "batches", "evaluate": "battles"}
"""What each stage gets done."""


class StageTimes(Callback):
    """Logs the share of each stage in the wall time, and how much it gets done in its own time.

    The stages: ``collect`` battles (if they are played meanwhile, the wait for them), ``sample`` the replay,
    ``update``, ``evaluate``, ``log`` by our callbacks, and the ``rest``: Lightning's loop, checkpoints, other
    callbacks. After each evaluation, or at logging steps if there are none, over the time since the last:
    ``speed/collect_share`` and so on, which add up to 1; ``speed/collect_env_steps_per_second``,
    ``speed/sample_batches_per_second``, ``speed/update_batches_per_second``, ``speed/evaluate_battles_per_second``.
    Times are those of the first process, steps and battles those of all. On a GPU a stage only queues its work, and
    whoever waits for it first is charged for it.

    Four readings of a clock a batch are all that it costs between logging steps. Be the first of the callbacks, so that
    none of the others counts as update or evaluation.

    Example:
        >>> trainer = Trainer(callbacks=[StageTimes()], logger=False, accelerator="cpu")
    """

    def __init__(self) -> None:
        self._began: dict[str, float] = {}
        self._own = {"update": 0.0, "evaluate": 0.0}
        self._last: dict[str, float] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count."""
        self._last = self._totals(trainer)

    def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:
        """An update begins."""
        self._began["update"] = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        """An update ends."""
        self._stop("update")
        if is_logging_step(trainer) and not trainer.enable_validation:
            self._log(trainer, 0)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """An evaluation begins."""
        self._began["evaluate"] = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """An evaluation ends."""
        self._stop("evaluate")
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._log(trainer, trainer.datamodule.val_episodes)  # type: ignore[attr-defined]

    def _stop(self, stage: str) -> None:
        self._own[stage] += time.perf_counter() - self._began[stage]

    def _log(self, trainer: Trainer, battles: int) -> None:
        before, self._last = self._last, self._totals(trainer)
        past = {name: total - before.get(name, 0.0) for name, total in self._last.items()}
        past["battles"] = battles
        shares = {f"speed/{stage}_share": past[stage] / max(past["all"], 1e-9) for stage in (*_WORK, "log")}
        rates = {f"speed/{k}_{what}_per_second": past[what] / past[k] for k, what in _WORK.items() if past[k] > 0}
        with counted(trainer, "log"):
            write(trainer, {**shares, "speed/rest_share": 1 - sum(shares.values()), **rates})

    def _totals(self, trainer: Trainer) -> dict[str, float]:
        data = trainer.datamodule  # type: ignore[attr-defined]
        told = {stage: data.seconds.get(stage, 0.0) for stage in ("collect", "sample", "log")}
        counts = {"all": time.perf_counter(), "env_steps": data.env_steps, "batches": trainer.global_step}
        return {**told, **self._own, **counts}


@contextmanager
def counted(trainer: Trainer, stage: str) -> Iterator[None]:
    """Add the time of what happens within to a stage of the trainer's data.

    Args:
        trainer: Whose data.
        stage: Its name.
    """
    began = time.perf_counter()
    yield
    seconds = trainer.datamodule.seconds  # type: ignore[attr-defined]
    seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - began
