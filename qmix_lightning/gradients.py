"""When the gradients of the update before are forgotten."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch.optim import Adam, Optimizer, RMSprop


def may_forget_early(trainer: Trainer, known: type[LightningModule]) -> bool:
    """Whether gradients can be forgotten before the pass forward of a batch, instead of between its two passes.

    Lightning forgets them in between. Until then they take memory, and the passes have to do with other memory: on 3m
    they take 0.1 of 14 ms longer by it. But whoever has a hook of that moment is to find them there, and optimizers of
    other libraries have ways of their own.

    Args:
        trainer: Whose optimizer, module and callbacks.
        known: The class whose ``optimizer_zero_grad`` can do without them.
    """
    module, callbacks = trainer.lightning_module, trainer.callbacks  # type: ignore[attr-defined]
    if type(module).optimizer_zero_grad is not known.optimizer_zero_grad:
        return False
    watching: list[LightningModule | Callback] = [module, *callbacks]
    if any(is_overridden("on_before_zero_grad", each) for each in watching):
        return False
    return all(type(optimizer) in (Adam, RMSprop) for optimizer in trainer.optimizers)


def forget_gradients(optimizer: Optimizer) -> None:
    """Do as ``optimizer.zero_grad()``, but without an entry for torch's profiler, which takes the longest of it."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None
