"""Short trainings with a cockpit, and what TensorBoard then reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from qmix_lightning.callbacks.dashboard import cockpit
from qmix_lightning.callbacks.film import BattleFilm
from qmix_lightning.callbacks.priorities import ReplayPriorities
from qmix_lightning.datamodule import ReplayDataModule
from qmix_lightning.logger import EnvStepLogger
from qmix_lightning.module import QLearner
from tests.training import quiet_trainer, small_data, small_learner


class Diary(Callback):
    """Notes the environment steps after each update, and a copy of each batch."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.batches: list[Any] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, *args: Any) -> None:
        self.steps.append(trainer.datamodule.env_steps)
        self.batches.append(batch.clone())


def fitted(
    folder: Path,
    env: str = "battle/3m",
    updates: int = 6,
    *,
    data: dict[str, Any] | None = None,
    learner: dict[str, Any] | None = None,
    callbacks: list[Callback] | None = None,
    ckpt_path: Path | None = None,
    film: BattleFilm | None = None,
    **options: Any,
) -> tuple[Trainer, QLearner, ReplayDataModule]:
    """Train with prioritised replay; log every second update, all that is drawn seldom too; evaluate every third."""
    made = small_data(env, **{"replay_ratio": 1.0, "prioritised": True, "capacity": 12, **(data or {})})
    module = small_learner(made, **(learner or {}))
    trainer = quiet_trainer(
        updates,
        callbacks=[*cockpit(every=1, film=film), ReplayPriorities(), *(callbacks or [])],
        **{
            "logger": EnvStepLogger("run", str(folder), version="one"), "log_every_n_steps": 2,
            "val_check_interval": 3, "limit_val_batches": 1, **options,
        },
    )  # fmt: skip
    trainer.fit(module, made, ckpt_path=ckpt_path, weights_only=True)
    return trainer, module, made


def events(folder: Path | str | None) -> EventAccumulator:
    """What TensorBoard reads of a folder."""
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "histograms": 0, "images": 0}).Reload()


def points(folder: Path | str | None, tag: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in events(folder).Scalars(tag)]
