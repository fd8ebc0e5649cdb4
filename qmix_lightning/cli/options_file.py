"""The options of a run, beside its checkpoints."""

from __future__ import annotations

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback


class OptionsFile(SaveConfigCallback):
    """Lightning's SaveConfigCallback, which writes when training begins and not while it is prepared.

    What is refused until then, such as a checkpoint that does not fit, leaves the options of the run that it would have
    gone on with as they were.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Do nothing yet."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write ``config.yaml``."""
        super().setup(trainer, pl_module, "fit")
