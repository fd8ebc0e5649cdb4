"""Which checkpoint is the best."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor


class BestCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint, in which a second figure decides between equals.

    Win rates are often equal: 0 at first, and on maps that are never won to the end; 1 at last. Lightning keeps the
    first of them. Here a later one with a higher ``tie`` takes its place. Checkpoints remember the figure, so that who
    goes on judges as if never interrupted. Only where one is kept: with another ``save_top_k`` than 1, all goes by
    ``monitor``.

    Args:
        dirpath: Folder of the checkpoints; None is the run's own.
        filename: Their name, in which figures may stand in braces.
        tie: Figure of which the higher wins where those of ``monitor`` are equal; None leaves it to the first.
        **options: Those of Lightning's ModelCheckpoint.

    Example:
        >>> saver = BestCheckpoint("checkpoints", "best-{step}", monitor="val/win_rate", mode="max")
        >>> saver.tie
        'val/return'
    """

    def __init__(
        self,
        dirpath: str | Path | None = None,
        filename: str | None = None,
        tie: str | None = "val/return",
        **options: Any,
    ) -> None:
        super().__init__(dirpath, filename, **options)
        self.tie = tie
        self._best_tie: float | None = None
        every, interval = (options.get(name) for name in ("every_n_train_steps", "train_time_interval"))
        if not every and interval is None:
            # Nothing is saved but at evaluations: Lightning passes over what is not callable.
            self.__dict__["on_train_batch_end"] = None

    @property
    def state_key(self) -> str:
        """Lightning's, so that checkpoints written by its own class are read, and the other way round."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        """Whether a checkpoint is to be kept, which then is the one that others are compared with.

        Args:
            trainer: Who trains.
            current: The figure of ``monitor``.
        """
        kept = bool(super().check_monitor_top_k(trainer, current))
        found = trainer.callback_metrics.get(self.tie) if self.tie is not None else None
        tie = None if found is None else float(found)
        if not kept and self.save_top_k == 1 and current is not None and self.best_model_score is not None:
            equal = bool(current == self.best_model_score)
            higher = tie is not None and self._best_tie is not None and tie > self._best_tie
            kept = trainer.strategy.reduce_boolean_decision(equal and higher)
        if kept:
            self._best_tie = tie
        return kept

    def state_dict(self) -> dict[str, Any]:
        """Lightning's, and the second figure of the best checkpoint."""
        return {**super().state_dict(), "best_tie": self._best_tie}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on; in another folder the best is yet to be found."""
        super().load_state_dict(state_dict)
        if self.dirpath == state_dict.get("dirpath", self.dirpath):
            self._best_tie = state_dict.get("best_tie")
