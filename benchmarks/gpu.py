"""What a GPU takes for an update and for a step of battles, called operation by operation and replayed from graphs.

    python -m benchmarks gpu
    python -m benchmarks gpu --maps 3m 2s3z --episodes 32 512 --battles 64 1024 16384 --precisions 32-true bf16-mixed

Updates are of QLearner on episodes of random play that stay on the GPU: loss, gradients, clipping, Adam and target
networks. "fit" is the same by Lightning's Trainer. Rollouts are battles, a GRU policy at ε = 1 and the recorder, all
there. Times are on the wall, with the GPU waited for at both ends of a block; "busy" is how much of them its
processors worked, as nvidia-smi sees it.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from statistics import mean

import torch
from lightning.pytorch import LightningDataModule, Trainer
from tensordict import TensorDict
from torch import nn

from benchmarks.timing import Table, interleave, say
from benchmarks.update import CLIP, make_learner, played_batch
from qmix_lightning.envs.registry import make
from qmix_lightning.module import QLearner
from qmix_lightning.objectives.graphed import GraphedLoss
from qmix_lightning.rollout.batched import BatchedRollout
from qmix_lightning.spec import MASK

HALF = {"32-true": None, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


class Updates:
    """A learner's updates on one batch, without a Trainer.

    Args:
        learner: On the GPU.
        batch: There, too.
        precision: One of Lightning's names.
        graphed: Whether updates are replayed.
        block: How many a call makes.
    """

    def __init__(self, learner: QLearner, batch: TensorDict, precision: str, graphed: bool, block: int) -> None:
        self._learner, self._batch, self._half, self._block = learner, batch, HALF[precision], block
        self._loss = GraphedLoss(learner.loss, batch.shape[1]) if graphed else learner.loss
        self._parameters = list(learner.loss.parameters())
        scaled = self._half is torch.float16
        self._optimizer = torch.optim.Adam(self._parameters, lr=1e-5, fused=not scaled)
        learner.target_update.follow(self._optimizer)
        self._scaler = torch.amp.GradScaler("cuda", enabled=scaled)
        for _ in range(4):
            self._update()

    def __call__(self) -> float:
        """Seconds of an update, over one block."""
        return timed(lambda: [self._update() for _ in range(self._block)]) / self._block

    def _update(self) -> None:
        with torch.autocast("cuda", self._half) if self._half else nullcontext():
            loss = self._loss(self._batch)["loss"]
        self._optimizer.zero_grad()
        self._scaler.scale(loss).backward()
        self._scaler.unscale_(self._optimizer)
        nn.utils.clip_grad_norm_(self._parameters, CLIP)
        self._scaler.step(self._optimizer)
        self._scaler.update()


class Rollouts:
    """Battles of a policy, played and recorded on the GPU.

    Args:
        map_name: A SMAC map.
        battles: Played side by side.
        learner: Who plays, on the GPU.
        graphed: Whether steps are replayed.
        steps: How many a call plays, by 16.
    """

    def __init__(self, map_name: str, battles: int, learner: QLearner, graphed: bool, steps: int) -> None:
        env = make(f"battle/{map_name}", num_envs=battles, seed=1, device="cuda")
        env.replayable = graphed
        self._rollout, self._learner, self._steps = BatchedRollout(env, compact=True), learner, steps
        self._play(80)

    def __call__(self) -> float:
        """Seconds of a step of all battles."""
        return timed(lambda: self._play(self._steps)) / self._steps

    def _play(self, steps: int) -> None:
        for _ in range(steps // 16):
            self._rollout.step(self._learner, explore=True, times=16)


class SameBatch(LightningDataModule):
    """Hands out one batch again and again, and times what the Trainer does with it."""

    def __init__(self, batch: TensorDict, blocks: int, block: int) -> None:
        super().__init__()
        self._batch, self._blocks, self._block = batch, blocks, block
        self.seconds: list[float] = []

    def train_dataloader(self) -> SameBatch:
        """This object, once through."""
        return self

    def __len__(self) -> int:
        return self._blocks * self._block

    def __iter__(self) -> Iterator[TensorDict]:
        for _ in range(self._blocks):
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(self._block):
                yield self._batch
            torch.cuda.synchronize()
            self.seconds.append((time.perf_counter() - start) / self._block)


def fitted(learner: QLearner, batch: TensorDict, precision: str, blocks: int, block: int) -> list[float]:
    """Seconds of an update by a Trainer without logger, callbacks and checkpoints, for each of some blocks."""
    data = SameBatch(batch, blocks + 1, block)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        Trainer(
            max_steps=len(data), gradient_clip_val=CLIP, precision=precision, accelerator="gpu", devices=1,
            logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        ).fit(learner, data)  # fmt: skip
    return data.seconds[1:]


def measure_updates(
    maps: Sequence[str], episodes: Sequence[int], precisions: Sequence[str], *, rounds: int = 5, block: int = 20
) -> Table:
    """Time updates, called and replayed in turn.

    Args:
        maps: Names of SMAC maps.
        episodes: In a batch.
        precisions: Lightning's names of them.
        rounds: Blocks of each.
        block: Updates in a block.

    Returns:
        A row a combination.
    """
    rows = []
    for name in maps:
        spec = make(f"battle/{name}").spec
        for number in episodes:
            batch = played_batch(name, number).cuda()
            steps = int(batch[MASK].sum())
            for precision in precisions:
                say(f"gpu: {number} episodes of {name} in {precision}")
                cases = {
                    way: Updates(make_learner(spec).cuda(), batch, precision, way == "replayed", block)
                    for way in ("called", "replayed")
                }
                samples = interleave(cases, rounds)
                with utilisation() as busy:
                    fit = fitted(make_learner(spec), batch, precision, rounds, block)
                called, replayed = samples["called"].best, samples["replayed"].best
                rows.append(
                    (
                        name, f"{number} x {batch.shape[1] - 1}", precision, f"{called * 1e3:.2f}",
                        f"{replayed * 1e3:.2f}", f"{called / replayed:.1f}x", f"{min(fit) * 1e3:.2f}",
                        f"{steps / min(fit):,.0f}", f"{mean(busy) if busy else float('nan'):.0f}%",
                    )
                )  # fmt: skip
    header = (
        "map", "batch", "precision", "ms called", "ms replayed", "gain", "ms fit", "replayed steps/s by fit", "busy",
    )  # fmt: skip
    return Table(f"Updates on {torch.cuda.get_device_name()}", header, rows)


def measure_rollouts(maps: Sequence[str], battles: Sequence[int], *, rounds: int = 5, steps: int = 64) -> Table:
    """Time battles that are played and recorded by a GRU policy, called and replayed in turn.

    Args:
        maps: Names of SMAC maps.
        battles: Played side by side.
        rounds: Blocks of each.
        steps: Steps in a block.

    Returns:
        A row a combination.
    """
    rows = []
    for name in maps:
        learner = QLearner(make(f"battle/{name}").spec, epsilon_end=1.0).cuda()
        for number in battles:
            say(f"gpu: rollouts of {number} battles on {name}")
            cases = {way: Rollouts(name, number, learner, way == "replayed", steps) for way in ("called", "replayed")}
            samples = interleave(cases, rounds)
            with utilisation() as busy:
                for _ in range(rounds):
                    cases["replayed"]()
            called, replayed = samples["called"].best, samples["replayed"].best
            rows.append(
                (
                    name, f"{number:,}", f"{called * 1e6:,.0f}", f"{replayed * 1e6:,.0f}", f"{called / replayed:.1f}x",
                    f"{number / replayed:,.0f}", f"{mean(busy) if busy else float('nan'):.0f}%",
                )
            )  # fmt: skip
    header = ("map", "battles", "µs a step called", "replayed", "gain", "env steps/s replayed", "busy")
    return Table(f"Rollouts with the GRU policy on {torch.cuda.get_device_name()}", header, rows)


def timed(work: Callable[[], object]) -> float:
    """Seconds that some work takes, the GPU's share included."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start


