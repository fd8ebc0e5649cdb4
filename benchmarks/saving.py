"""Seconds and memory to save a large replay and to resume it.

    python -m benchmarks saving --gigabytes 2

``archive`` writes only the episodes that came since the last time, as training does with ``sidecar``; ``torch.save``
and ``torch.load`` move the whole, as with ``inline``. What is loaded is asserted equal to what was saved. Seconds are
on the wall and include waiting for the disk. Memory is how much more of its own the process had at its peak than
before, which in resuming includes the replay that is filled.
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.sampling import DISTINCT, MMM2, random_episodes
from benchmarks.timing import Samples, Table, say
from qmix_lightning.replay.archive import ReplayArchive
from qmix_lightning.replay.buffer import ReplayBuffer
from qmix_lightning.spec import MASK, OBSERVATION, TaskSpec

NEW = 30
"""Episodes between two checkpoints."""


class Peak:
    """How much more memory of its own a process takes than when it began."""

    def __enter__(self) -> Peak:
        gc.collect()
        self._before, self.megabytes, self._over = self._now(), 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.005):
            self.megabytes = max(self.megabytes, (self._now() - self._before) / 1e6)

    @staticmethod
    def _now() -> int:
        status = Path("/proc/self/status").read_text()
        return int(status.partition("RssAnon:")[2].split()[0]) * 1024


def measure(gigabytes: float = 2.0, *, rounds: int = 3, spec: TaskSpec = MMM2) -> Table:
    """Measure saving and resuming.

    Args:
        gigabytes: Of the replay.
        rounds: How often each is measured.
        spec: The task's sizes.

    Returns:
        A row an action.
    """
    episodes = random_episodes(spec, DISTINCT)
    steps = int(episodes[MASK].sum()) + DISTINCT
    step_bytes = sum(entry[0, 0].nbytes for entry in episodes.values(True, True))
    count = max(NEW, int(gigabytes * 1e9 / (steps / DISTINCT * step_bytes)))
    buffer = ReplayBuffer(count, 1)
    for start in range(0, count, DISTINCT):
        buffer.extend(episodes[: min(DISTINCT, count - start)])
    size = sum(rows.nbytes for rows in buffer.state_dict()["storage"]["episodes"]["rows"].values())
    seconds: dict[str, Samples] = {}
    peaks: dict[str, list[float]] = {}
    written: dict[str, int] = {}

    def timed(name: str, action: Callable[[], Any]) -> Any:
        gc.collect()
        with Peak() as peak:
            start = time.perf_counter()
            result = action()
            spent = time.perf_counter() - start
        seconds.setdefault(name, Samples()).seconds.append(spent)
        peaks.setdefault(name, []).append(peak.megabytes)
        return result

    for turn in range(rounds):
        say(f"saving: {count} episodes, {size / 1e9:.2f} GB, round {turn + 1} of {rounds}")
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            archive = ReplayArchive(folder / "replay")
            timed("archive: first save", lambda archive=archive: archive.save(buffer))
            written["archive: first save"] = _size(folder)
            buffer.extend(episodes[:NEW])
            manifest = timed("archive: 30 episodes later", lambda archive=archive: archive.save(buffer))
            written["archive: 30 episodes later"] = _size(folder) - written["archive: first save"]
            resumed = ReplayBuffer(count, 1)
            load = lambda to=resumed, folder=folder, m=manifest: ReplayArchive(folder / "replay").load(to, m)  # noqa: E731
            timed("archive: resume", load)
            _assert_equal(buffer, resumed)
            del resumed, load
        with tempfile.TemporaryDirectory() as name:
            path = Path(name) / "replay.pt"
            timed("torch.save", lambda path=path: _save(buffer, path))
            written["torch.save"] = _size(path.parent)
            resumed = ReplayBuffer(count, 1)
            load = lambda to=resumed, path=path: to.load_state_dict(torch.load(path, weights_only=True))  # noqa: E731
            timed("torch.load", load)
            _assert_equal(buffer, resumed)
            del resumed, load
    rows = [
        (name, f"{written[name] / 1e6:,.0f}" if name in written else "", f"{taken.best:.2f}", f"{taken.median:.2f}",
         f"{min(peaks[name]):,.0f}")
        for name, taken in seconds.items()
    ]  # fmt: skip
    note = f"{count:,} episodes of MMM2's sizes and random length, {size / 1e9:.2f} GB."
    header = ("action", "MB written", "s best", "median", "MB more at the peak")
    return Table("Saving and resuming a replay", header, rows, (note,))


def _save(buffer: ReplayBuffer, path: Path) -> None:
    with path.open("wb") as file:
        torch.save(buffer.state_dict(), file)
        file.flush()
        os.fsync(file.fileno())


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _assert_equal(buffer: ReplayBuffer, resumed: ReplayBuffer) -> None:
    assert len(buffer) == len(resumed)
    for place in torch.randperm(len(buffer))[:50].split(1):
        assert torch.equal(buffer.storage.read(place)[OBSERVATION], resumed.storage.read(place)[OBSERVATION])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command line."""
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)


def run(options: argparse.Namespace) -> list[Table]:
    """Measure as the command line says."""
    return [measure(options.gigabytes, rounds=options.rounds)]
