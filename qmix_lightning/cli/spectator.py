"""The learner of a recipe and its checkpoint, to be watched instead of trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from qmix_lightning.cli.training import QMixCLI, quieten
from qmix_lightning.datamodule import ReplayDataModule
from qmix_lightning.module import QLearner

Show = Callable[[ReplayDataModule, QLearner, str], None]


class Spectator(QMixCLI):
    """Understands the words of ``qmix validate``, and hands over the learner that it would evaluate.

    Args:
        args: These words.
        show: What is done with the data, the learner, in evaluation mode, and what to call it.
    """

    def __init__(self, args: list[str], show: Show) -> None:
        quieten()
        self._show = show
        super().__init__(["validate", *args])

    def validate(self, **kwargs: Any) -> None:
        """Load the checkpoint, which was found fit before, and hand over."""
        name = type(self.model.mixer).__name__
        if self._checkpoint is None:
            name = f"untrained {name}"
        else:
            checkpoint = torch.load(self._checkpoint, map_location="cpu", weights_only=True)
            self.model.on_load_checkpoint(checkpoint)
            self.model.load_state_dict(checkpoint["state_dict"])
        self._show(self.datamodule, self.model.eval(), name)

    def after_validate(self) -> None:
        """There is nothing to report: whoever is shown the learner does."""
