"""QMixerLoss against TorchRL's and against plain torch: forward, priorities and backward.

    python -m benchmarks loss --rounds 50

8 agents see 80 numbers each and choose between 14 actions; the state has 168 numbers, the mixer is 32 wide. Agents are
80-64-14 perceptrons, or Linear-GRU-Linear of width 64, unrolled from an empty memory. Contestants take turns:

* ``plain``: the floor, :class:`~benchmarks.contestants.PlainLoss`, which is torch and nothing else;
* ``torchrl``: TorchRL's QMixerLoss, mixers and QValueModule, if it is installed;
* ``ours``: the same script with this library's classes.

All start from the same weights, have the same targets, which are others, and learn from the same batch. Their losses,
priorities and gradients are asserted equal before anything is timed. Transitions, flat or ``[episodes, steps]``, hold
their next step. The rows of double-Q learn from consecutive steps, with ``layout="episode"``, which TorchRL has not,
and are compared with the same loss without double-Q too.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median

import torch

from benchmarks.contestants import (
    OURS,
    Case,
    Contestant,
    Library,
    LibraryLoss,
    PlainLoss,
    assert_equal,
    find_torchrl,
    random_batch,
    update,
)
from benchmarks.timing import Samples, Table, clock, interleave, say, verdict

STEPS, FEW = 60, 32
BAR_LARGE, BAR_FEW, BAR_DOUBLE = 1.05, 1.5, 1.05
"""How many times as long as plain torch large batches and those of 32 may take, and double-Q as long as none."""

Result = Mapping[str, Samples]


def cases(episodes: int) -> list[Case]:
    """Every row; the large ones are of that many episodes."""
    flat, window, consecutive = (episodes * STEPS,), (episodes, STEPS), (episodes, STEPS + 1)
    return [
        Case("MLP", flat),
        Case("MLP, no mask", flat, masked=False),
        Case("MLP, TD(λ)", window, td_lambda=True),
        Case("MLP, VDN", flat, mixer="vdn"),
        Case("GRU", window, agent="gru"),
        Case("MLP", (FEW,)),
        Case("MLP", (1,)),
        Case("MLP, double-Q", consecutive, episodes=True),
        Case("GRU, double-Q", consecutive, agent="gru", episodes=True),
    ]


def make_contestants(case: Case, torchrl: Library | None) -> dict[str, Contestant]:
    """All who take part in a case, after comparing them."""
    batch = random_batch(case)
    contestants: dict[str, Contestant]
    if case.episodes:
        contestants = {
            "plain": PlainLoss(case, batch, double_q=True),
            "single": LibraryLoss(OURS, case, batch, layout="episode"),
            "ours": LibraryLoss(OURS, case, batch, layout="episode", double_q=True),
        }
        assert_equal(PlainLoss(case, batch), contestants["single"])
    else:
        contestants = {"plain": PlainLoss(case, batch)}
        if torchrl is not None:
            contestants["torchrl"] = LibraryLoss(torchrl, case, batch)
            assert_equal(contestants["plain"], contestants["torchrl"])
        contestants["ours"] = LibraryLoss(OURS, case, batch)
    assert_equal(contestants["plain"], contestants["ours"])
    return contestants


def block(contestant: Contestant, updates: int) -> Callable[[], float]:
    """A number of updates, which returns the seconds of one."""

    def seconds() -> float:
        start = clock()
        for _ in range(updates):
            update(contestant)
        return (clock() - start) / updates

    return seconds


def measure(case: Case, torchrl: Library | None, *, rounds: int, seconds: float) -> Result:
    """Measure every contestant of a case.

    Args:
        case: What to compute.
        torchrl: TorchRL's classes, if it is installed.
        rounds: Blocks of updates of each contestant.
        seconds: How long a block of plain torch takes at the least.

    Returns:
        Seconds of an update, by contestant.
    """
    say(f"loss: {case.name} {list(case.shape)}")
    contestants = make_contestants(case, torchrl)
    updates = max(1, math.ceil(seconds / block(contestants["plain"], 1)()))
    return interleave({name: block(contestant, updates) for name, contestant in contestants.items()}, rounds)


def ratio(result: Result, to: str) -> float | None:
    """How many times as long as another ours takes; None if the other did not take part.

    The median over the rounds of the ratio within a round, whose blocks follow one another and share a quiet or a busy
    moment of the machine.
    """
    if to not in result:
        return None
    return median(mine / theirs for mine, theirs in zip(result["ours"].seconds, result[to].seconds, strict=True))


def row(case: Case, result: Result, names: Sequence[str]) -> tuple[str, ...]:
    """Milliseconds of these contestants, and ours against each other one."""
    times = [
        f"{result[name].best * 1e3:.3g} / {result[name].median * 1e3:.3g}" if name in result else "-" for name in names
    ]
    ratios = [ratio(result, name) for name in (*names[:-1], "single")]
    return (case.name, str(list(case.shape)), *times, *("-" if each is None else f"{each:.2f}" for each in ratios))


def bars(results: Sequence[tuple[Case, Result]], episodes: int) -> Iterator[str]:
    """What the worst row makes of each promise."""
    transitions = episodes * STEPS
    large = [result for case, result in results if math.prod(case.shape) == transitions]
    few = [result for case, result in results if case.shape == (FEW,)]
    everything = [result for _, result in results]
    for promise, bar, to, among in (
        ("never slower than TorchRL", 1.0, "torchrl", everything),
        (f"within {BAR_LARGE} of plain torch at {transitions} transitions", BAR_LARGE, "plain", large),
        (f"within {BAR_FEW} of plain torch at {FEW} transitions", BAR_FEW, "plain", few),
        (f"double-Q from episodes within {BAR_DOUBLE} of none", BAR_DOUBLE, "single", everything),
    ):
        ratios = [each for result in among if (each := ratio(result, to)) is not None]
        if ratios:
            yield verdict(f"{promise}, came {max(ratios):.2f} at worst", max(ratios) <= bar)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command line."""
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--threads", type=int, default=1, help="of torch; the clock is that of the first")
    parser.add_argument("--episodes", type=int, default=32, help=f"{STEPS} steps each, in a large batch")
    parser.add_argument("--block", type=float, default=0.02, help="seconds of plain torch in a block, at the least")


def run(options: argparse.Namespace) -> list[Table]:
    """Measure as the command line says."""
    torch.set_num_threads(options.threads)
    torchrl = find_torchrl()
    results = [
        (case, measure(case, torchrl, rounds=options.rounds, seconds=options.block)) for case in cases(options.episodes)
    ]
    missing = () if torchrl else ("TorchRL is not installed, so it did not take part; the extra `dev` has it.",)
    names = ("plain", *(("torchrl",) if torchrl else ()), "ours")
    others = tuple(f"ours / {name}" for name in names[:-1])
    header = ("agents", "batch", "plain, ms best / median", *names[1:], *others, "double-Q / single")
    rows = [row(case, result, names) for case, result in results]
    how = "A ratio is the median over all rounds of the ratio within a round."
    return [Table("QMIX loss", header, rows, (*missing, how, *bars(results, options.episodes)))]
