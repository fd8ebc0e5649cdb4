"""Learning curves: what runs have logged against environment steps, brought together over seeds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader  # type: ignore[import-untyped]
from tensorboard.compat.proto.event_pb2 import SessionLog  # type: ignore[import-untyped]

Points = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Environment steps, rising, and the value that was logged at each."""

_EVENTS = "events.out.tfevents.*"
_SEED = re.compile(r"seed_(\d+)")


@dataclass(frozen=True)
class LearningCurve:
    """One figure against environment steps, over all seeds of a training.

    Seeds are evaluated at nearly, but not exactly, the same environment steps. Between its own evaluations a seed is
    taken to run in a straight line, and so it has a value wherever another was evaluated, within the range that all
    of them cover. Nothing is smoothed and nothing is extrapolated.

    Args:
        name: What the curve is of, e.g. ``battle-3m/version_0``.
        runs: Names of the n runs, e.g. ``seed_1``.
        env_steps: Environment steps [G] int64, rising.
        values: Value of each run there [n, G] float64.

    Example:
        >>> seeds = {
        ...     "seed_1": (np.array([100, 200, 300]), np.array([0.0, 0.5, 0.75])),
        ...     "seed_2": (np.array([150, 250, 350]), np.array([0.0, 1.0, 1.0])),
        ... }
        >>> curve = LearningCurve.over(seeds, "battle-3m")
        >>> curve.env_steps
        array([150, 200, 250, 300])
        >>> curve.values
        array([[0.25 , 0.5  , 0.625, 0.75 ],
               [0.   , 0.5  , 1.   , 1.   ]])
        >>> curve.median
        array([0.125 , 0.5   , 0.8125, 0.875 ])
    """

    name: str
    runs: tuple[str, ...]
    env_steps: NDArray[np.int64]
    values: NDArray[np.float64]

    @classmethod
    def over(cls, runs: Mapping[str, Points], name: str) -> LearningCurve:
        """Bring runs to common environment steps.

        Args:
            runs: What each run has logged, by its name.
            name: What the curve is of.

        Raises:
            ValueError: If there is no run, one without a point, or no environment step that all of them cover.
        """
        if empty := [run for run, (steps, _) in runs.items() if not len(steps)]:
            raise ValueError(f"Expected runs with at least one point, got none of {', '.join(empty)}.")
        if not runs:
            raise ValueError(f"Expected at least one run of {name}, got none.")
        first = max(steps[0] for steps, _ in runs.values())
        last = min(steps[-1] for steps, _ in runs.values())
        if first > last:
            ranges = ", ".join(f"{run} {steps[0]:,} to {steps[-1]:,}" for run, (steps, _) in runs.items())
            raise ValueError(f"The runs of {name} have no environment steps in common: {ranges}. Plot them one by one.")
        every = np.unique(np.concatenate([steps for steps, _ in runs.values()]))
        common = every[(first <= every) & (every <= last)]
        values = np.stack([np.interp(common, steps, values) for steps, values in runs.values()])
        return cls(name, tuple(runs), common, values)

    @property
    def median(self) -> NDArray[np.float64]:
        """Median over the runs [G]."""
        return np.median(self.values, axis=0)

    @property
    def quartiles(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """First and third quartile over the runs, each [G]; linear between runs, as numpy's default is."""
        low, high = np.percentile(self.values, [25, 75], axis=0)
        return low, high


def read_scalars(folder: str | Path) -> dict[str, Points]:
    """Read every scalar that a run has logged to TensorBoard.

    A run that was resumed has gone back to its checkpoint, and logs again what it had logged after it. What was
    written later holds: a point supersedes the earlier ones of its tag at the same and at later steps, and a restart
    that names its step (TensorBoard's ``purge_step``) those of all tags. A record that was cut off ends its file.

    Args:
        folder: Folder of one run, with one or more event files.

    Returns:
        Steps and values of each tag; without event files, nothing.

    Example:
        >>> read_scalars("nowhere")
        {}
    """
    points: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(Path(folder).glob(_EVENTS)):
        for event in LegacyEventFileLoader(str(path)).Load():
            if event.HasField("session_log") and event.session_log.status == SessionLog.START:
                for logged in points.values():
                    _drop_from(event.step, logged)
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    logged = points.setdefault(value.tag, [])
                    _drop_from(event.step, logged)
                    logged.append((event.step, value.simple_value))
    return {
        tag: (np.array([step for step, _ in logged], np.int64), np.array([value for _, value in logged], np.float64))
        for tag, logged in points.items()
        if logged
    }


def _drop_from(step: int, points: list[tuple[int, float]]) -> None:
    while points and points[-1][0] >= step:
        points.pop()


def find_runs(folder: str | Path) -> dict[Path, dict[str, Path]]:
    """Find the runs in a folder, those that differ by their seed alone together.

    Args:
        folder: Folder of one run, of a sweep over seeds (``seed_1``, ``seed_2``, …), or of several of either.

    Returns:
        By the folder of a run or sweep: the folder of each of its runs, by its name.

    Example:
        >>> find_runs("nowhere")
        {}
    """
    folder = Path(folder)
    seeds = {int(found[1]): path for path in folder.glob("seed_*/") if (found := _SEED.fullmatch(path.name))}
    if logged := {f"seed_{seed}": seeds[seed] for seed in sorted(seeds) if any(seeds[seed].glob(_EVENTS))}:
        return {folder: logged}
    if any(folder.glob(_EVENTS)):
        return {folder: {folder.name: folder}}
    below = sorted(folder.glob("*/"), key=lambda path: [int(n) if n.isdigit() else n for n in _parts(path.name)])
    return {curve: runs for path in below for curve, runs in find_runs(path).items()}


def _parts(name: str) -> list[str]:
    # Every other part is a number, so that names compare, and version_10 comes after version_9.
    return re.split(r"(\d+)", name)
