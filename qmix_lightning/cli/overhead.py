"""What every step takes for nothing: empty hooks, a profiler that measures nothing, memory given back and fetched."""

from __future__ import annotations

import ctypes
import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.profilers import Profiler

PER_BATCH: Final = (
    "on_train_batch_start", "on_before_zero_grad", "on_before_backward", "on_after_backward",
    "on_before_optimizer_step", "on_train_batch_end",
)  # fmt: skip
"""Hooks of callbacks and modules that are called with every batch of training."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Options of glibc's mallopt, as malloc.h numbers them."""

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


def keep_freed_memory(trim: int = 256 << 20, mmap: int = 32 << 20) -> bool:
    """Have glibc keep what a step frees for the next one.

    Otherwise it gives the top of its heap back to the system after most steps, and every page of it comes back by a
    fault, filled with zeros: some 500 of them a step on 3m, 0.8 of 13.5 ms. Whoever set one of glibc's own variables in
    the environment has chosen.

    Args:
        trim: Bytes free at the top of the heap above which they are given back.
        mmap: Bytes above which a tensor has pages of its own, given back with it; glibc takes 32 MB at most.

    Returns:
        Whether it does; other C libraries have no such option.
    """
    if os.environ.keys() & {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_"}:
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, trim) and mallopt(_M_MMAP_THRESHOLD, mmap))


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
