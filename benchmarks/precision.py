"""What half precision costs in accuracy and saves in time: one QMIX update in each of Lightning's precisions.

    python -m benchmarks precision --maps 3m 8m
    python -m benchmarks precision --maps --seeds 1 2 --trainer.max_steps 400

GRU 64, two-layer hypernetworks, double-Q, TD(λ = 0.6). A learner is first trained in float32, so that its values are as
large as they get; then the same weights meet the same batch of replayed episodes in each precision:

* ``64-true``: what the others are compared with;
* ``bf16-mixed``, ``16-mixed``: agents under autocast; mixer, targets, errors and loss in float32, as the loss has them;
* ``all in bf16``: the mixer, too, is given bfloat16 and runs under autocast, as in a loss that does not care;
* ``bf16-true``: parameters and batch are bfloat16.

Errors are those of the absolute TD errors that the loss writes. Gradients are compared as one vector; float16's are
scaled as GradScaler scales them. With ``--seeds``, trainings by a recipe are compared as well, by ``qmix fit``, which
gets all arguments that are not the benchmark's.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from lightning.pytorch import Trainer
from tensordict import TensorDict
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from benchmarks import demo
from benchmarks.timing import Samples, Table, clock, interleave, say, verdict
from qmix_lightning.datamodule import ReplayDataModule
from qmix_lightning.functional.values import legal_argmax
from qmix_lightning.mixers.base import Mixer
from qmix_lightning.mixers.qmix import QMixer
from qmix_lightning.module import QLearner
from qmix_lightning.objectives.qmixer import QMixerLoss
from qmix_lightning.spec import ACTION, ACTION_MASK, ACTION_VALUE, MASK, OBSERVATION, TD_ERROR, TaskSpec

BAR = 1.5
"""How many times as large errors must be where the mixer computes in bfloat16, too."""
SCALE = 2.0**16
"""By which GradScaler multiplies a loss at first, lest small gradients vanish in float16."""


@dataclass(frozen=True)
class Precision:
    """How an update computes.

    Args:
        parameters: Type of parameters and batch.
        autocast: Type in which autocast multiplies matrices; None is no autocast.
        careless: Whether the mixer does so, too.
    """

    parameters: torch.dtype = torch.float32
    autocast: torch.dtype | None = None
    careless: bool = False

    def context(self) -> AbstractContextManager[object]:
        """What Lightning opens around a training step."""
        if self.autocast is None:
            return nullcontext()
        return torch.autocast("cpu", self.autocast, cache_enabled=False)


PRECISIONS = {
    "64-true": Precision(torch.float64),
    "32-true": Precision(),
    "bf16-mixed": Precision(autocast=torch.bfloat16),
    "16-mixed": Precision(autocast=torch.float16),
    "all in bf16": Precision(autocast=torch.bfloat16, careless=True),
    "bf16-true": Precision(torch.bfloat16),
}


class CarelessMixer(Mixer):
    """A mixer that mixes in bfloat16, which the loss keeps others from.

    Args:
        inner: What mixes.
    """

    monotonic = True

    def __init__(self, inner: Mixer) -> None:
        super().__init__(inner.n_agents, inner.needs_state, inner.state_shape)
        self.inner = inner

    def mix(self, chosen_action_value: Tensor, state: Tensor | None) -> Tensor:
        """Mix ``[*B, N, 1]`` under autocast."""
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            return self.inner.mix(chosen_action_value.bfloat16(), state)


class Update:
    """One update in some precision, from the weights of a learner.

    Args:
        learner: Whose weights.
        batch: What to learn from.
        precision: How to compute.
    """

    def __init__(self, learner: QLearner, batch: TensorDict, precision: Precision) -> None:
        own = make_learner(learner.spec, careless=precision.careless)
        weights, mixer = learner.loss.state_dict(), "mixer_network_params.module."
        if precision.careless:
            weights = {name.replace(mixer, f"{mixer}inner."): tensor for name, tensor in weights.items()}
        own.loss.load_state_dict(weights)
        self.loss: QMixerLoss = own.loss.to(precision.parameters)
        self.loss.td_error, self.precision = "absolute", precision
        self.batch = batch.apply(lambda x: x.to(precision.parameters) if x.is_floating_point() else x)
        self.scale = SCALE if precision.autocast is torch.float16 else 1.0
        # A rate of nothing, so that all precisions stay at the same weights.
        self.optimizer = torch.optim.Adam(self.loss.parameters(), lr=0.0)

    def __call__(self) -> float:
        """Make the update, and return its seconds."""
        start = clock()
        self.backward()
        nn.utils.clip_grad_norm_(self.loss.parameters(), 10.0)
        self.optimizer.step()
        return clock() - start

    def backward(self) -> None:
        """Compute errors and scaled gradients."""
        self.optimizer.zero_grad()
        with self.precision.context():
            loss = self.loss(self.batch)["loss"]
        (loss * self.scale).backward()

    def outcome(self) -> tuple[Tensor, Tensor, Tensor]:
        """Absolute TD errors of the played steps, gradients, and greedy actions there; the first two in float64."""
        self.backward()
        # In the order of their names, which is not that of the parameters of all mixers.
        named = sorted((name.replace("inner.", ""), parameter.grad) for name, parameter in self.loss.named_parameters())
        gradient = torch.cat([grad.double().flatten() for _, grad in named if grad is not None]) / self.scale
        played = self.batch[MASK]
        with torch.no_grad(), self.precision.context():
            values = self.loss.local_value_network(self.batch.select(OBSERVATION, ACTION))[ACTION_VALUE]
        greedy = legal_argmax(values, self.batch[ACTION_MASK])[played.squeeze(-1)]
        return self.batch[TD_ERROR][played].double(), gradient, greedy


def make_learner(spec: TaskSpec, *, careless: bool = False) -> QLearner:
    """QLearner with PyMARL's networks, from the same weights each time."""

    def mixer(spec: TaskSpec) -> Mixer:
        made = QMixer(spec, hypernet_layers=2)
        return CarelessMixer(made) if careless else made

    torch.manual_seed(1)
    return QLearner(spec, mixer=mixer, epsilon_steps=20_000)


