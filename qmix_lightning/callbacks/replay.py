"""What the replay holds."""

from __future__ import annotations

from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer

from qmix_lightning.callbacks.stages import counted
from qmix_lightning.datamodule import ReplayDataModule
from qmix_lightning.logger import boards, is_logging_step, write
from qmix_lightning.replay.samplers.prioritised import PrioritisedSampler

_LOOKED_AT = 1_000
"""Episodes, evenly spread over the replay, whose mean age stands for that of all."""


class ReplayMonitor(Callback):
    """Logs how full the replay is, how old its episodes are, and how their priorities are spread.

    At logging steps ``train/replay_fill``, between 0 and 1, and ``train/replay_age``, the mean over the episodes of the
    environment steps that all battles have played since each was stored. At every ``every``-th logging step the
    histogram ``replay/priority``, if replay is prioritised. Of several processes, the first tells of its own share.

    Args:
        every: Logging steps from one histogram to the next.

    Raises:
        ValueError: If ``every`` is not positive.

    Example:
        >>> trainer = Trainer(callbacks=[ReplayMonitor()], logger=False, accelerator="cpu")
    """

    def __init__(self, every: int = 10) -> None:
        if every < 1:
            raise ValueError(f"every counts logging steps and must be positive, got {every}.")
        self.every = every
        self._stored: list[list[int]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to note when episodes are stored, or go on."""
        data: ReplayDataModule = trainer.datamodule  # type: ignore[attr-defined]
        written = data.buffer.storage.written
        if not self._stored or self._stored[-1][0] > written:
            # At the start, or where a run goes on without its replay.
            self._stored = [[written, data.env_steps]]

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Log at logging steps."""
        if not is_logging_step(trainer):
            return
        data: ReplayDataModule = trainer.datamodule  # type: ignore[attr-defined]
        with counted(trainer, "log"):
            self._note(data)
            fill = len(data.buffer) / data.buffer.storage.capacity
            write(trainer, {"train/replay_fill": fill, "train/replay_age": self._age(data)})
            if is_logging_step(trainer, self.every):
                self._log_priorities(trainer, data)

    def state_dict(self) -> dict[str, Any]:
        """When the episodes in the replay were stored."""
        return {"stored": [list(each) for each in self._stored]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Know the age of a replay that was restored."""
        self._stored = [list(each) for each in state_dict["stored"]]

    def _note(self, data: ReplayDataModule) -> None:
        written = data.buffer.storage.written
        self._stored.append([written, data.env_steps])
        while len(self._stored) > 2 and self._stored[1][0] <= written - len(data.buffer):
            del self._stored[0]

    def _age(self, data: ReplayDataModule) -> float:
        written, count = data.buffer.storage.written, len(data.buffer)
        episode = np.linspace(written - count + 1, written, min(count, _LOOKED_AT))
        # Between two logging steps episodes came evenly.
        numbers, steps = np.array(self._stored, dtype=np.float64).T
        return float(data.env_steps - np.interp(episode, numbers, steps).mean())

    def _log_priorities(self, trainer: Trainer, data: ReplayDataModule) -> None:
        sampler = data.buffer.sampler
        if trainer.is_global_zero and isinstance(sampler, PrioritisedSampler) and sampler.alpha > 0:
            priority = sampler.state_dict()["rates"] ** (1 / sampler.alpha)
            for board in boards(trainer):
                board.log_histograms({"replay/priority": priority})
