"""How every benchmark measures: in one run, turn by turn, by the best and the median of many blocks."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TypeVar

import numba
import torch

Name = TypeVar("Name", bound=Hashable)
Case = Callable[[], float]


clock = time.thread_time
"""CPU time of the calling thread, which other processes do not lengthen, though they spoil its caches."""


@dataclass
class Samples:
    """Seconds that one thing took, each time it was measured."""

    seconds: list[float] = field(default_factory=list)

    @property
    def best(self) -> float:
        """The shortest, which is the least disturbed."""
        return min(self.seconds)

    @property
    def median(self) -> float:
        """The median, which is what to expect beside other work."""
        return median(self.seconds)


def interleave(cases: Mapping[Name, Case], rounds: int) -> dict[Name, Samples]:
    """Run every case once a round, in turn, so that a busy minute of the machine falls on all of them.

    Args:
        cases: By name, functions that do some work and return the seconds that count.
        rounds: How often each case is run.

    Returns:
        What each case returned.
    """
    samples = {name: Samples() for name in cases}
    for turn in range(rounds):
        # Forth and back, so that no case always runs in the caches of the same other one.
        for name in list(cases) if turn % 2 == 0 else reversed(list(cases)):
            samples[name].seconds.append(cases[name]())
    return samples


@dataclass(frozen=True)
class Table:
    """Rows to be pasted into benchmarks/README.md."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Markdown."""
        widths = [max(map(len, column)) for column in zip(self.header, *self.rows, strict=True)]
        ruler = tuple("-" * width for width in widths)
        lines = [
            "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
            for row in (self.header, ruler, *self.rows)
        ]
        return "\n".join([f"## {self.title}", "", *lines, *(f"\n{note}" for note in self.notes), ""])


def verdict(what: str, met: bool) -> str:
    """Say whether a bar is met."""
    return f"Bar: {what}: {'met' if met else 'MISSED'}."


def machine() -> str:
    """What the numbers were taken on, and how busy it was."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cpu = names[0] if names else platform.processor()
    return (
        f"{cpu}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; torch {torch.__version__} on"
        f" {torch.get_num_threads()} thread(s), numba {numba.__version__}, Python {platform.python_version()}"
    )


def show(tables: Iterable[Table]) -> None:
    """Print tables and the machine."""
    for table in tables:
        print(table, flush=True)
    print(machine())


def say(progress: str) -> None:
    """Tell a waiting user what is being measured."""
    print(progress, file=sys.stderr, flush=True)
