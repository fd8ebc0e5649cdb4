"""Environment steps a second of games in processes of their own, against the same game stepped bare in this one.

    python -m benchmarks workers --games 1 2 4 8 --step_us 0 1000
    SC2PATH=... python -m benchmarks workers --env smac/3m

Without --env the game is a metronome: 3m's arrays, and steps that keep a core busy for so many microseconds. The policy
takes the first legal action. Steps a second are of the clock on the wall, since several processes share the work, and
count for little beside other jobs. CPU times are of all processes, the game's own included, and "here" those of this
one, with policy, records and episodes. What a step takes more of them than bare is the price of a process of its own:
two messages, two switches between processes, and what is done here. "round trip" is the least that could be: one byte
to another process and back, by the same kind of socket, with nothing else done.
"""

from __future__ import annotations

import argparse
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.timing import Table, clock, interleave, say
from qmix_lightning.envs.games.base import AbstractGame, GameFactory, Sight, Turn
from qmix_lightning.envs.games.board import Board, Seat
from qmix_lightning.envs.registry import game
from qmix_lightning.rollout.processes.patience import Patience
from qmix_lightning.rollout.workers import WorkerRollout
from qmix_lightning.spec import TaskSpec

GAMES = (1, 2, 4, 8)
STEP_US = (0.0, 1000.0)

_ECHO = """
import socket, sys
line = socket.socket(fileno=int(sys.argv[1]))
while byte := line.recv(64):
    line.send(byte)
"""


class Metronome(AbstractGame):
    """Takes the time that it is told to for a step, and shows arrays of the sizes of 3m."""

    spec = TaskSpec("metronome", n_agents=3, n_actions=9, observation_size=30, state_size=48, episode_limit=60)

    def __init__(self, seed: int, *, step_us: float) -> None:
        self._seconds = step_us * 1e-6

    def reset(self, seed: int) -> None:
        """Begin, at once."""

    def step(self, action: NDArray[np.int64]) -> Turn:
        """Be busy."""
        until = time.perf_counter() + self._seconds
        while time.perf_counter() < until:
            pass
        return Turn(reward=1.0)

    def show(self, sight: Sight) -> None:
        """Show something."""
        sight.observation[:], sight.action_mask[:], sight.state[:] = 1.0, True, 1.0


class FirstLegal:
    """A policy that costs next to nothing."""

    def __init__(self, spec: TaskSpec) -> None:
        self._n_agents = spec.n_agents

    def initial_memory(self, battles: int) -> Tensor:
        """None."""
        return torch.zeros(battles, self._n_agents, 0)

    def act(
        self, observation: Tensor, action_mask: Tensor, last_action: Tensor, memory: Tensor, **options: object
    ) -> tuple[Tensor, Tensor]:
        """The first legal action."""
        return action_mask.to(torch.uint8).argmax(-1), memory


class Meter:
    """Counts CPU-seconds of this thread, and of other processes by their group.

    Args:
        groups: Process groups to count, all but this process in them.
    """

    def __init__(self, groups: Collection[int]) -> None:
        self._groups, self._here, self._there = groups, clock(), spent(groups)

    def read(self) -> tuple[float, float]:
        """Seconds since it was made: of this thread, and of all together."""
        here = clock() - self._here
        return here, here + spent(self._groups) - self._there


def spent(groups: Collection[int]) -> float:
    """CPU-seconds of all processes of these groups so far, this one excluded; to a hundredth, as Linux counts."""
    ticks = 0
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:  # It ended meanwhile.
            continue
        if int(fields[2]) in groups and status.parent.name != str(os.getpid()):
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


class Bare:
    """One game, stepped in this process by a loop."""

    def __init__(self, factory: GameFactory) -> None:
        self._game = factory(1)
        self._board = Board(self._game.spec, self._game.info_keys, 1)
        self._seat = Seat(self._game, self._board, 0)
        self.cpu: list[float] = []
        self._seat.reset(1)
        self._play(self._game.spec.episode_limit)

    def run(self, steps: int) -> float:
        """Seconds a step."""
        began, meter = time.perf_counter(), Meter([os.getpgrp()])
        self._play(steps)
        self.cpu.append(meter.read()[1] / steps)
        return (time.perf_counter() - began) / steps

    def _play(self, steps: int) -> None:
        board = self._board
        for _ in range(steps):
            board.action[:] = board.action_mask.argmax(-1)
            self._seat.step()
            if board.done[0, 0]:
                self._seat.reset(1)

    def close(self) -> None:
        """End the game."""
        self._game.close()


