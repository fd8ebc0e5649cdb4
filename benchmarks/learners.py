"""One QMIX update by QLearner, against PyMARL's, PyMARL2's and EPyMARL's own learners on the same batch.

    git clone https://github.com/oxwhirl/pymarl           # and hijkzzz/pymarl2, uoe-agents/epymarl
    python -m benchmarks learners --pymarl pymarl --pymarl2 pymarl2 --epymarl epymarl

Each peer's learner and ours start from the same weights, with its estimator and optimizer, and with equal networks:
GRU 64 that is told observation, last action and agent, mixer 32, hypernetworks of two layers with 64. Sampling is left
out; an update is forward, backward, clipping, optimizer step and target update. Three take turns: ``theirs`` is their
``train``, ``loss`` is QLearner's loss and optimizer called by hand, ``trainer`` is ``Trainer.fit``. First loss, every
gradient and the loss after the last update are asserted equal.

Episodes are of random play and cut after the longest, as all four train. Of 2s3z, which is not among the embedded
battles, there are only sizes: its episodes hold random numbers and are as long as those of 8m, which has the same
limit. With ``--padded`` episodes are as long as the limit.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import torch
from tensordict import TensorDict

from benchmarks.peers import PEERS, Peer, PeerLearner
from benchmarks.timing import Samples, Table, say, verdict
from benchmarks.update import GAMMA, TARGET_INTERVAL, LossLearner, Turns, layers, played_batch, take_turns
from qmix_lightning.envs.registry import make
from qmix_lightning.mixers.qmix import QMixer
from qmix_lightning.module import QLearner
from qmix_lightning.spec import ACTION, ACTION_MASK, DONE, MASK, OBSERVATION, REWARD, STATE, TERMINATED, TaskSpec

BARS = {32: 1.3, 128: 1.0}
"""How many times as fast as any peer's our update is to be, by episodes in a batch."""
STAND_IN = TaskSpec("2s3z", n_agents=5, n_actions=11, observation_size=80, state_size=120, episode_limit=120)


def episodes(map_name: str, count: int, *, padded: bool = False) -> tuple[TaskSpec, TensorDict]:
    """Sizes of a task, and episodes of it ``[count, L + 1]``.

    Args:
        map_name: One of SMAC's maps.
        count: How many.
        padded: Whether L is the episode limit, instead of the length of the longest.
    """
    if map_name == STAND_IN.name:
        spec, batch = STAND_IN, made_up(STAND_IN, played_batch("8m", count)[MASK])
    else:
        spec, batch = make(f"battle/{map_name}").spec, played_batch(map_name, count)
    longest = int(batch[MASK].sum(1).max())
    return spec, batch if padded else batch[:, : longest + 1].clone()


def made_up(spec: TaskSpec, mask: torch.Tensor) -> TensorDict:
    """Random numbers of a task's sizes.

    Args:
        spec: The sizes.
        mask: ``[B, T + 1, 1]``, which steps were played.
    """
    torch.manual_seed(0)
    agents = (*mask.shape[:2], spec.n_agents)
    last = mask & ~mask.roll(-1, 1)
    legal = torch.rand(*agents, spec.n_actions) < 0.6
    # "No-op".
    legal[..., 0] = True
    batch = {
        OBSERVATION: torch.rand(*agents, spec.observation_size),
        STATE: torch.rand(*mask.shape[:2], spec.state_size),
        REWARD: torch.rand(mask.shape),
    }
    batch = {key: entry * mask.view(*mask.shape[:2], *[1] * (entry.ndim - 2)) for key, entry in batch.items()}
    action = (torch.rand(legal.shape) * legal).argmax(-1)
    flags = {DONE: last, TERMINATED: last, MASK: mask, ACTION_MASK: legal, ACTION: action}
    return TensorDict({**batch, **flags}, mask.shape[:2])


def make_learner(spec: TaskSpec, peer: Peer) -> QLearner:
    """QLearner as the peer learns, from the same weights each time."""
    torch.manual_seed(1)
    return QLearner(
        spec, mixer=lambda spec: QMixer(spec, hypernet_layers=2), gamma=GAMMA,
        target_update="hard", target_interval=TARGET_INTERVAL, **peer.ours,
    )  # fmt: skip


def assert_equal(peer: Peer, checkout: Path, spec: TaskSpec, batch: TensorDict) -> None:
    """Compare the first loss and every gradient of both."""
    ours = make_learner(spec, peer)
    theirs = PeerLearner(peer, checkout, spec, batch, ours, clip=math.inf)
    loss = ours.loss(batch)["loss"]
    loss.backward()
    torch.testing.assert_close(float(loss.detach()), theirs.loss(), rtol=1e-5, atol=0)
    mine = [parameter.grad for layer in layers(ours) for parameter in layer.parameters()]
    torch.testing.assert_close(mine, theirs.gradients, rtol=1e-4, atol=1e-6)


