"""How far evaluations can be trusted, and the values with them."""

from __future__ import annotations

import math
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from tensordict import TensorDict

from qmix_lightning.callbacks.networks import chosen_values, joint_value
from qmix_lightning.callbacks.stages import counted
from qmix_lightning.functional.returns import td1_targets
from qmix_lightning.logger import write
from qmix_lightning.metrics.values import Overestimation
from qmix_lightning.module import QLearner
from qmix_lightning.spec import DONE, MASK, REWARD, STATE, TERMINATED

_LOOKED_AT = 32
"""Battles of an evaluation, on each process, whose values are compared with what was earned."""


class EvaluationMonitor(Callback):
    """Logs the 95 % intervals of win rate and return, and how far the values exceed the returns.

    After each evaluation of a fit: ``val/win_rate_low``, ``val/win_rate_high``, ``val/return_low``,
    ``val/return_high``, and ``val/overestimation``, the mean difference between the value of the joint action and the
    discounted return from there on, over the steps of up to 32 battles on each process.

    Example:
        >>> trainer = Trainer(callbacks=[EvaluationMonitor()], logger=False, accelerator="cpu")
    """

    def __init__(self) -> None:
        self._overestimation = Overestimation()

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: TensorDict, *args: Any
    ) -> None:
        """Compare values with returns."""
        if not _wanted(trainer):
            return
        learner: QLearner = pl_module  # type: ignore[assignment]
        battles = batch[:_LOOKED_AT]
        reward, mask = battles[REWARD], battles[MASK]
        realised = predicted = torch.zeros_like(reward)
        if len(battles):
            predicted = joint_value(learner, chosen_values(learner, battles), battles[STATE])
            realised = td1_targets(
                reward.masked_fill(~mask, 0.0),
                torch.zeros_like(reward),
                battles[TERMINATED],
                battles[DONE],
                gamma=learner.hparams["gamma"],
            )
        self._overestimation.to(reward.device).update(predicted, realised, mask)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log."""
        if not _wanted(trainer):
            return
        # Over all processes, each of which asks.
        scalars = {"val/overestimation": float(self._overestimation.compute())}
        self._overestimation.reset()
        learner: QLearner = pl_module  # type: ignore[assignment]
        for name in ("win_rate", "return"):
            if name in learner.evaluation:
                _, low, high = learner.evaluation[name]
                scalars |= {f"val/{name}_low": low, f"val/{name}_high": high}
        with counted(trainer, "log"):
            write(trainer, {name: scalar for name, scalar in scalars.items() if math.isfinite(scalar)})


def _wanted(trainer: Trainer) -> bool:
    return trainer.state.fn == "fit" and not trainer.sanity_checking and bool(trainer.loggers)
