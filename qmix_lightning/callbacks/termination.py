"""An end that all processes come to at the same update."""

from __future__ import annotations

import signal
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class TogetherOnSigterm(Callback):
    """Ends a training of several processes after the same update in all of them when any was told to stop (SIGTERM).

    Lightning's handler broadcasts from within the signal, wherever that came: the others are then in the middle of an
    exchange of gradients, and all wait for ever. Here the signal is noted, passed on to the processes that this one
    started, and agreed upon once an update. Then Lightning ends, as it does with one process.

    Example:
        >>> trainer = Trainer(callbacks=[TogetherOnSigterm()], logger=False, enable_checkpointing=False)
    """

    def __init__(self) -> None:
        self._told = False

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signal."""
        self._listen(trainer)

    on_train_start = on_validation_start = on_test_start = on_sanity_check_start

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Agree."""
        if trainer.world_size > 1 and trainer.strategy.reduce_boolean_decision(self._told, all=False):
            trainer._signal_connector.received_sigterm = True

    def _listen(self, trainer: Trainer) -> None:
        composed = getattr(signal.getsignal(signal.SIGTERM), "signal_handlers", None)
        theirs = trainer._signal_connector._sigterm_notifier_fn
        if trainer.world_size == 1 or not composed or theirs not in composed:
            return

        def note(number: int, _: Any) -> None:
            if not self._told and trainer.strategy.launcher is not None:
                trainer.strategy.launcher.kill(number)
            self._told = True

        self._told = False
        # In their place: others, such as SLURM's, stay.
        composed[composed.index(theirs)] = note
