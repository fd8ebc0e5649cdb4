"""ReplayDataModule: training batches are replayed episodes, validation batches are battles just played."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.profilers import PassThroughProfiler, Profiler
from lightning.pytorch.strategies.launchers.multiprocessing import _MultiProcessingLauncher
from lightning.pytorch.utilities import rank_zero_warn
from tensordict import TensorDict

from qmix_lightning.envs.registry import make, needs_processes
from qmix_lightning.launching import check_world_size
from qmix_lightning.loaders import PlayedBattles, ReplayedBatches
from qmix_lightning.ranks import Ranks
from qmix_lightning.replay.buffer import ReplayBuffer
from qmix_lightning.replay.layout import Precision
from qmix_lightning.replay.samplers.base import AbstractSampler
from qmix_lightning.replay.samplers.prioritised import PrioritisedSampler
from qmix_lightning.replay.samplers.uniform import UniformSampler
from qmix_lightning.replay.storage import require_device
from qmix_lightning.rollout.ahead import OneAhead
from qmix_lightning.rollout.base import AbstractRollout
from qmix_lightning.rollout.batched import BatchedRollout
from qmix_lightning.rollout.registry import Task, make_rollout
from qmix_lightning.savepoints import ReplayCheckpoint, Savepoints
from qmix_lightning.spec import MASK, Freezable, Policy, TaskSpec

Stage = Literal["train", "val", "test"]

_EVALUATED_AT_ONCE = 128
"""Battles that an evaluation plays side by side, and again until there are enough."""

_EXPONENTS = (0.6, 0.4)
"""α and β of prioritised replay, after Schaul et al., "Prioritized Experience Replay", 2016."""

_SIDECARS = "replay"
"""Folder, beside the checkpoints, of what each process saves for itself."""


class ReplayDataModule(LightningDataModule):
    """Plays battles with the policy that is being trained, keeps them, and hands out batches of them.

    How much is trained is a *replay ratio*: for every environment step collected, ``replay_ratio`` steps are replayed.
    So the number of parallel battles changes the speed but not the learning curve.

    There is one endless epoch: end training by the trainer's ``max_steps``, which counts updates. Validation plays
    ``val_episodes`` fresh battles greedily, with a seed of its own each time.

    Args:
        env: Name of the environment, e.g. ``battle/3m``.
        env_options: Further arguments of the environment.
        num_envs: Number of battles played side by side, by all processes together; None takes 32, or 128 on a GPU,
            where a step of either takes as long, or 8 where each has a process of its own, as in StarCraft II, which
            needs up to a gigabyte.
        workers: Whether each battle is played in a process of its own; None leaves it to the world: StarCraft II's are.
        worker_options: What workers are granted: reset_deadline, step_deadline, close_deadline, retries,
            pause, stagger, recycle_after.
        batch_size: Episodes in a training batch, of all processes together: N of them learn as one does.
        replay_ratio: Steps replayed for every environment step collected.
        capacity: Episodes kept for replay, by all processes together. Memory grows with them: 38 kB an episode of 3m,
            6.6 MB of 27m_vs_30m, unless they are compact.
        compact: Whether replay keeps the units of a battle, and what the agents saw is computed again, to the bit, when
            they are replayed: a fifth of the memory on 3m, a thirtieth on 27m_vs_30m. Worlds that cannot see again
            are kept whole.
        replay_precision: Of observations and states that are kept: "float16" takes half the room of "float32". What is
            compact stays exact.
        replay_folder: Folder for a replay on disk instead of in memory.
        replay_device: Where the replay is kept, e.g. "cuda"; None is where the battles are, mostly the CPU.
        prioritised: Whether episodes are replayed the more often the larger their errors were, instead of all alike.
            Needs the callback ReplayPriorities, which the command line adds.
        priority_exponent: Exponent α of the priorities in prioritised replay, and of no other; 0 is uniform.
        importance_exponent: Exponent β, at the start of training, of the weights that take the bias of prioritised
            replay, and of no other, out of the loss; 1, which takes all of it, is reached at the trainer's last update.
        overlap: Whether the battles that the next batch needs are played in a thread during this update, by the
            policy from before it. The course of training depends on this choice, not on which of the two is faster.
        replay_checkpoint: Where checkpoints keep the replay, without which a run does not go on exactly: in files
            beside them ("sidecar"), inside ("inline"), or nowhere ("none"), so that a resumed run collects anew.
        val_episodes: Battles in a validation.
        test_episodes: Battles in a test.
        seed: Seed of battles, exploration and replay; None takes the one that ``seed_everything`` was given before, or
            else 0.

    Attributes:
        env_steps: Environment steps collected so far, by all processes.
        replayed_steps: Steps in all batches so far, of all processes.
        seconds: Spent so far on collecting, on sampling and on playing evaluations, by this process.
        ranks: The processes that train together.
        rollout: This process's battles.
        buffer: This process's replay.
        has_priority_update: Whether somebody promised to tell the buffer the priorities of what was replayed.

    Raises:
        ValueError: If the environment is unknown or a number out of range.

    Example:
        >>> data = ReplayDataModule("battle/3m", num_envs=4)
        >>> data.spec.n_agents, data.spec.n_actions
        (3, 9)
    """

    def __init__(
        self,
        env: str = "battle/3m",
        env_options: dict[str, Any] | None = None,
        *,
        num_envs: int | None = None,
        workers: bool | None = None,
        worker_options: dict[str, Any] | None = None,
        batch_size: int = 32,
        replay_ratio: float = 8.0,
        capacity: int = 5_000,
        compact: bool = True,
        replay_precision: Precision = "float32",
        replay_folder: str | None = None,
        replay_device: str | None = None,
        prioritised: bool = False,
        priority_exponent: float = _EXPONENTS[0],
        importance_exponent: float = _EXPONENTS[1],
        overlap: bool = False,
        replay_checkpoint: ReplayCheckpoint = "sidecar",
        val_episodes: int = 128,
        test_episodes: int = 512,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        if num_envs is None:
            alone = needs_processes(env) if workers is None else workers
            on_gpu = str((env_options or {}).get("device", "cpu")).startswith("cuda")
            num_envs = 8 if alone else 128 if on_gpu else 32
        for name, number in (
            ("num_envs", num_envs), ("replay_ratio", replay_ratio),
            ("val_episodes", val_episodes), ("test_episodes", test_episodes),
        ):  # fmt: skip
            if number <= 0:
                raise ValueError(f"{name} must be positive, got {number}.")
        if not prioritised and (priority_exponent, importance_exponent) != _EXPONENTS:
            raise ValueError(
                f"priority_exponent {priority_exponent} and importance_exponent {importance_exponent} are of"
                " prioritised replay, but prioritised is False, and they would do nothing. Set prioritised=True, or"
                " leave them out."
            )
        self.env, self.env_options, self.num_envs = env, env_options or {}, num_envs
        self.workers, self.worker_options = workers, worker_options or {}
        self.batch_size, self.capacity, self.replay_ratio = batch_size, capacity, replay_ratio
        self.compact, self.replay_precision = compact, replay_precision
        self.replay_folder, self.replay_device = replay_folder, replay_device
        self.prioritised, self.priority_exponent = prioritised, priority_exponent
        self.importance_exponent = importance_exponent
        self.overlap, self.replay_checkpoint = overlap, replay_checkpoint
        self.val_episodes, self.test_episodes = val_episodes, test_episodes
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed
        self.has_priority_update = False
        self.replayed_steps = self.env_steps = self.episodes = 0
        self.seconds = {"collect": 0.0, "sample": 0.0, "evaluate": 0.0}
        self.ranks = Ranks()
        self._evaluation: BatchedRollout | None = None
        self._begin()

    def _begin(self) -> None:
        """Make this process's share of the battles and of the replay."""
        ranks = self.ranks
        self.rollout: AbstractRollout
        self.rollout, observe = make_rollout(
            Task(self.env, self.env_options, self.workers, self.worker_options),
            ranks.share(self.num_envs, "num_envs"),
            env_seed=self._derive("train", 0),
            seed=self._derive("train", 1, ranks.rank),
            rank=ranks.rank,
            replicas=ranks.size,
            compact=self.compact,
        )
        self.ahead = OneAhead(self.rollout)
        capacity, draws = self.capacity // ranks.size, self._derive("train", 2, ranks.rank)
        sampler: AbstractSampler = UniformSampler(draws)
        if self.prioritised:
            sampler = PrioritisedSampler(capacity, draws, alpha=self.priority_exponent, beta=self.importance_exponent)
            sampler.least_chance = ranks.least
        self.buffer = ReplayBuffer(
            capacity,
            ranks.share(self.batch_size, "batch_size"),
            sampler,
            device=self.replay_device,
            folder=Path(self.replay_folder) / f"rank{ranks.rank}" if self.replay_folder else None,
            precision=self.replay_precision,
            observe=observe,
        )
        self._savepoints = Savepoints(ranks, self.rollout, self.ahead, self.buffer, self.replay_checkpoint)

    @property
    def spec(self) -> TaskSpec:
        """The task's sizes."""
        return self.rollout.spec

    def train_dataloader(self) -> ReplayedBatches:
        """Batches of replayed episodes ``[batch_size, L + 1]``, without end.

        Raises:
            RuntimeError: If replay is prioritised, but nobody is there to update the priorities.
        """
        if self.prioritised and not self.has_priority_update:
            raise RuntimeError(
                "Prioritised replay expected a callback that updates the priorities, got none. Add ReplayPriorities()"
                " to the trainer's callbacks, or set prioritised=False."
            )
        return ReplayedBatches(self.next_batch)

    def val_dataloader(self) -> PlayedBattles:
        """One batch of this process's share of ``val_episodes`` battles."""
        return PlayedBattles(partial(self.play, "val", self.val_episodes))

    def test_dataloader(self) -> PlayedBattles:
        """One batch of this process's share of ``test_episodes`` battles."""
        return PlayedBattles(partial(self.play, "test", self.test_episodes))

    def next_batch(self) -> TensorDict:
        """Collect until the replay ratio allows for another batch, and draw it."""
        policy = self.policy()
        with self._stage("collect"):
            self._keep(self.ahead.finish())
            # All processes play equally many steps, each of its own battles: their counts agree without a word.
            self._collect(policy, self._due())
            while self.ranks.least(len(self.buffer)) < self.buffer.batch_size:
                self._collect(policy, 1)
        with self._stage("sample"):
            batch = self.buffer.sample()
            self.replayed_steps += self.ranks.sum(self.buffer.steps_drawn)
        if self.overlap:
            self.ahead.begin(self._snapshot(), self._due())
        return batch

    def play(self, stage: Stage, episodes: int) -> TensorDict:
        """Play this process's share of fresh greedy battles; the seed depends on the stage and the update."""
        update = self.trainer.global_step if self.trainer is not None else 0
        with self._stage("evaluate"):
            return self._evaluator(stage, episodes).play(self.policy(), episodes, seed=self._derive(stage, update))

    def policy(self) -> Policy:
        """Whoever is being trained.

        Raises:
            RuntimeError: If no trainer has these data.
            TypeError: If the trainer's module cannot play.
        """
        if self.trainer is None:
            raise RuntimeError(
                "Battles are played by the module of a trainer that was given the data, but none was. Give it the data"
                " itself, and not its loaders: trainer.fit(learner, data)."
            )
        module: object = self.trainer.lightning_module
        if not isinstance(module, Policy):
            raise TypeError(
                "Expected the trainer's module to be a Policy, with initial_memory and act, got"
                f" {type(module).__name__}. QLearner is one."
            )
        return module

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of training depends on, of all processes; the replay as ``replay_checkpoint`` says.

        To be called by all processes.
        """
        counts = {"env_steps": self.env_steps, "replayed_steps": self.replayed_steps}
        update = self.trainer.global_step if self.trainer is not None else 0
        return {**counts, **self._savepoints.save(self._sidecars(), f"{update:09d}-{self.replayed_steps}")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where a checkpoint was written; an evaluation of a checkpoint has no use for that."""
        if self.trainer is None or self.trainer.state.fn != "fit":
            return
        if self.rollout.env_steps:  # Of an earlier fit, of which nothing may be left.
            self.close()
            self._begin()
        self.env_steps, self.replayed_steps = state_dict["env_steps"], state_dict["replayed_steps"]
        path, reasons, trouble = self.trainer.ckpt_path, [], ""
        try:
            reasons = self._savepoints.load(state_dict, Path(path).parent / _SIDECARS if path else None)
        except ValueError as error:
            trouble = str(error)
        # What one process cannot read none can go on without, and all say so.
        told = self.ranks.gather((reasons, trouble))
        if troubles := [trouble for _, trouble in told if trouble]:
            raise ValueError("; ".join(troubles))
        if reasons:
            # New battles, not those of the start again.
            self.rollout.env_steps = self.env_steps
            self.rollout.start_anew(self._derive("train", self.env_steps), self.rollout.seed + self.env_steps)
        if said := dict.fromkeys(reason for each, _ in told for reason in each):
            rank_zero_warn(f"This run goes on from {path or 'its checkpoint'}, but not exactly: {'; '.join(said)}.")

    def setup(self, stage: str) -> None:
        """Take this process's share of a trainer's battles, batches and replay.

        Raises:
            ValueError: If num_envs or batch_size cannot be divided evenly, a launcher has started another number of
                processes than the trainer has, or the device of the replay to be filled is not there.
        """
        if stage == "fit":
            require_device(self.replay_device)
        if self.trainer is not None:
            check_world_size(self.trainer.world_size)
            if isinstance(self.trainer.strategy.launcher, _MultiProcessingLauncher):
                raise ValueError(
                    "Battles and replay stay in the process that has them, but the trainer's strategy forgets its"
                    " processes after each fit (ddp_spawn, ddp_fork). Take strategy='ddp'."
                )
        if self.trainer is not None and self.trainer.world_size != self.ranks.size:
            self.close()
            self.ranks = Ranks(self.trainer.global_rank, self.trainer.world_size)
            self.replayed_steps = self.env_steps = self.episodes = 0
            self._begin()

    def transfer_batch_to_device(self, batch: TensorDict, device: torch.device, dataloader_idx: int) -> TensorDict:
        """Move a batch to where the learner is, unless it is there."""
        return batch if batch[MASK].device == device else batch.to(device, non_blocking=True)

    def teardown(self, stage: str) -> None:
        """Give back what evaluations hold; the battles of training stay, so that a fit can go on."""
        self._close_evaluation()

    def close(self) -> None:
        """Give back threads, processes, files and memory of all battles."""
        self._close_evaluation()
        self.ahead.close()
        self.rollout.close()

    def _sidecars(self) -> Path | None:
        """Where files beside the checkpoints go."""
        saver = self.trainer.checkpoint_callback if self.trainer is not None else None
        folder = getattr(saver, "dirpath", None)
        return Path(folder) / _SIDECARS if folder and "://" not in str(folder) else None

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        """Count the seconds of a stage, for the monitor and for Lightning's profilers."""
        began = time.perf_counter()
        profiler: Profiler = getattr(self.trainer, "profiler", None) or PassThroughProfiler()
        with profiler.profile(f"[ReplayDataModule]{name}"):
            yield
        self.seconds[name] += time.perf_counter() - began

    def _due(self) -> int:
        """Steps of all battles until the replay ratio allows for another batch."""
        steps = 0
        while self.replayed_steps >= self.replay_ratio * (self.rollout.env_steps + steps * self.num_envs):
            steps += 1
        return steps

    def _collect(self, policy: Policy, times: int) -> None:
        episodes = self.rollout.step(policy, explore=True, times=times)
        self._keep([] if episodes is None else [episodes])

    def _keep(self, played: list[TensorDict]) -> None:
        for episodes in played:
            self.buffer.extend(episodes)
        # The rollout's own counts run ahead while it plays in a thread.
        self.env_steps, self.episodes = self.rollout.env_steps, self.rollout.episodes

    def _snapshot(self) -> Policy:
        policy = self.policy()
        if not isinstance(policy, Freezable):
            raise TypeError(
                "Battles that go on during an update expected a module with a snapshot() of its policy, got"
                f" {type(policy).__name__}. QLearner has one; or set overlap=False."
            )
        return policy.snapshot()

    def _evaluator(self, stage: Stage, episodes: int) -> AbstractRollout:
        if self.rollout.plays_both:
            self.ahead.wait()
            return self.rollout
        together = max(min(episodes, _EVALUATED_AT_ONCE), self.ranks.size)
        first, end = self.ranks.range(together)
        share, now = (end - first, first, together), self._evaluation
        if now is None or (now.env.num_envs, now.first, now.round_size) != share:
            self._close_evaluation()
            env = make(self.env, num_envs=end - first, seed=self._derive(stage, 0), first=first, **self.env_options)
            now = self._evaluation = BatchedRollout(env, first=first, round_size=together)
        return now

    def _close_evaluation(self) -> None:
        if self._evaluation is not None:
            self._evaluation.close()
            self._evaluation = None

    def _derive(self, stage: Stage, number: int, rank: int = 0) -> int:
        """A seed for each use of randomness, independent of the others."""
        key = (("train", "val", "test").index(stage), number, *[rank] * (rank > 0))
        return int(np.random.SeedSequence(self.seed, spawn_key=key).generate_state(1)[0])
