"""Environment steps a second of the battle simulator, with everything that a learner reads.

    python -m benchmarks battle --maps 3m 8m --batches 32 1024 --threads 1 2
    python -m benchmarks battle --maps all --batches 256 --threads 1
    python -m benchmarks battle --maps 3m 2s3z --smax PYTHON --smaclite PYTHON
    python -m benchmarks battle --maps 3m MMM --device cuda

Every step writes observations, state, masks, reward and what is reported of the outcome, and battles that end restart
at once. Random legal actions are drawn outside the timed part. Battles are spread over all moments of an episode before
the first measurement. A CPU-second is one of all threads together; a second is one on the wall, and several threads can
only shorten that one on a machine with nothing else to do. Other simulators are measured in the same turns, each by an
interpreter that has its package; see other_simulators.py.

On a GPU the actions are drawn there, inside the timed part, and battles that end restart in every step, so that a step
can be measured as it is called and from a CUDA graph.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from benchmarks.other_simulators import SMACLITE, SMAX, OtherSimulator
from benchmarks.timing import Samples, Table, interleave, say, verdict
from qmix_lightning.envs.battle.scenario import map_names
from qmix_lightning.envs.registry import make
from qmix_lightning.spec import ACTION_MASK

BARS = {"3m": 400_000, "2s3z": 100_000, "27m_vs_30m": 10_000}
"""Environment steps a second that one core must make."""

MAPS = ("3m", "2s3z", "MMM", "27m_vs_30m")

SMAX_MAPS = (
    "3m", "8m", "25m", "2s3z", "3s5z", "5m_vs_6m", "10m_vs_11m", "27m_vs_30m", "3s5z_vs_3s6z", "3s_vs_5z", "6h_vs_8z",
)  # fmt: skip
SMACLITE_MAPS = (
    "10m_vs_11m", "27m_vs_30m", "3s5z_vs_3s6z", "2s3z", "3s5z", "MMM", "MMM2", "2c_vs_64zg", "bane_vs_bane", "corridor",
    "2s_vs_1sc", "3s_vs_5z",
)  # fmt: skip

OTHERS = {"smax": ("SMAX", SMAX, 16, SMAX_MAPS), "smaclite": ("SMAClite", SMACLITE, 1, SMACLITE_MAPS)}
"""Option, name, code, the number of battles with which each was fastest on one core, and the maps that it has."""


class Arena:
    """Battles under random play.

    Args:
        map_name: One of SMAC's maps.
        battles: How many are played side by side.
        threads: Over how many threads.
        block: CPU-seconds that one measurement lasts at least.

    Attributes:
        wall: Seconds on the wall of an environment step, over each block.
    """

    def __init__(self, map_name: str, battles: int, threads: int, block: float) -> None:
        self.env = make(f"battle/{map_name}", num_envs=battles, seed=1, threads=threads)
        self._block, self.wall = block, Samples()
        self._random = torch.Generator().manual_seed(1)
        self._view = self.env.reset()
        self._mask: Tensor = self._view[ACTION_MASK]  # overwritten in place by every step
        moments = 30
        for _ in range(moments):
            done = self.env.step(self._legal_actions())["done"].flatten()
            self.env.reset(done | (torch.rand(battles, generator=self._random) < 1 / moments))

    def __call__(self) -> float:
        """CPU-seconds of an environment step, over one block."""
        spent, wall, steps = 0.0, 0.0, 0
        while spent < self._block:
            action = self._legal_actions()
            began, start = time.perf_counter(), time.process_time()
            done = self.env.step(action)["done"].flatten()
            if done.any():
                self.env.reset(done)
            spent += time.process_time() - start
            wall += time.perf_counter() - began
            steps += self.env.num_envs
        self.wall.seconds.append(wall / steps)
        return spent / steps

    def kilobytes(self) -> float:
        """Memory of a battle: its units, clocks and random numbers, and everything that a learner reads of it."""
        state = self.env.state_dict() or {}
        seen = [self._view["agents", "observation"], self._view["state"]]
        tensors = [entry for entry in state.values() if isinstance(entry, Tensor)]
        return sum(tensor.nbytes for tensor in (*tensors, *seen)) / self.env.num_envs / 1000

    def _legal_actions(self) -> Tensor:
        return torch.where(self._mask, torch.rand(self._mask.shape, generator=self._random), -1.0).argmax(-1)


class GpuArena:
    """Battles on a GPU under random play.

    Args:
        map_name: One of SMAC's maps.
        battles: How many are played side by side.
        graphed: Whether steps are replayed from a CUDA graph.
        block: Seconds that one measurement lasts about.
    """

    def __init__(self, map_name: str, battles: int, graphed: bool, block: float) -> None:
        self.env = make(f"battle/{map_name}", num_envs=battles, seed=1, device="cuda")
        self._mask: Tensor = self.env.reset()[ACTION_MASK]  # overwritten in place by every step
        self._play = self._step
        for _ in range(3):  # compiles
            self._step()
        if graphed:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self._step()
            self._play = graph.replay
        self._steps = 1
        self._steps = max(1, round(block / (self() * battles)))

    def __call__(self) -> float:
        """Seconds of an environment step, over one block."""
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(self._steps):
            self._play()
        torch.cuda.synchronize()
        return (time.perf_counter() - start) / (self._steps * self.env.num_envs)

    def _step(self) -> None:
        chances = torch.rand(self._mask.shape, device=self._mask.device)
        action = torch.where(self._mask, chances, -1.0).argmax(-1)
        self.env.reset(self.env.step(action)["done"].flatten())


def measure_gpu(
    maps: Sequence[str] = ("3m",),
    batches: Sequence[int] = (64, 1_024, 16_384),
    *,
    rounds: int = 15,
    block: float = 0.05,
) -> Table:
    """Measure every combination on torch's current GPU.

    Args:
        maps: Names of SMAC maps.
        batches: Numbers of battles side by side.
        rounds: Blocks measured of each.
        block: Seconds that a block lasts about.

    Returns:
        A row a combination.

    Raises:
        RuntimeError: If there is no GPU.
    """
    cases = [(name, battles, graphed) for name in maps for battles in batches for graphed in (False, True)]
    arenas = {case: GpuArena(*case, block) for case in cases}
    samples = interleave(arenas, rounds)
    rows = [
        (
            name, str(battles), "graph" if graphed else "calls", f"{1 / samples[name, battles, graphed].best:,.0f}",
            f"{1 / samples[name, battles, graphed].median:,.0f}",
            f"{samples[name, battles, graphed].best * battles * 1e6:,.0f}",
        )
        for name, battles, graphed in cases
    ]  # fmt: skip
    header = ("map", "battles", "by", "env steps/s best", "median", "µs a step")
    return Table(f"Simulator on {torch.cuda.get_device_name()}", header, rows)


def measure(
    maps: Sequence[str] = MAPS,
    batches: Sequence[int] = (1, 32, 256, 1024),
    threads: Sequence[int] = (1, 2),
    *,
    rounds: int = 15,
    block: float = 0.05,
    others: Mapping[str, str] | None = None,
) -> Table:
    """Measure every combination.

    Args:
        maps: Names of SMAC maps.
        batches: Numbers of battles side by side.
        threads: Numbers of threads; with more threads than battles there is nothing to spread.
        rounds: Blocks measured of each.
        block: CPU-seconds that a block lasts at least.
        others: Interpreters that have other simulators, by the keys of :data:`OTHERS`.

    Returns:
        A row a combination.
    """
    cases = [(name, battles, count) for name in maps for battles in batches for count in threads if count <= battles]
    say(f"battle: {len(cases)} combinations")
    arenas = {case: Arena(*case, block) for case in cases}
    with ExitStack() as stack:
        peers = {
            (name, OTHERS[key][0], OTHERS[key][2]): stack.enter_context(
                OtherSimulator(python, OTHERS[key][1], name, OTHERS[key][2], max(block, 0.2))
            )
            for key, python in (others or {}).items()
            for name in maps
            if name in OTHERS[key][3]
        }
        # All in one go: each row is spread over the whole run, and none is left to a slow minute of the machine.
        samples = interleave({**arenas, **peers}, rounds)
    rows = []
    for case, arena in arenas.items():
        (map_name, battles, count), sample, alone = case, samples[case], arenas.get((*case[:2], 1))
        faster = "" if count == 1 or alone is None else f"{alone.wall.best / arena.wall.best:.2f}x"
        rows.append((
            map_name, str(battles), str(count), f"{1 / sample.best:,.0f}", f"{1 / sample.median:,.0f}",
            f"{sample.best * battles * 1e6:,.0f}", f"{1 / arena.wall.best:,.0f}", faster, f"{arena.kilobytes():.1f}",
        ))  # fmt: skip
        arena.env.close()
    for name, peer, battles in peers:
        sample = samples[name, peer, battles]
        ours = min(samples[case].best for case in cases if case[0] == name and case[2] == 1)
        rows.append((
            f"{name}, {peer}", str(battles), "1", f"{1 / sample.best:,.0f}", f"{1 / sample.median:,.0f}",
            f"{sample.best * battles * 1e6:,.0f}", "", f"ours {sample.best / ours:,.0f}x", "",
        ))  # fmt: skip
    header = (
        "map", "battles", "threads", "env steps/CPU-s best", "median", "CPU-µs a call", "env steps/s best",
        "against 1 thread", "kB a battle",
    )  # fmt: skip
    return Table("Battles", header, rows, tuple(_verdicts(cases, samples)))


def _verdicts(cases: Sequence[tuple[str, int, int]], samples: Mapping[Any, Samples]) -> list[str]:
    """What came of the bars for the maps that were measured on one thread."""
    notes = []
    for name, bar in BARS.items():
        alone = [1 / samples[case].best for case in cases if case[0] == name and case[2] == 1]
        if alone:
            said = f"at least {bar:,} env steps/s on one core on {name}, came {max(alone):,.0f}"
            notes.append(verdict(said, max(alone) >= bar))
    return notes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command line."""
    parser.add_argument("--maps", nargs="+", default=list(MAPS), help="names of maps, or all")
    parser.add_argument("--batches", nargs="+", type=int, help="1 32 256 1024, or 64 1024 16384 on a GPU")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    for key, (name, *_) in OTHERS.items():
        parser.add_argument(f"--{key}", metavar="PYTHON", help=f"interpreter that has {name}")
    parser.add_argument("--rounds", type=int, default=15, help="blocks measured of each combination")
    parser.add_argument("--block", type=float, default=0.05, help="CPU-seconds that a block lasts at least")


def run(options: argparse.Namespace) -> list[Table]:
    """Measure as the command line says."""
    maps = map_names() if options.maps == ["all"] else options.maps
    if options.device == "cuda":
        batches = options.batches or [64, 1_024, 16_384]
        return [measure_gpu(maps, batches, rounds=options.rounds, block=options.block)]
    batches = options.batches or [1, 32, 256, 1024]
    others = {key: python for key in OTHERS if (python := getattr(options, key))}
    return [measure(maps, batches, options.threads, rounds=options.rounds, block=options.block, others=others)]
