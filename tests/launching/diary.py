"""A callback that each process of a training loads by its name, to write down which one it was."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class Diary(Callback):
    """Writes ``rank.json`` into a folder at the end of a fit, and ``begun`` after ten updates.

    Args:
        folder: Where to.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.first_update = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember where training begins: at 0, unless it goes on from a checkpoint."""
        self.first_update = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Tell whoever waits that training is under way."""
        if trainer.global_step == self.first_update + 10:
            (self.folder / "begun").touch()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what this process knows about the training."""
        weights = torch.cat([parameter.detach().flatten() for parameter in pl_module.parameters()])
        entry = {
            "world_size": trainer.world_size,
            "node": trainer.node_rank,
            "num_nodes": trainer.num_nodes,
            "strategy": type(trainer.strategy).__name__,
            "precision": str(trainer.precision),
            "first_update": self.first_update,
            "updates": trainer.global_step,
            "weights": weights.double().sum().item(),
            "folder": str(trainer.log_dir),
            "threads": os.environ.get("OMP_NUM_THREADS"),
        }
        (self.folder / f"{trainer.global_rank}.json").write_text(json.dumps(entry))
