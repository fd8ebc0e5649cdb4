"""Lightning's share of a training step: ``qmix fit`` against a bare loop that does the same work.

    python -m benchmarks lightning --updates 200

The command line trains 3m as it always does, with all its callbacks, its logger and its progress bar, by default once
with its defaults and once with the recipe of the demo. Before each of its steps, a copy of its learner and of its data
takes the same step in a plain loop: collect and sample, loss, backward, clip, optimizer, targets, scheduler. Both see
the same battles and the same batches, and come to the same weights, bit for bit. A block is as many steps as lie
between two logging steps; Lightning's share is what the plain loop does not take of a block. Evaluations are left out.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator, Sequence
from contextlib import chdir
from copy import deepcopy
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import torch
from tensordict import TensorDict
from torch import nn

from benchmarks.timing import Table, clock, say, verdict
from benchmarks.update import CLIP
from qmix_lightning.cli.training import QMixCLI
from qmix_lightning.datamodule import ReplayDataModule
from qmix_lightning.module import QLearner

BAR = 0.05
"""Largest share of a training step that Lightning may take."""
BLOCK = 20
"""Steps in a block, of which the command line logs one."""
RECIPE = Path(__file__).parent.parent / "recipes" / "battle" / "3m.yaml"
CASES = {
    "GRU 64": ["--data.env", "battle/3m"],
    "recipes/battle/3m.yaml": ["--config", str(RECIPE)],
}
"""By name, arguments of ``qmix fit``."""


class BareLoop:
    """A training step without Lightning.

    Args:
        learner: Who learns.
        data: Where its batches come from.
        updates: How many there will be, which the decay of a learning rate goes by.
    """

    def __init__(self, learner: QLearner, data: ReplayDataModule, updates: int) -> None:
        self.learner, self.data = learner, data
        trainer: Any = SimpleNamespace(
            lightning_module=learner, max_steps=updates, global_step=0, world_size=1, precision_plugin=None
        )
        learner._trainer = data.trainer = trainer
        made = learner.configure_optimizers()
        self.optimizer = made["optimizer"] if isinstance(made, dict) else made
        self.scheduler = made["lr_scheduler"]["scheduler"] if isinstance(made, dict) else None
        self.parameters = list(learner.loss.parameters())

    def step(self) -> None:
        """Collect, sample and learn."""
        batch = self.data.next_batch()
        self.optimizer.zero_grad()
        self.learner.loss(batch)["loss"].backward()
        nn.utils.clip_grad_norm_(self.parameters, CLIP)
        self.optimizer.step()
        if self.scheduler is not None:
            self.scheduler.step()


class Batches:
    """The batches of training, before each of which the bare loop takes its step.

    Args:
        batches: The data module's own.
        bare: The loop.

    Attributes:
        fitted: Seconds of each step by the Trainer, from asking for its batch to asking for the next one.
        bare: Seconds of each step by the loop.
    """

    def __init__(self, batches: Any, loop: BareLoop) -> None:
        self._batches, self._loop = batches, loop
        self.fitted, self.bare = list[float](), list[float]()

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[TensorDict]:
        batches = iter(self._batches)
        while True:
            start = clock()
            with torch.enable_grad():
                self._loop.step()
            middle = clock()
            self.bare.append(middle - start)
            yield next(batches)
            self.fitted.append(clock() - middle)


class TimedCLI(QMixCLI):
    """``qmix fit`` with the turns of a bare loop, and without the test at the end."""

    def before_fit(self) -> None:
        """Set the bare loop up as a copy of what is about to be fitted."""
        # Battles cannot be copied, but begin alike.
        data = ReplayDataModule(**self.config["fit"]["data"].as_dict())
        bare = BareLoop(deepcopy(self.model), data, self.trainer.max_steps)
        own = self.datamodule.train_dataloader
        self.batches: Batches | None = None

        def train_dataloader() -> Batches:
            self.batches = Batches(own(), bare)
            return self.batches

        self.datamodule.train_dataloader = train_dataloader
        self.bare = bare

    def after_fit(self) -> None:
        """Assert that both came to the same weights, bit for bit."""
        ours, theirs = self.model.loss.state_dict(), self.bare.learner.loss.state_dict()
        torch.testing.assert_close(dict(ours), dict(theirs), rtol=0, atol=0)


def blocks(seconds: Sequence[float], warmup: int) -> list[float]:
    """Seconds of each whole block of steps."""
    counted = seconds[warmup:]
    return [sum(counted[start : start + BLOCK]) for start in range(0, len(counted) - BLOCK + 1, BLOCK)]


def measure(name: str, arguments: Sequence[str], *, updates: int, warmup: int = BLOCK) -> tuple[float, tuple[str, ...]]:
    """Measure a training.

    Args:
        name: How the row is called.
        arguments: Of ``qmix fit``.
        updates: Steps that count, a multiple of a block.
        warmup: Steps before.

    Returns:
        Lightning's share, and the row.
    """
    say(f"lightning: {name}")
    # One more, whose end nobody sees.
    options = {"max_steps": updates + warmup + 1, "limit_val_batches": 0, "log_every_n_steps": BLOCK}
    given = [word for option, value in options.items() for word in (f"--trainer.{option}", str(value))]
    with TemporaryDirectory() as folder, chdir(folder), warnings.catch_warnings():
        # Lightning speaks of tips and missing validations, which are no news here.
        warnings.simplefilter("ignore")
        cli = TimedCLI(["fit", *arguments, *given])
    assert cli.batches is not None, "A fit asks for its batches."
    fitted, bare = blocks(cli.batches.fitted, warmup), blocks(cli.batches.bare[: len(cli.batches.fitted)], warmup)
    shares = [1 - without / whole for whole, without in zip(fitted, bare, strict=True)]
    share = median(shares)
    best, middle = ([f"{kind(times) / BLOCK * 1e3:.2f}" for times in (fitted, bare)] for kind in (min, median))
    own = median(whole - without for whole, without in zip(fitted, bare, strict=True)) / BLOCK * 1e3
    times = (" / ".join(pair) for pair in zip(best, middle, strict=True))
    row = (name, *times, f"{own:.2f}", f"{1 - min(bare) / min(fitted):.1%}", f"{share:.1%}")
    return share, row


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command line."""
    parser.add_argument("--updates", type=int, default=200, help=f"that count; rounded up to a multiple of {BLOCK}")


def run(options: argparse.Namespace) -> list[Table]:
    """Measure as the command line says."""
    updates = -(-options.updates // BLOCK) * BLOCK
    measured = [measure(name, arguments, updates=updates) for name, arguments in CASES.items()]
    header = (
        "agent", "qmix fit, ms a step best / median", "bare loop", "Lightning, ms", "share, of the best",
        "share, median",
    )  # fmt: skip
    worst = max(share for share, _ in measured)
    note = verdict(f"Lightning's share of a training step under {BAR:.0%}, came {worst:.1%} at worst", worst < BAR)
    return [Table("Lightning's share of a training step on 3m", header, [row for _, row in measured], (note,))]
