"""The demo end to end: cost and outcome of a whole recipe, for several seeds.

    python -m benchmarks demo --seeds 1 2 3
    python -m benchmarks demo --recipe recipes/battle/3m.yaml --seeds 1 --trainer.max_steps 400

Each seed is a process of its own, ``python -m qmix_lightning fit``, which gets all arguments that are not the
benchmark's. Its CPU time is everything, from the first import to the test at the end. Figures are read from its
TensorBoard events.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from benchmarks.timing import Table, say

ROOT = Path(__file__).parent.parent

GOOD = 0.95
"""The win rate of a validation whose time is told."""


@dataclass(frozen=True)
class Run:
    """What one seed cost and reached; a figure that was never logged is missing from its list."""

    seed: int
    env_steps: int
    updates: int
    cpu_seconds: float
    wall_seconds: float
    validations: list[float]
    test: list[float]
    first: tuple[int, float] | None

    @property
    def row(self) -> tuple[str, ...]:
        """As cells of the table."""
        rates = [" ".join(f"{rate:.1%}" for rate in rates) or "-" for rates in (self.validations, self.test)]
        cost = (f"{self.env_steps:,}", f"{self.updates:,}", f"{self.cpu_seconds:.0f}", f"{self.wall_seconds:.0f}")
        first = "-" if self.first is None else f"{self.first[0]:,} steps, {self.first[1]:.0f} s"
        return (str(self.seed), *cost, first, *rates)


def train(recipe: Path, seed: int, arguments: Sequence[str], folder: Path) -> Run:
    """Run the recipe in a process of its own.

    Args:
        recipe: A recipe's file.
        seed: Of everything.
        arguments: Further arguments of ``qmix fit``.
        folder: Where the process runs, and hence where its ``logs`` go.

    Returns:
        What it cost and reached.

    Raises:
        RuntimeError: If the process fails, with its last words.
    """
    command = [sys.executable, "-m", "qmix_lightning", "fit", "--config", str(recipe.absolute())]
    command += ["--seed_everything", str(seed), *arguments]
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = {"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": path}
    start, before, began = time.perf_counter(), _children_seconds(), time.time()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    cpu, wall = _children_seconds() - before, time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"Seed {seed} failed with exit status {done.returncode}: {done.stderr[-2000:]}")
    # The newest, for a folder that was used before.
    log = max(folder.glob("logs/*/*/config.yaml"), key=lambda path: path.stat().st_mtime).parent
    updates = re.search(r"^  max_steps: (\d+)", (log / "config.yaml").read_text(), re.MULTILINE)
    events = EventAccumulator(str(log), size_guidance={"scalars": 0})
    events.Reload()
    wins, tests = (_scalars(events, f"{stage}/win_rate") for stage in ("val", "test"))
    good = [event for event in events.Scalars("val/win_rate") if event.value >= GOOD] if wins else []
    first = (good[0].step, good[0].wall_time - began) if good else None
    env_steps = max(step for tag in events.Tags()["scalars"] for step, _ in _scalars(events, tag))
    return Run(
        seed, env_steps, int(updates[1]) if updates else 0, cpu, wall, [rate for _, rate in wins[-3:]],
        [rate for _, rate in tests], first,
    )  # fmt: skip


def measure(recipe: Path, seeds: Sequence[int], arguments: Sequence[str] = (), folder: Path | None = None) -> Table:
    """Run the recipe for every seed, one after the other.

    Args:
        recipe: A recipe's file.
        seeds: A run each.
        arguments: Further arguments of ``qmix fit``.
        folder: Where runs are kept, in a folder a seed; None throws them away.

    Returns:
        A row a seed.
    """
    rows = []
    with TemporaryDirectory() as temporary:
        for seed in seeds:
            say(f"demo: seed {seed}")
            place = (folder or Path(temporary)) / f"seed_{seed}"
            place.mkdir(parents=True, exist_ok=True)
            rows.append(train(recipe, seed, arguments, place).row)
    header = (
        "seed",
        "env steps",
        "updates",
        "CPU-s",
        "wall s",
        "first 95 % after",
        "last validations' win rates",
        "test win rate",
    )
    return Table(f"Demo: {' '.join([recipe.name, *arguments])}", header, rows)


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _scalars(events: EventAccumulator, tag: str) -> list[tuple[int, float]]:
    if tag not in events.Tags()["scalars"]:
        return []
    return [(event.step, event.value) for event in events.Scalars(tag)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command line."""
    parser.add_argument("--recipe", type=Path, default=ROOT / "recipes" / "battle" / "3m.yaml")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--folder", type=Path, help="where to keep the runs; thrown away without")


def run(options: argparse.Namespace) -> list[Table]:
    """Measure as the command line says."""
    return [measure(options.recipe, options.seeds, options.rest, options.folder)]
