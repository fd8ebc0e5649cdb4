"""How fast and how far training is, measured in what the world sees."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from qmix_lightning.callbacks.stages import counted
from qmix_lightning.datamodule import ReplayDataModule
from qmix_lightning.logger import boards, is_logging_step, write
from qmix_lightning.module import QLearner


class TrainingMonitor(Callback):
    """Logs ε, the environment steps and updates a second, and how full the replay is; gives the loggers their x-axis.

    Logged at the trainer's logging steps, over all processes: ``train/epsilon``, ``train/env_steps``,
    ``train/episodes``, ``train/replay_episodes``, ``speed/env_steps_per_second``, ``speed/updates_per_second``. Rates
    are over the time since the last logging step, evaluations left out. Of games in processes of their own, also how
    often they were made anew: ``games/restarts`` over all processes, and by reason those of the first, e.g.
    ``games/crash_in_step``.

    Raises:
        TypeError: If the trainer has another data module or module than ours.

    Example:
        >>> from qmix_lightning.logger import EnvStepLogger
        >>> trainer = Trainer(callbacks=[TrainingMonitor()], logger=EnvStepLogger("3m", "logs"), accelerator="cpu")
    """

    def __init__(self) -> None:
        self._since = self._steps = self._updates = 0.0
        self._paused_at = 0.0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check who takes part, and give the loggers their x-axis."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, ReplayDataModule) or not isinstance(pl_module, QLearner):
            raise TypeError(
                f"TrainingMonitor expected a QLearner and a ReplayDataModule, got {type(pl_module).__name__} and"
                f" {type(data).__name__}."
            )
        for logger in boards(trainer):
            logger.env_steps = partial(getattr, data, "env_steps")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._restart(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self._paused_at = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the clock go on."""
        self._since += time.perf_counter() - self._paused_at

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Log at logging steps."""
        if not is_logging_step(trainer):
            return
        data: ReplayDataModule = trainer.datamodule  # type: ignore[attr-defined]
        learner: QLearner = pl_module  # type: ignore[assignment]
        seconds = max(time.perf_counter() - self._since, 1e-9)
        with counted(trainer, "log"):
            scalars = {
                "train/epsilon": float(learner.epsilon(data.env_steps)),
                "train/env_steps": data.env_steps,
                "train/episodes": data.ranks.sum(data.episodes),
                "train/replay_episodes": data.ranks.sum(len(data.buffer)),
                "speed/env_steps_per_second": (data.env_steps - self._steps) / seconds,
                "speed/updates_per_second": (trainer.global_step - self._updates) / seconds,
            }
            if data.rollout.plays_both:
                restarts = data.rollout.restarts
                scalars["games/restarts"] = data.ranks.sum(restarts.total())
                scalars |= {f"games/{reason.replace(' ', '_')}": count for reason, count in restarts.items()}
            write(trainer, scalars)
        self._restart(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Have all points on the disk before the checkpoint is: a run that goes on from it does not draw them again."""
        if trainer.is_global_zero:
            for logger in boards(trainer):
                logger.experiment.flush()

    def _restart(self, trainer: Trainer) -> None:
        self._since, self._updates = time.perf_counter(), trainer.global_step
        self._steps = trainer.datamodule.env_steps  # type: ignore[attr-defined]
