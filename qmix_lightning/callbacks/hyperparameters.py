"""What a run was told, beside what came of it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from qmix_lightning.datamodule import ReplayDataModule
from qmix_lightning.logger import boards
from qmix_lightning.module import QLearner


class HyperParameters(Callback):
    """Shows the options of runs beside their last evaluation, in TensorBoard's tab HPARAMS.

    At the end of training, also of one that went on from a checkpoint: what runs differ by most (``Run/agent``,
    ``Run/env``, ``Run/max_steps``, ``Run/mixer``, ``Run/seed``), all other options of data and learner, some of the
    trainer's, and ``final/win_rate`` and whatever else was evaluated, with ``final/env_steps``. Options of options are
    flattened: ``data/env_options/episode_limit``.

    Args:
        agent: What made the agents, as it shall be shown; None shows the name of their class.
        mixer: Likewise for the mixer.

    Example:
        >>> trainer = Trainer(callbacks=[HyperParameters(mixer="QMixer, two layers")], logger=False, accelerator="cpu")
    """

    def __init__(self, agent: str | None = None, mixer: str | None = None) -> None:
        self.agent, self.mixer = agent, mixer
        self._final: dict[str, float] = {}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember what was evaluated; it may have been the last time."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            learner: QLearner = pl_module  # type: ignore[assignment]
            self._final = {f"final/{name}": mean for name, (mean, _, _) in learner.evaluation.items()}

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write them down."""
        if trainer.is_global_zero:
            learner: QLearner = pl_module  # type: ignore[assignment]
            data: ReplayDataModule = trainer.datamodule  # type: ignore[attr-defined]
            final = {**self._final, "final/env_steps": data.env_steps}
            for board in boards(trainer):
                board.log_hyperparams(self._options(trainer, learner, data), final)

    def state_dict(self) -> dict[str, Any]:
        """The last evaluation."""
        return dict(self._final)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from it."""
        self._final = dict(state_dict)

    def _options(self, trainer: Trainer, learner: QLearner, data: ReplayDataModule) -> dict[str, Mapping[str, Any]]:
        names = inspect.signature(type(data)).parameters
        return {
            # TensorBoard shows the first five by the alphabet unless it is told otherwise: those that runs differ by.
            "Run": {
                "agent": self.agent or type(learner.agent).__name__,
                "env": data.env,
                "max_steps": trainer.max_steps,
                "mixer": self.mixer or type(learner.mixer).__name__,
                "seed": data.seed,
            },
            "data": {
                name: getattr(data, name) for name in names if name not in ("env", "seed") and hasattr(data, name)
            },
            "model": {name: value for name, value in learner.hparams.items() if name != "spec"},
            "world": data.rollout.versions,
            "trainer": {
                "gradient_clip_val": trainer.gradient_clip_val,
                "precision": trainer.precision,
                "processes": trainer.world_size,
            },
        }
