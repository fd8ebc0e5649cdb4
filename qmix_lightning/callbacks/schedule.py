"""Evaluations and the end of training by environment steps, as papers count."""

from __future__ import annotations

import math
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from qmix_lightning.datamodule import ReplayDataModule


class EnvStepSchedule(Callback):
    """Evaluates whenever so many environment steps more were played, and ends training after a number of them.

    Lightning counts updates, of which an environment step gets the more the shorter episodes are. Where this callback
    is, the trainer's ``val_check_interval`` is without meaning; ``max_steps`` may be -1, which is no limit.

    Args:
        evaluate_every: Environment steps between two evaluations.
        stop_at: Environment steps after which training ends; None leaves its end to the trainer.

    Raises:
        ValueError: If a number is not positive.

    Example:
        >>> trainer = Trainer(callbacks=[EnvStepSchedule(10_000, stop_at=2_050_000)], logger=False, accelerator="cpu")
    """

    def __init__(self, evaluate_every: int = 10_000, stop_at: int | None = None) -> None:
        for name, number in (("evaluate_every", evaluate_every), ("stop_at", stop_at)):
            if number is not None and number < 1:
                raise ValueError(f"{name} counts environment steps and must be positive, got {number}.")
        self.evaluate_every, self.stop_at = evaluate_every, stop_at
        self._evaluations = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take evaluations out of Lightning's hands."""
        trainer.val_check_batch = math.inf

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Ask for an evaluation, or for the end, if it is time, and the batch was the last of its update."""
        data: ReplayDataModule = trainer.datamodule  # type: ignore[attr-defined]
        due = data.env_steps // self.evaluate_every
        updated = not trainer.fit_loop.epoch_loop._should_accumulate()
        # Lightning evaluates after each batch whose number is a multiple of this one.
        trainer.val_check_batch = 1 if updated and due > self._evaluations else math.inf
        if trainer.val_check_batch == 1:
            self._evaluations = due
        if updated and self.stop_at is not None and data.env_steps >= self.stop_at:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """How many evaluations there were."""
        return {"evaluations": self._evaluations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on after them."""
        self._evaluations = state_dict["evaluations"]
