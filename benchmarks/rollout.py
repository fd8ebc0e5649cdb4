"""Environment steps a second of rollouts with the GRU policy, against the bare forward pass of that policy.

    python -m benchmarks rollout --map 3m --batches 1 32 256
    python -m benchmarks rollout --batches 64 256 --threads 1 2

The floor is ``agent.step`` and the argmax over legal actions, on tensors that such a rollout saw: whoever plays with
this network pays it. Exploration is at ε = 1, and so the battles are those of random play, whatever the network.
Policy, simulator and recorder play in one compiled call. What share each has is told by another rollout, in which
Python calls them one by one. With
several threads battles and torch have as many each, and times are on the wall: the floor is then shown on one thread
and on as many.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from benchmarks.timing import Samples, Table, clock, interleave, say
from qmix_lightning.envs.base import AbstractEnvironment
from qmix_lightning.envs.registry import make
from qmix_lightning.functional.values import legal_argmax
from qmix_lightning.module import QLearner
from qmix_lightning.rollout.batched import BatchedRollout

BATCHES = (1, 4, 16, 64, 256)
TIMES = 3
"""Steps in one call: as many as training on 3m plays for an update, by default."""


class Stopwatch:
    """Adds up the seconds, by a clock, that are spent inside the functions that it wraps."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.spent, self._now = 0.0, now

    def wrap(self, function: Any) -> Any:
        """The same function, timed."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = self._now()
            try:
                return function(*args, **kwargs)
            finally:
                self.spent += self._now() - start

        return timed


class TimedEnvironment(AbstractEnvironment):
    """An environment whose steps and restarts are timed."""

    def __init__(self, env: AbstractEnvironment, watch: Stopwatch) -> None:
        self.spec, self.num_envs, self.info_keys = env.spec, env.num_envs, env.info_keys
        self.snapshot_keys = env.snapshot_keys
        self._env, self._step, self._reset = env, watch.wrap(env.step), watch.wrap(env.reset)

    def reset(self, which: Tensor | None = None) -> TensorDict:
        """Start new battles."""
        view: TensorDict = self._reset(which)
        return view

    def step(self, action: Tensor) -> TensorDict:
        """Play one step."""
        outcome: TensorDict = self._step(action)
        return outcome

    def seed(self, seed: int) -> None:
        """Seed the battles that start from now on."""
        self._env.seed(seed)


class TimedPolicy:
    """A policy whose decisions are timed, and which remembers what it was last asked."""

    def __init__(self, learner: QLearner, watch: Stopwatch) -> None:
        self.initial_memory, self._act = learner.initial_memory, watch.wrap(learner.act)
        self.asked: tuple[Tensor, ...] = ()

    def act(self, *tensors: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
        """Decide."""
        self.asked = tensors
        decision: tuple[Tensor, Tensor] = self._act(*tensors, **options)
        return decision


class Rollouts:
    """Rollouts plain and in parts, and the floor, over the same number of battles.

    Args:
        map_name: One of SMAC's maps.
        battles: How many are played side by side.
        steps: Of each battle in one block, a multiple of ``TIMES``.
        threads: Of the simulator and of torch.
    """

    def __init__(self, map_name: str, battles: int, steps: int, threads: int = 1) -> None:
        env = make(f"battle/{map_name}", num_envs=battles, seed=1, threads=threads)
        self._threads, self._clock = threads, clock if threads == 1 else time.perf_counter
        self._learner = QLearner(env.spec, epsilon_end=1.0)
        self._steps = steps
        self._rollout = BatchedRollout(env, compact=True)
        self._deciding, self._simulating = Stopwatch(self._clock), Stopwatch(self._clock)
        self._policy = TimedPolicy(self._learner, self._deciding)
        others = make(f"battle/{map_name}", num_envs=battles, seed=1, threads=threads)
        timed_env = TimedEnvironment(others, self._simulating)
        self._timed_rollout = BatchedRollout(timed_env, compact=True)
        self.policy, self.simulator, self.rest = Samples(), Samples(), Samples()
        for _ in range(min(env.spec.episode_limit, 40)):
            self._rollout.step(self._learner, explore=True)
            self._timed_rollout.step(self._policy, explore=True)
        self._seen = tuple(tensor.clone() for tensor in self._policy.asked)

    def whole(self) -> float:
        """Seconds of one call of the rollout, as a user pays them."""
        with threads_of_torch(self._threads):
            start = self._clock()
            for _ in range(self._steps // TIMES):
                self._rollout.step(self._learner, explore=True, times=TIMES)
            return (self._clock() - start) / self._steps

    def parts(self) -> float:
        """The same one by one, with policy and simulator timed; what is left is the recorder and the loop."""
        self._deciding.spent = self._simulating.spent = 0.0
        with threads_of_torch(self._threads):
            start = self._clock()
            for _ in range(self._steps // TIMES):
                self._timed_rollout.step(self._policy, explore=True, times=TIMES)
            whole = (self._clock() - start) / self._steps
        policy, simulator = self._deciding.spent / self._steps, self._simulating.spent / self._steps
        self.policy.seconds.append(policy)
        self.simulator.seconds.append(simulator)
        self.rest.seconds.append(whole - policy - simulator)
        return whole

    def floor(self) -> float:
        """Seconds of one bare forward pass and argmax, on as many threads."""
        return self._bare(self._threads)

    def floor_of_one(self) -> float:
        """The same on one thread."""
        return self._bare(1)

    def _bare(self, threads: int) -> float:
        observation, mask, last_action, memory = self._seen
        agent = self._learner.agent
        with threads_of_torch(threads), torch.no_grad():
            start = self._clock()
            for _ in range(self._steps):
                value, _ = agent.step(observation, last_action, memory)
                legal_argmax(value, mask)
            return (self._clock() - start) / self._steps


@contextmanager
def threads_of_torch(number: int) -> Iterator[None]:
    """Let torch compute with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def measure(
    map_name: str = "3m",
    batches: Sequence[int] = BATCHES,
    *,
    threads: Sequence[int] = (1,),
    rounds: int = 9,
    env_steps: int = 10_000,
) -> Table:
    """Measure rollouts of several sizes.

    Args:
        map_name: One of SMAC's maps.
        batches: Numbers of battles side by side.
        threads: Numbers of threads, of the simulator and of torch each.
        rounds: Blocks measured of each.
        env_steps: Environment steps in one block, but at most 300 of each battle.

    Returns:
        A row a size.
    """
    rows = []
    for battles, number in itertools.product(batches, threads):
        say(f"rollout: {battles} battles on {map_name}, {number} thread{'s' * (number > 1)}")
        rollouts = Rollouts(map_name, battles, TIMES * max(1, min(100, env_steps // battles // TIMES)), number)
        cases = {"whole": rollouts.whole, "parts": rollouts.parts, "floor": rollouts.floor}
        if number > 1:
            cases["floor of one"] = rollouts.floor_of_one
        samples = interleave(cases, rounds)
        whole, floor, of_one = samples["whole"], samples["floor"], samples.get("floor of one", samples["floor"])
        parts = [part.median for part in (rollouts.policy, rollouts.simulator, rollouts.rest)]
        rows.append((
            map_name, str(battles), str(number), f"{battles / whole.best:,.0f}", f"{battles / whole.median:,.0f}",
            f"{whole.best / floor.best:.2f}", f"{whole.best / of_one.best:.2f}",
            f"{floor.best * 1e6:,.0f}", f"{whole.best * 1e6:,.0f}", f"{samples['parts'].best * 1e6:,.0f}",
            *(f"{part / sum(parts):.0%}" for part in parts),
        ))  # fmt: skip
    header = (
        "map", "battles", "threads", "env steps/s best", "median", "whole / bare policy", "/ bare policy on one",
        "µs bare policy", "µs whole", "µs one by one", "policy", "simulator", "recorder and loop",
    )  # fmt: skip
    return Table("Rollouts with the GRU policy", header, rows)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command line."""
    parser.add_argument("--map", default="3m")
    parser.add_argument("--batches", nargs="+", type=int, default=list(BATCHES))
    parser.add_argument("--threads", nargs="+", type=int, default=[1], help="of the simulator and of torch each")
    parser.add_argument("--rounds", type=int, default=9, help="blocks measured of each size")
    parser.add_argument("--env_steps", type=int, default=10_000, help="environment steps in a block")


def run(options: argparse.Namespace) -> list[Table]:
    """Measure as the command line says."""
    sizes = {"threads": options.threads, "rounds": options.rounds, "env_steps": options.env_steps}
    return [measure(options.map, options.batches, **sizes)]
