"""Milliseconds to sample a batch from a large replay, by how it is kept.

    python -m benchmarks sampling --cases MMM2 --storages memory --gigabytes 8

MMM2 is not one of the embedded maps: its episodes are random numbers of its sizes and of random length. 3m and
27m_vs_30m are battles of random play, the same few again and again. ``plain`` indexes padded episodes and cuts the copy
behind the longest, as PyMARL does. All batches are asserted equal first, those of float16 up to its precision. As in
training, the batch before is let go only when there is a new one.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from benchmarks.timing import Samples, Table, interleave, say, verdict
from qmix_lightning.envs.registry import make
from qmix_lightning.module import QLearner
from qmix_lightning.replay.buffer import ReplayBuffer
from qmix_lightning.replay.samplers.uniform import UniformSampler
from qmix_lightning.rollout.batched import BatchedRollout
from qmix_lightning.spec import (
    ACTION,
    ACTION_MASK,
    DONE,
    INFO,
    MASK,
    OBSERVATION,
    REWARD,
    STATE,
    TERMINATED,
    UNITS,
    TaskSpec,
)

BAR = 15.0
"""Milliseconds that a batch of 128 of MMM2 may take."""

CAPACITY = 5_000
DISTINCT = 100

MMM2 = TaskSpec("MMM2", n_agents=10, n_actions=18, observation_size=176, state_size=322, episode_limit=180)
BATCHES = {"MMM2": 128, "3m": 32, "27m_vs_30m": 32}
STORAGES: dict[str, dict[str, Any]] = {
    "memory": {},
    "float16": {"precision": "float16"},
    "packed": {"pack": True},
    "float16, packed": {"precision": "float16", "pack": True},
    "disk": {},
    "units": {},
}

Observe = Callable[[TensorDict], TensorDict]


@dataclass(frozen=True)
class Case:
    """Episodes to be replayed.

    Args:
        name: Of the map.
        batch_size: Episodes in a batch.
        episodes: ``[k, T + 1]`` different ones.
        units: The same as their units alone, if the map is embedded.
        observe: Makes the one of the other.
    """

    name: str
    batch_size: int
    episodes: TensorDict
    units: TensorDict | None = None
    observe: Observe | None = None


class PlainReplay:
    """Padded episodes, indexed and then cut."""

    def __init__(self, capacity: int, batch_size: int) -> None:
        self.sampler, self._batch_size, self._count = UniformSampler(), batch_size, 0
        self._capacity, self._entries = capacity, dict[Any, Tensor]()

    def extend(self, episodes: TensorDict) -> None:
        """Store episodes."""
        for key, entry in episodes.items(True, True):
            if key not in self._entries:
                self._entries[key] = torch.zeros(self._capacity, *entry.shape[1:], dtype=entry.dtype)
            self._entries[key][self._count : self._count + len(episodes)] = entry
        self._count += len(episodes)

    def sample(self) -> TensorDict:
        """Draw a batch."""
        index, _ = self.sampler.sample(self._count, self._batch_size)
        steps = int(self._entries[MASK][index].sum((1, 2)).max()) + 1
        return TensorDict({key: e[index][:, :steps] for key, e in self._entries.items()}, [self._batch_size, steps])


def random_episodes(spec: TaskSpec, count: int) -> TensorDict:
    """Episodes of random numbers, of any length from 1 to the limit."""
    steps, generator = spec.episode_limit + 1, torch.Generator().manual_seed(1)
    length = torch.randint(1, steps, (count, 1), generator=generator)
    step = torch.arange(steps)
    played, seen, done = step < length, step <= length, step == length - 1
    shape = (count, steps, spec.n_agents)

    def padded(entry: Tensor, real: Tensor) -> Tensor:
        return entry * real.view(count, steps, *[1] * (entry.dim() - 2))

    legal = padded(torch.rand(*shape, spec.n_actions, generator=generator) < 0.5, seen)
    legal[..., 0] = True
    entries = {
        OBSERVATION: padded(torch.rand(*shape, spec.observation_size, generator=generator), seen),
        STATE: padded(torch.rand(count, steps, spec.state_size, generator=generator), seen),
        ACTION_MASK: legal,
        ACTION: padded(torch.randint(0, spec.n_actions, shape, generator=generator), played),
        REWARD: padded(torch.rand(count, steps, 1, generator=generator), played),
        MASK: played[..., None],
        DONE: done[..., None],
        TERMINATED: done[..., None],
        (*INFO, "battle_won"): done[..., None],
        (*INFO, "dead_allies"): padded(torch.ones(count, steps, 1), done),
        (*INFO, "dead_enemies"): padded(torch.ones(count, steps, 1), done),
    }
    return TensorDict(entries, [count, steps])


def case_of(name: str, batch_size: int, threads: int) -> Case:
    """Make up, or play, the episodes of a case."""
    if name == "MMM2":
        return Case(name, batch_size, random_episodes(MMM2, DISTINCT))
    env = make(f"battle/{name}", num_envs=DISTINCT, seed=1, threads=threads)
    rollout, learner = BatchedRollout(env, compact=True), QLearner(env.spec, epsilon_end=1.0)
    ended: list[TensorDict] = []
    while sum(map(len, ended)) < DISTINCT:
        episodes = rollout.step(learner, explore=True)
        ended += [] if episodes is None else [episodes]
    units = torch.cat(ended)[:DISTINCT]
    return Case(name, batch_size, env.observe(units).exclude(UNITS), units, env.observe)


def assert_alike(batch: TensorDict, plain: TensorDict, tolerance: float) -> None:
    """Compare a batch with the plain one of the same draw."""
    assert batch.batch_size == plain.batch_size
    for key, entry in plain.items(True, True):
        torch.testing.assert_close(batch[key], entry, rtol=tolerance, atol=tolerance / 100)


def measure(
    case: Case, storages: Sequence[str], threads: int, *, gigabytes: float = 2.0, rounds: int = 30
) -> tuple[Table, float]:
    """Measure one case.

    Args:
        case: The episodes.
        storages: Which of :data:`STORAGES`; units where the map is embedded only.
        threads: For torch.
        gigabytes: Of each replay, at most; it holds up to 5,000 episodes.
        rounds: Batches sampled of each.

    Returns:
        A row a storage, and the best milliseconds of that in memory: of the CPU on one thread, on the wall on more.
    """
    played = case.episodes[MASK].sum((1, 2)).float().mean() + 1
    kilobytes = sum(entry[0].nbytes for entry in case.episodes.values(True, True)) / 1_000
    count = min(
        CAPACITY, max(case.batch_size, int(gigabytes * 1e6 / kilobytes / float(played) * case.episodes.shape[1]))
    )
    with tempfile.TemporaryDirectory() as folder:
        replays: dict[str, Any] = {"plain": PlainReplay(count, case.batch_size)}
        for storage in storages:
            options = {**STORAGES[storage], "folder": folder if storage == "disk" else None}
            observe = case.observe if storage == "units" else None
            if storage != "units" or observe is not None:
                replays[storage] = ReplayBuffer(count, case.batch_size, **options, observe=observe)
        cases, walls = {}, {name: Samples() for name in replays}
        for name, replay in replays.items():
            say(f"sampling: {count} episodes of {case.name}, {name}")
            source = case.units if name == "units" and case.units is not None else case.episodes
            for start in range(0, count, DISTINCT):
                replay.extend(source[: min(DISTINCT, count - start)])
            replay.sampler.load_state_dict(UniformSampler(1).state_dict())
            cases[name] = _sampling(replay, walls[name])
        plain = replays["plain"].sample()
        for name in list(replays)[1:]:
            assert_alike(replays[name].sample(), plain, 2.0**-10 if "float16" in name else 0.0)
        del plain
        gc.collect()
        cpu = interleave(cases, rounds)
        rows = []
        for name in replays:
            like = case.units if name == "units" else case.episodes
            size = kilobytes if name == "plain" else replays[name].storage.episode_bytes(like) / 1_000
            rows.append((
                case.name, f"{case.batch_size} x {case.episodes.shape[1]}", str(threads), name, f"{size:,.0f}",
                f"{walls[name].best * 1e3:.1f}", f"{walls[name].median * 1e3:.1f}", f"{cpu[name].best * 1e3:.1f}",
                f"{cpu[name].best / cpu['plain'].best:.2f}",
            ))  # fmt: skip
    header = (
        "map", "batch", "threads", "kept", "kB an episode", "ms best", "median", "CPU-ms best", "/ plain",
    )  # fmt: skip
    share = float(played) / case.episodes.shape[1]
    note = f"{count:,} episodes, of which {share:.0%} is played; the room of an episode is that of the longest."
    best = (cpu if threads == 1 else walls).get("memory", Samples([0.0])).best
    return Table(f"Sampling {case.name}", header, rows, (note,)), best * 1e3


def _sampling(replay: Any, wall: Samples) -> Callable[[], float]:
    batch = replay.sample()

    def sample() -> float:
        nonlocal batch
        began, start = time.perf_counter(), time.process_time()
        batch = replay.sample()
        spent = time.process_time() - start
        wall.seconds.append(time.perf_counter() - began)
        return spent

    return sample


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command line."""
    parser.add_argument("--cases", nargs="+", choices=list(BATCHES), default=list(BATCHES))
    parser.add_argument("--storages", nargs="+", choices=list(STORAGES), default=list(STORAGES))
    parser.add_argument("--batch", type=int, help="episodes in a batch, instead of 128 of MMM2 and 32 of others")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--gigabytes", type=float, default=0.5, help="memory for each of the replays")
    parser.add_argument("--rounds", type=int, default=30, help="batches sampled of each")


def run(options: argparse.Namespace) -> list[Table]:
    """Measure as the command line says."""
    before, tables = torch.get_num_threads(), []
    for threads in options.threads:
        torch.set_num_threads(threads)
        for name in options.cases:
            case = case_of(name, options.batch or BATCHES[name], threads)
            size = {"gigabytes": options.gigabytes, "rounds": options.rounds}
            table, best = measure(case, options.storages, threads, **size)
            if name == "MMM2" and case.batch_size == BATCHES[name] and "memory" in options.storages:
                what = f"at most {BAR:g} ms for a batch of 128 of MMM2, came {best:.1f} on {threads} thread(s)"
                met = verdict(what, best <= BAR)
                table = Table(table.title, table.header, table.rows, (*table.notes, met))
            tables.append(table)
            gc.collect()
    torch.set_num_threads(before)
    return tables
