"""The way back of prioritised replay: from the errors of the learner to the priorities of the world's episodes."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from tensordict import TensorDict

from qmix_lightning.datamodule import ReplayDataModule
from qmix_lightning.exploration.schedules import linear
from qmix_lightning.functional.priorities import episode_priority
from qmix_lightning.module import QLearner
from qmix_lightning.replay.samplers.prioritised import PrioritisedSampler
from qmix_lightning.spec import EPISODE, MASK, PRIORITY_WEIGHT, TD_ERROR


class ReplayPriorities(Callback):
    """Tells the replay, after each update, how much each episode of the batch surprised the learner.

    Before the first update it switches on the importance weights of the loss, whose exponent β goes from the data's
    ``importance_exponent`` in a straight line to 1 at the trainer's last update. Logged at the trainer's logging steps:
    ``train/beta`` and ``train/priority_max``, the largest priority of the batch.

    Args:
        eta: Share η of the largest error of an episode in its priority; the rest is their mean.

    Raises:
        TypeError: If the trainer has another data module or module than ours.
        ValueError: If η is out of range, replay is not prioritised, or training has no last update.

    Example:
        >>> data = ReplayDataModule("matrix/two_step", prioritised=True)
        >>> trainer = Trainer(max_steps=2_000, callbacks=[ReplayPriorities()], accelerator="cpu", logger=False)
        >>> # and so trainer.fit(QLearner(data.spec), data)

    Source:
        Schaul et al., "Prioritized Experience Replay", 2016; priorities of sequences as in Kapturowski et al.,
        "Recurrent Experience Replay in Distributed Reinforcement Learning", 2019.
    """

    def __init__(self, eta: float = 0.9) -> None:
        if not 0 <= eta <= 1:
            raise ValueError(f"eta must lie in [0, 1], got {eta}.")
        self.eta = eta

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check who takes part in a fit, and switch on the loss's importance weights."""
        if stage != "fit":
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, ReplayDataModule) or not isinstance(pl_module, QLearner):
            raise TypeError(
                f"ReplayPriorities expected a QLearner and a ReplayDataModule, got {type(pl_module).__name__} and"
                f" {type(data).__name__}."
            )
        if not isinstance(data.buffer.sampler, PrioritisedSampler):
            raise ValueError(
                "ReplayPriorities expected a ReplayDataModule with prioritised=True, got one that replays all episodes"
                " alike. Set it, or leave the callback out."
            )
        if trainer.max_steps < 1:
            raise ValueError(
                "The importance weights of prioritised replay are complete at the trainer's last update, but max_steps"
                f" is {trainer.max_steps}. Set max_steps, or prioritised=False."
            )
        pl_module.loss.set_keys(priority_weight=PRIORITY_WEIGHT)
        data.has_priority_update = True

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave learner and data as they were."""
        if stage == "fit":
            learner: QLearner = pl_module  # type: ignore[assignment]
            learner.loss.set_keys(priority_weight=None)
            trainer.datamodule.has_priority_update = False  # type: ignore[attr-defined]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take β up where training stands."""
        self._anneal(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: TensorDict, batch_idx: int
    ) -> None:
        """Carry the priorities of the batch back, and anneal β."""
        # QLearner's loss writes squared errors, as TorchRL's does.
        priority = episode_priority(batch[TD_ERROR].sqrt(), batch[MASK], eta=self.eta)
        data: ReplayDataModule = trainer.datamodule  # type: ignore[attr-defined]
        data.buffer.update_priorities(batch[EPISODE][:, 0, 0], priority)
        beta = self._anneal(trainer)
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every > 0 and trainer.global_step % every == 0:
            pl_module.log_dict({"train/beta": beta, "train/priority_max": priority.max()}, batch_size=1)

    def _anneal(self, trainer: Trainer) -> float:
        data: ReplayDataModule = trainer.datamodule  # type: ignore[attr-defined]
        sampler: PrioritisedSampler = data.buffer.sampler  # type: ignore[assignment]
        sampler.beta = linear(trainer.global_step, data.importance_exponent, 1.0, trainer.max_steps)
        return sampler.beta