class Workers:
    """The same game, several times, each in a process of its own."""

    def __init__(self, factory: GameFactory, games: int) -> None:
        self._rollout = WorkerRollout(factory, games, patience=Patience(stagger=0.0))
        self._policy, self.games = FirstLegal(self._rollout.spec), games
        self.here: list[float] = []
        self.cpu: list[float] = []
        while None in self._rollout.pids:
            self._rollout.step(self._policy, explore=True)
        for _ in range(self._rollout.spec.episode_limit):
            self._rollout.step(self._policy, explore=True)

    def run(self, steps: int) -> float:
        """Seconds a step."""
        calls = max(1, steps // self.games)
        began, meter = time.perf_counter(), Meter([pid for pid in self._rollout.pids if pid is not None])
        for _ in range(calls):
            self._rollout.step(self._policy, explore=True)
        for kept, seconds in zip((self.here, self.cpu), meter.read(), strict=True):
            kept.append(seconds / (calls * self.games))
        return (time.perf_counter() - began) / (calls * self.games)

    def close(self) -> None:
        """End the games."""
        self._rollout.close()


class RoundTrip:
    """A byte to another process and back."""

    def __init__(self) -> None:
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-S", "-c", _ECHO, str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], start_new_session=True)
        self.cpu: list[float] = []
        self.run(100)
        self.cpu.clear()

    def run(self, steps: int) -> float:
        """Seconds a round trip."""
        began, meter, line = time.perf_counter(), Meter([self._process.pid]), self._line
        for _ in range(steps):
            line.send(b"s")
            select.select([line], [], [])
            line.recv(64)
        self.cpu.append(meter.read()[1] / steps)
        return (time.perf_counter() - began) / steps

    def close(self) -> None:
        """End the other process."""
        self._line.close()
        self._process.wait()


def measure(name: str, factory: GameFactory, games: Sequence[int], *, rounds: int, steps: int) -> list[tuple[str, ...]]:
    """Rows of a table, one a number of games."""
    say(f"workers: {name}")
    trip, bare, workers = RoundTrip(), Bare(factory), [Workers(factory, number) for number in games]
    cases = {"trip": partial(trip.run, steps), "bare": partial(bare.run, steps)}
    cases |= {str(each.games): partial(each.run, steps) for each in workers}
    samples = interleave(cases, rounds)
    trip.close()
    bare.close()
    for each in workers:
        each.close()
    alone, rows = samples["bare"], []
    for each in workers:
        took = samples[str(each.games)]
        cpu = [f"{median(seconds) * 1e6:,.0f}" for seconds in (bare.cpu, each.cpu, each.here)]
        rows.append((
            name, str(each.games), f"{1 / alone.best:,.0f}", f"{1 / took.best:,.0f}", f"{1 / took.median:,.0f}",
            f"{alone.best / took.best:.2f}x", *cpu, f"{(median(each.cpu) - median(bare.cpu)) * 1e6:,.0f}",
            f"{median(trip.cpu) * 1e6:,.0f}",
        ))  # fmt: skip
    return rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command line."""
    parser.add_argument("--env", help="a world of single games, e.g. smac/3m; none is the metronome")
    parser.add_argument("--step_us", nargs="+", type=float, default=list(STEP_US), help="µs of the metronome's steps")
    parser.add_argument("--games", nargs="+", type=int, default=list(GAMES), help="numbers of games")
    parser.add_argument("--rounds", type=int, default=5, help="blocks measured of each number")
    parser.add_argument("--env_steps", type=int, default=2_000, help="environment steps in a block")


def run(options: argparse.Namespace) -> list[Table]:
    """Measure as the command line says."""
    factories: dict[str, GameFactory] = {}
    if options.env is None:
        factories = {f"{us:,.0f} µs a step": partial(Metronome, step_us=us) for us in options.step_us}
    elif (factory := game(options.env)) is not None:
        factories = {options.env: factory}
    rows: list[tuple[str, ...]] = []
    for name, factory in factories.items():
        rows += measure(name, factory, options.games, rounds=options.rounds, steps=options.env_steps)
    header = (
        "game", "games", "bare, env steps/s", "workers, best", "median", "of bare", "CPU-µs a step, bare", "workers",
        "here", "workers - bare", "round trip",
    )  # fmt: skip
    return [Table("Games in processes of their own", header, rows)]
