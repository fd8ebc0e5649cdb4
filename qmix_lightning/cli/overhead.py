"""What Lightning takes of every step for nothing: hooks that are empty, and a profiler that measures nothing."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.profilers import Profiler

PER_BATCH: Final = (
    "on_train_batch_start", "on_before_zero_grad", "on_before_backward", "on_after_backward",
    "on_before_optimizer_step", "on_train_batch_end",
)  # fmt: skip
"""Hooks of callbacks and modules that are called with every batch of training."""

_NOTHING: Final = nullcontext()


def skip_empty_hooks(trainer: Trainer, module: LightningModule) -> None:
    """Have Lightning pass over the hooks of every batch that a callback or the module has left as they are.

    With each batch it calls six hooks of every callback, most of them empty, each in a context of its profiler and
    under a name put together for it: 84 calls with the 14 callbacks of the command line, and a quarter of what
    Lightning takes. It leaves out what is not callable: empty hooks become None, in these objects, not their classes.

    Args:
        trainer: Whose callbacks they are.
        module: What it trains.

    Example:
        >>> class Mute(Callback):
        ...     def on_train_batch_end(self, *args):
        ...         pass
        >>> mute = Mute()
        >>> skip_empty_hooks(Trainer(callbacks=[mute], logger=False, enable_checkpointing=False), LightningModule())
        >>> mute.on_train_batch_start is None, mute.on_train_batch_end is None
        (True, False)
    """
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    for owner, base in (*((callback, Callback) for callback in callbacks), (module, LightningModule)):
        for hook in PER_BATCH:
            if getattr(type(owner), hook) is getattr(base, hook):
                owner.__dict__.setdefault(hook, None)


class NoProfiler(Profiler):
    """Measures nothing, as Lightning's own does that it takes when none is asked for, but makes no contexts to do so.

    Example:
        >>> with NoProfiler().profile("run_training_batch"):
        ...     pass
    """

    def start(self, action_name: str) -> None:
        """Do nothing."""

    def stop(self, action_name: str) -> None:
        """Do nothing."""

    def profile(self, action_name: str) -> AbstractContextManager[Any]:  # type: ignore[override]
        """The same context for every action."""
        return _NOTHING

    def summary(self) -> str:
        """Nothing to tell."""
        return ""