def measure(
    peer: Peer, checkout: Path, spec: TaskSpec, batch: TensorDict, *, updates: int, warmup: int = 3
) -> dict[str, Samples]:
    """Measure one peer's update and ours.

    Args:
        peer: Against whom.
        checkout: Where its repository lies.
        spec: The task's sizes.
        batch: Episodes.
        updates: Updates counted.
        warmup: Updates before.

    Returns:
        Seconds an update of ``theirs``, ``loss`` and ``trainer``.
    """
    assert_equal(peer, checkout, spec, batch)
    by_trainer, by_hand = make_learner(spec, peer), LossLearner(make_learner(spec, peer))
    theirs = PeerLearner(peer, checkout, spec, batch, by_trainer)
    turns = Turns(batch, {"theirs": theirs.update, "loss": by_hand.update}, updates, warmup)
    samples = take_turns(by_trainer, turns)
    last = theirs.loss()
    for learner in (by_hand.learner, by_trainer):
        torch.testing.assert_close(float(learner.loss(batch)["loss"].detach()), last, rtol=0.02, atol=1e-4)
    return samples


def speedups(samples: dict[str, Samples], name: str) -> tuple[float, float]:
    """How many times as fast as theirs: of the best updates, and in the median over the rounds."""
    theirs, ours = samples["theirs"], samples[name]
    # The Trainer does not ask for a batch after its last update, which therefore is not counted.
    by_round = median(their / our for their, our in zip(theirs.seconds, ours.seconds, strict=False))
    return theirs.best / ours.best, by_round


def compare(
    checkouts: dict[str, Path], maps: Sequence[str], batches: Sequence[int], *, padded: bool, updates: int
) -> Table:
    """Measure all peers that are there.

    Args:
        checkouts: Where each repository lies, by the peer's name.
        maps: SMAC's maps.
        batches: Episodes in a batch.
        padded: Whether episodes are as long as the limit.
        updates: Updates counted for each.

    Returns:
        A row for each peer, map and size.
    """
    rows, reached = [], dict[int, list[float]]()
    for map_name in maps:
        for size in batches:
            spec, batch = episodes(map_name, size, padded=padded)
            filled = float(batch[MASK][:, :-1].float().mean())
            for peer in (peer for peer in PEERS if peer.name in checkouts):
                say(f"learners: {peer.name} with {size} episodes on {map_name}")
                samples = measure(peer, checkouts[peer.name], spec, batch, updates=updates)
                times = [f"{each.best * 1e3:.1f} / {each.median * 1e3:.1f}" for each in samples.values()]
                ratios = {name: speedups(samples, name) for name in ("loss", "trainer")}
                shown = ["{:.2f} / {:.2f}".format(*pair) for pair in ratios.values()]
                rows.append((peer.name, map_name, f"{size} x {batch.shape[1] - 1}", f"{filled:.0%}", *times, *shown))
                reached.setdefault(size, []).append(min(ratios["loss"]))
    header = (
        "peer", "map", "batch", "played", "theirs, ms best / median", "loss", "trainer", "theirs / loss",
        "theirs / trainer",
    )  # fmt: skip
    missing = [peer.name for peer in PEERS if peer.name not in checkouts]
    absent = [f"Without {name}, whose checkout was not given: --{name.lower()} PATH." for name in missing]
    bars = [
        verdict(
            f"the loss {BARS[size]} times as fast as each peer at {size} episodes, came {min(came):.2f} at worst",
            min(came) >= BARS[size],
        )
        for size, came in reached.items()
        if size in BARS
    ]
    return Table("QMIX learners", header, rows, (*absent, *bars))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command line."""
    for peer in PEERS:
        parser.add_argument(f"--{peer.name.lower()}", type=Path, help=f"a checkout of {peer.name}'s repository")
    parser.add_argument("--maps", nargs="+", default=["3m", "2s3z"])
    parser.add_argument("--batches", nargs="+", type=int, default=[32, 128], help="episodes in a batch")
    parser.add_argument("--padded", action="store_true", help="pad episodes to the limit, not to the longest")
    parser.add_argument("--updates", type=int, default=20)


def run(options: argparse.Namespace) -> list[Table]:
    """Measure as the command line says."""
    given = {peer.name: getattr(options, peer.name.lower()) for peer in PEERS}
    checkouts = {name: path for name, path in given.items() if path is not None}
    table = compare(checkouts, options.maps, options.batches, padded=options.padded, updates=options.updates)
    return [table]