def trained(map_name: str, updates: int, batch_size: int) -> tuple[QLearner, TensorDict]:
    """A learner after some updates in float32, and a batch of what it has played."""
    data = ReplayDataModule(f"battle/{map_name}", batch_size=batch_size, num_envs=batch_size, seed=1)
    learner = make_learner(data.spec)
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    with warnings.catch_warnings():
        # Lightning speaks of devices, tips and missing validations, which are no news here.
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        warnings.simplefilter("ignore")
        trainer = Trainer(max_steps=updates, limit_val_batches=0, gradient_clip_val=10.0, accelerator="cpu", **quiet)
        trainer.fit(learner, data)
    return learner, data.buffer.sample()


def row(name: str, update: Update, exact: Update, times: Samples, single: Samples) -> tuple[tuple[str, ...], float]:
    """Cells of a precision, and the root mean square of what its TD errors are off."""
    (error, gradient, greedy), (true, steepest, best) = update.outcome(), exact.outcome()
    off = float((error - true).square().mean().sqrt())
    relative = float((gradient - steepest).norm() / steepest.norm())
    cosine = float(cosine_similarity(gradient, steepest, dim=0))
    changed = float((greedy != best).double().mean())
    cells = (f"{off:.2g}", f"{relative:.2g}", f"{cosine:.6f}", f"{changed:.2%}")
    return (name, *cells, f"{times.best * 1e3:.1f}", f"{times.best / single.best:.2f}"), off


def compare(map_name: str, updates: int = 1_000, batch_size: int = 32, *, rounds: int = 20) -> Table:
    """Compare the precisions.

    Args:
        map_name: One of SMAC's maps.
        updates: Of the training before.
        batch_size: Episodes in a batch.
        rounds: Updates timed in each precision.

    Returns:
        A row a precision.
    """
    say(f"precision: {updates} updates on {map_name}")
    learner, batch = trained(map_name, updates, batch_size)
    cases = {name: Update(learner, batch, precision) for name, precision in PRECISIONS.items()}
    times = interleave(cases, rounds)
    rows, off = [], dict[str, float]()
    for name, update in cases.items():
        cells, off[name] = row(name, update, cases["64-true"], times[name], times["32-true"])
        rows.append(cells)
    error, _, _ = cases["64-true"].outcome()
    ratio = off["all in bf16"] / off["bf16-mixed"]
    what = f"errors of bf16-mixed at most 1 / {BAR} of those of all in bf16, came 1 / {ratio:.2f}"
    size = f"{batch_size} episodes of up to {batch.shape[1] - 1} steps; mean absolute TD error {error.mean():.2g}."
    header = ("precision", "TD error off by (rms)", "gradient, relative", "cosine", "greedy actions", "ms", "/ 32-true")
    title = f"QMIX update on {map_name} against float64, after {updates} updates"
    return Table(title, header, rows, (size, verdict(what, ratio >= BAR)))


def curves(recipe: Path, seeds: Sequence[int], arguments: Sequence[str]) -> Table:
    """Train by a recipe in single and in mixed precision.

    Args:
        recipe: Its file.
        seeds: A training each, in each precision.
        arguments: Further arguments of ``qmix fit``.

    Returns:
        A row a training.
    """
    rows = []
    with TemporaryDirectory() as folder:
        for seed in seeds:
            for precision in ("32-true", "bf16-mixed"):
                say(f"precision: {precision}, seed {seed}")
                place = Path(folder) / f"{precision}_{seed}"
                place.mkdir()
                run = demo.train(recipe, seed, [*arguments, f"--trainer.precision={precision}"], place)
                rows.append((precision, *run.row))
    header = (
        "precision", "seed", "env steps", "updates", "CPU-s", "wall s", "last validations' win rates", "test win rate",
    )  # fmt: skip
    return Table(f"Trainings: {' '.join([recipe.name, *arguments])}", header, rows)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command line."""
    parser.add_argument("--maps", nargs="*", default=["3m", "8m"])
    parser.add_argument("--updates", type=int, default=1_000, help="of the training before")
    parser.add_argument("--batch", type=int, default=32, help="episodes in a batch")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--recipe", type=Path, default=demo.ROOT / "recipes" / "battle" / "3m.yaml")
    parser.add_argument("--seeds", nargs="*", type=int, default=[], help="of whole trainings")


def run(options: argparse.Namespace) -> list[Table]:
    """Measure as the command line says."""
    tables = [compare(name, options.updates, options.batch, rounds=options.rounds) for name in options.maps]
    return [*tables, curves(options.recipe, options.seeds, options.rest)] if options.seeds else tables
