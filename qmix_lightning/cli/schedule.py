"""Trainers that could not do what a run does, and evaluations and ends that would never come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from qmix_lightning.callbacks.schedule import EnvStepSchedule
from qmix_lightning.cli.words import refuse
from qmix_lightning.datamodule import ReplayDataModule


def refuse_unfit_trainer(asked: Mapping[str, Any]) -> None:
    """Refuse, in a line, a trainer that leaves out what every run has, or forgets its processes.

    Args:
        asked: The arguments of Lightning's Trainer.
    """
    if asked["barebones"]:
        refuse(
            "trainer.barebones leaves out the logger, checkpoints and progress that all runs of this command line have."
            " Leave it out; from Python, Trainer(barebones=True) trains a QLearner as well."
        )
    if asked["enable_checkpointing"] is False:
        refuse(
            "All runs of this command line save checkpoints, and end with a test of the best, but"
            " trainer.enable_checkpointing is false. Leave it out; trainer.fast_dev_run writes nothing."
        )
    if str(asked["strategy"]).startswith(("ddp_spawn", "ddp_fork", "ddp_notebook")):
        refuse(
            "Battles and replay stay in the process that has them, but processes of trainer.strategy"
            f" {asked['strategy']} are forgotten after each fit. Take ddp."
        )


def refuse_bad_schedule(trainer: Trainer, learner: LightningModule, data: ReplayDataModule, asked: Any) -> None:
    """Refuse, in a line, evaluations and ends that Lightning would take and that would not come.

    Args:
        trainer: Who would train.
        learner: What would be trained.
        data: Its battles.
        asked: ``val_check_interval``, as the trainer was asked for it.
    """
    if not trainer.fast_dev_run:  # type: ignore[attr-defined]
        _refuse_unreached_evaluations(trainer, asked)
    last = trainer.max_steps
    rate = learner.hparams["final_learning_rate"]
    if rate is not None and last < 1:
        refuse(
            f"model.final_learning_rate {rate} is reached at the last update, but trainer.max_steps is {last}. Set"
            " max_steps, or final_learning_rate to null."
        )
    if data.prioritised and last < 1:
        refuse(
            "The importance exponent of data.prioritised reaches 1 at the last update, but trainer.max_steps is"
            f" {last}. Set max_steps, or prioritised to false."
        )


def _refuse_unreached_evaluations(trainer: Any, asked: Any) -> None:
    parts, batches = trainer.accumulate_grad_batches, trainer.limit_train_batches
    by_time, every = trainer._val_check_time_interval is not None, getattr(trainer, "val_check_interval", None)
    if not trainer.limit_val_batches:
        if not isinstance(every, int):
            refuse(
                "Without evaluations checkpoints come every trainer.val_check_interval updates, but that is"
                f" {asked}. Give a number of updates."
            )
        return
    if trainer.check_val_every_n_epoch not in (None, 1) and not isinstance(batches, int):
        refuse(
            f"Training is one epoch without an end, so that evaluations every {trainer.check_val_every_n_epoch} epochs"
            " never come, and checkpoints come with them. Leave trainer.check_val_every_n_epoch out, and give"
            " trainer.val_check_interval in updates."
        )
    if any(isinstance(callback, EnvStepSchedule) for callback in trainer.callbacks):
        return  # To whom the interval means nothing.
    if by_time and (trainer.world_size > 1 or parts > 1):
        refuse(
            f"Evaluations by the clock (trainer.val_check_interval {asked}) would come at other batches in other"
            f" processes, of which there are {trainer.world_size}, and between batches of an update, which has {parts}."
            " Give a number of batches."
        )
    if isinstance(every, float) and not isinstance(batches, int):
        refuse(
            f"Training is one epoch without an end, of which trainer.val_check_interval {asked} is no part that comes,"
            " and checkpoints come with evaluations. Give a number of updates."
        )
    if isinstance(every, int) and every % parts:
        refuse(
            f"Checkpoints come at evaluations and must not fall between the {parts} batches of an update, but"
            f" trainer.val_check_interval is {every}. Take a multiple of trainer.accumulate_grad_batches."
        )
    limited = isinstance(batches, int) and isinstance(every, int) and trainer.check_val_every_n_epoch is not None
    if limited and batches < every:
        refuse(
            f"An evaluation comes after {every} batches (trainer.val_check_interval), but an epoch has only {batches}"
            f" (trainer.limit_train_batches or overfit_batches). Take an interval of {batches} at most."
        )
