"""The checkpoints that a run goes on from."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


class LastCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint as it keeps the newest, which costs nothing at the updates at which none is due.

    Two of them, so that one is there whatever happens to the other.

    Args:
        dirpath: Folder of the checkpoints; None is the run's own.
        every: Updates from one to the next; None saves after every evaluation.

    Example:
        >>> LastCheckpoint("checkpoints", every=100).save_top_k
        2
    """

    def __init__(self, dirpath: str | Path | None = None, every: int | None = None) -> None:
        super().__init__(
            dirpath,
            "last-{step}",
            monitor="step",
            mode="max",
            save_top_k=2,
            every_n_train_steps=every,
            enable_version_counter=False,
        )
        self.every = every
        if not every:
            # Lightning passes over what is not callable.
            self.__dict__["on_train_batch_end"] = None

    @cached_property
    def state_key(self) -> str:
        """Lightning's, so that checkpoints written by its own class are read, and the other way round."""
        # Lightning asks for it at every update, and puts it together anew.
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Save, if it is time."""
        if self.every and trainer.global_step % self.every == 0:
            super().on_train_batch_end(trainer, pl_module, *args)
