"""The size of the optimizer's steps: to the last update, and in a run that goes on by other options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Trainer
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from qmix_lightning.exploration.schedules import linear


def decaying(optimizer: Optimizer, options: Mapping[str, Any], trainer: Trainer) -> LambdaLR:
    """Make the schedule that goes in a straight line to ``final_learning_rate`` at the trainer's last update.

    Args:
        optimizer: Whose steps.
        options: The learner's, with ``learning_rate`` and ``final_learning_rate``.
        trainer: Who counts updates.

    Raises:
        ValueError: If there is no last update.
    """
    last, rate, final = trainer.max_steps, options["learning_rate"], options["final_learning_rate"]
    if last < 1:
        raise ValueError(
            f"final_learning_rate is reached at the trainer's last update, but max_steps is {last}. Set max_steps, or"
            " leave final_learning_rate None."
        )
    # A function is not part of the scheduler's state: a run that goes on decays to its own last update.
    return LambdaLR(optimizer, lambda update: linear(update, 1.0, final / rate, last))


def keep_own_rate(checkpoint: dict[str, Any], options: Mapping[str, Any], last: int) -> None:
    """Have a run that goes on learn at the rate that it is told now, where that is another than it was told before.

    An optimizer keeps its rate with its state, and torch would go on with that one.

    Args:
        checkpoint: Where it goes on from, whose optimizer is changed; one of the same options stays as it is.
        options: The learner's, with ``learning_rate`` and ``final_learning_rate``.
        last: The trainer's last update.
    """
    names = ("learning_rate", "final_learning_rate")
    before = checkpoint.get("hyper_parameters", {})
    if all(before.get(name, options[name]) == options[name] for name in names):
        return
    rate, final = (options[name] for name in names)
    done = checkpoint["global_step"]
    now = rate if final is None else linear(done, rate, final, max(last, 1))
    for state in checkpoint.get("optimizer_states", ()):
        for group in state["param_groups"]:
            group |= {"lr": now, "initial_lr": rate}
    # That of a constant rate was not saved, for there was none.
    counted = {"last_epoch": done, "_step_count": done + 1, "lr_lambdas": [None]}
    checkpoint["lr_schedulers"] = [
        {**state, "base_lrs": [rate], "_last_lr": [now]} for state in checkpoint.get("lr_schedulers") or [counted]
    ]


def refuse_other_optimizer(checkpoint: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Refuse to train on with another optimizer than that whose state was saved.

    Args:
        checkpoint: Where training would go on from.
        options: The learner's, with ``optimizer``.

    Raises:
        ValueError: If it is of another optimizer.
    """
    ours = options["optimizer"]
    theirs = checkpoint.get("hyper_parameters", {}).get("optimizer", ours)
    if theirs != ours:
        raise ValueError(
            f"Expected a checkpoint of a training by {ours}, got one by {theirs}, whose state {ours} cannot use. Go on"
            f" with optimizer {theirs}, or start a new run."
        )
