"""Target networks of LightningModules that do not update their own."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn
from torch.utils.hooks import RemovableHandle

from qmix_lightning.objectives.target_update.base import AbstractTargetUpdate
from qmix_lightning.objectives.target_update.hard import HardUpdate
from qmix_lightning.objectives.target_update.soft import SoftUpdate


class TargetUpdater(Callback):
    """Updates the target networks of a module's loss after each step of the optimizer that trains it.

    For modules of your own around a :class:`~qmix_lightning.objectives.qmixer.QMixerLoss` or one of TorchRL's losses;
    a ``QLearner`` updates its own targets. The update comes within the optimizer's step, before anything else can run:
    whatever is saved or evaluated after it sees the new targets. Batches whose gradients are only accumulated, and
    steps of optimizers without parameters of the loss, do not count. Where several optimizers share the parameters each
    of their steps counts, as in the trainer's ``global_step``. Checkpoints hold the count.

    Args:
        tau: Share τ in [0, 1] by which the targets follow at each step. Give either this or ``interval``.
        interval: Steps N from one copy of the online networks to the next, at least 1.
        loss: Where the module keeps its loss, e.g. ``"loss"`` or ``"learner.loss"``.

    Attributes:
        target_update: The :class:`~qmix_lightning.objectives.target_update.soft.SoftUpdate` or
            :class:`~qmix_lightning.objectives.target_update.hard.HardUpdate` at work; None before the first fit.

    Raises:
        ValueError: If neither or both of ``tau`` and ``interval`` are given, or one is out of range; when training
            starts, if the module updates its own targets, or none of its optimizers trains the loss.
        AttributeError: When training starts, if the module has no such loss.
        RuntimeError: When training starts, if the loss has no target networks of its own.

    Example:
        >>> trainer = Trainer(callbacks=[TargetUpdater(tau=0.005)], logger=False, accelerator="cpu")

    Lillicrap et al. (2016), Continuous control with deep reinforcement learning, for τ; Mnih et al. (2015), Human-level
    control through deep reinforcement learning, for N.
    """

    def __init__(self, tau: float | None = None, interval: int | None = None, loss: str = "loss") -> None:
        if (tau is None) == (interval is None):
            raise ValueError(f"TargetUpdater expected either tau or interval, got tau={tau} and interval={interval}.")
        if tau is not None and not 0 <= tau <= 1:
            raise ValueError(f"tau must lie in [0, 1], got {tau}.")
        if interval is not None and (not isinstance(interval, int) or interval < 1):
            raise ValueError(f"interval must be a positive integer, got {interval!r}.")
        self.tau, self.interval, self.loss = tau, interval, loss
        self.target_update: SoftUpdate | HardUpdate | None = None
        self._hooks: list[RemovableHandle] = []

    @property
    def state_key(self) -> str:
        """Tells this callback's state from that of one for another loss."""
        return self._generate_state_key(loss=self.loss)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the loss, and make its updater before a checkpoint is loaded into it."""
        if stage != "fit":
            return
        loss = self._loss_of(pl_module)
        for name, module in pl_module.named_modules():
            if isinstance(module, AbstractTargetUpdate) and module.loss_module is loss:
                raise ValueError(
                    f"{type(pl_module).__name__} already updates the targets of {self.loss!r}, by its {name!r}, and"
                    " TargetUpdater would do so twice. Remove this callback, or that updater."
                )
        if self.target_update is None or self.target_update.loss_module is not loss:
            if self.interval is None:
                self.target_update = SoftUpdate(loss, tau=self.tau)
            else:
                self.target_update = HardUpdate(loss, value_network_update_interval=self.interval)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Follow the optimizers that train the loss."""
        self._let_go()
        update = self.target_update
        assert update is not None, "setup comes first"
        trained = set(update.loss_module.parameters())
        for optimizer in trainer.optimizers:
            if any(parameter in trained for group in optimizer.param_groups for parameter in group["params"]):
                self._hooks.append(update.follow(optimizer))
        if not self._hooks:
            raise ValueError(
                f"TargetUpdater expected an optimizer with parameters of {self.loss!r}, but none of"
                f" {len(trainer.optimizers)} has any, and the targets would never move. Let configure_optimizers give"
                f" it {self.loss}.parameters()."
            )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the optimizers go."""
        self._let_go()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Let the optimizers go."""
        self._let_go()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint carries: how many steps were made since the start, if that matters."""
        return {"counter": self.target_update.counter} if isinstance(self.target_update, HardUpdate) else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting where the checkpoint was written."""
        if isinstance(self.target_update, HardUpdate):
            self.target_update.counter = state_dict["counter"]

    def _loss_of(self, pl_module: LightningModule) -> nn.Module:
        try:
            loss: nn.Module = attrgetter(self.loss)(pl_module)
        except AttributeError as error:
            near = [
                name
                for name, module in pl_module.named_modules()
                if any(
                    child.startswith("target_") and child.endswith("_params") for child, _ in module.named_children()
                )
            ]
            raise AttributeError(
                f"TargetUpdater expected {type(pl_module).__name__} to keep its loss as {self.loss!r}, but it has no"
                f" such attribute. With target networks it has {', '.join(map(repr, near)) or 'nothing'}: name the one"
                f" to update{f', e.g. TargetUpdater(loss={near[0]!r}, ...)' if near else ''}."
            ) from error
        return loss

    def _let_go(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