@contextmanager
def utilisation() -> Iterator[list[float]]:
    """Percent of the time in which the GPU had work, read every fifth of a second while the context is open."""
    found: list[float] = []
    over = threading.Event()

    def read() -> None:
        query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        while not over.wait(0.2):
            try:
                found.append(float(subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0]))
            except (OSError, subprocess.CalledProcessError, ValueError, IndexError):
                return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield found
    finally:
        over.set()
        reader.join()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command line."""
    parser.add_argument("--maps", nargs="+", default=["3m"])
    parser.add_argument("--episodes", nargs="+", type=int, default=[32, 512])
    parser.add_argument("--battles", nargs="+", type=int, default=[64, 1_024, 16_384])
    parser.add_argument("--precisions", nargs="+", choices=list(HALF), default=list(HALF))
    parser.add_argument("--rounds", type=int, default=5)


def run(options: argparse.Namespace) -> list[Table]:
    """Measure as the command line says.

    Raises:
        RuntimeError: If torch sees no GPU.
    """
    if not torch.cuda.is_available():
        raise RuntimeError("This benchmark is of a GPU, but torch sees none. Those of a CPU: battle, rollout, update.")
    return [
        measure_updates(options.maps, options.episodes, options.precisions, rounds=options.rounds),
        measure_rollouts(options.maps, options.battles, rounds=options.rounds),
    ]
