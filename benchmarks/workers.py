"""Environment steps a second of games in processes of their own, against the same game stepped bare in this one.

    python -m benchmarks workers --games 1 2 4 8 --step_us 0 1000
    SC2PATH=... python -m benchmarks workers --env smac/3m

Without --env the game is a metronome: 3m's arrays, and steps that keep a core busy for so many microseconds. The policy
takes the first legal action. Times are of the clock on the wall, since several processes share the work; "µs here" is
CPU time of this process a step, with policy, records and episodes. With one game nothing happens at the same time, and
what a step takes longer than bare is the transport: two messages, two switches of processes, this process's work.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from functools import partial

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


class Bare:
    """One game, stepped in this process by a loop."""

    def __init__(self, factory: GameFactory) -> None:
        self._game = factory(1)
        self._board = Board(self._game.spec, self._game.info_keys, 1)
        self._seat = Seat(self._game, self._board, 0)
        self._seat.reset(1)

    def run(self, steps: int) -> float:
        """Seconds a step."""
        board, began = self._board, time.perf_counter()
        for _ in range(steps):
            board.action[:] = board.action_mask.argmax(-1)
            self._seat.step()
            if board.done[0, 0]:
                self._seat.reset(1)
        return (time.perf_counter() - began) / steps

    def close(self) -> None:
        """End the game."""
        self._game.close()


class Workers:
    """The same game, several times, each in a process of its own."""

    def __init__(self, factory: GameFactory, games: int) -> None:
        self._rollout = WorkerRollout(factory, games, patience=Patience(stagger=0.0))
        self._policy, self.games, self.here = FirstLegal(self._rollout.spec), games, [float("inf")]
        while None in self._rollout.pids:
            self._rollout.step(self._policy, explore=True)
        self.run(self._rollout.spec.episode_limit * games)

    def run(self, steps: int) -> float:
        """Seconds a step."""
        calls = max(1, steps // self.games)
        began, busy = time.perf_counter(), clock()
        for _ in range(calls):
            self._rollout.step(self._policy, explore=True)
        self.here.append((clock() - busy) / (calls * self.games))
        return (time.perf_counter() - began) / (calls * self.games)

    def close(self) -> None:
        """End the games."""
        self._rollout.close()


def measure(name: str, factory: GameFactory, games: Sequence[int], *, rounds: int, steps: int) -> list[tuple[str, ...]]:
    """Rows of a table, one a number of games."""
    say(f"workers: {name}")
    bare, workers = Bare(factory), [Workers(factory, number) for number in games]
    cases = {"bare": partial(bare.run, steps)} | {str(each.games): partial(each.run, steps) for each in workers}
    samples = interleave(cases, rounds)
    for case in (bare, *workers):
        case.close()
    alone, rows = samples["bare"].best, []
    for each in workers:
        seconds = samples[str(each.games)].best
        over = f"{(seconds - alone) * 1e6:,.0f}" if each.games == 1 else ""
        rows.append((
            name, str(each.games), f"{1 / alone:,.0f}", f"{1 / seconds:,.0f}",
            f"{1 / samples[str(each.games)].median:,.0f}", f"{alone / seconds:.2f}x",
            f"{min(each.here) * 1e6:,.0f}", over,
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
        "game", "games", "bare, env steps/s", "workers, best", "median", "of bare", "µs here a step", "µs of transport",
    )  # fmt: skip
    return [Table("Games in processes of their own", header, rows)]
