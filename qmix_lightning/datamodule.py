"""ReplayDataModule: training batches are replayed episodes, validation batches are battles just played."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from lightning.pytorch import LightningDataModule
from tensordict import TensorDict

from qmix_lightning.envs.base import AbstractEnvironment
from qmix_lightning.envs.registry import make
from qmix_lightning.launching import alone, launched_processes
from qmix_lightning.replay.buffer import ReplayBuffer
from qmix_lightning.replay.samplers.prioritised import PrioritisedSampler
from qmix_lightning.replay.samplers.uniform import UniformSampler
from qmix_lightning.rollout.batched import BatchedRollout
from qmix_lightning.spec import MASK, Policy, TaskSpec

Stage = Literal["train", "val", "test"]

_ENDLESS = 2**31 - 1

_EVALUATED_AT_ONCE = 128
"""Battles that an evaluation plays side by side, and again until there are enough."""


class ReplayDataModule(LightningDataModule):
    """Plays battles with the policy that is being trained, keeps them, and hands out batches of them.

    How much is trained is a *replay ratio*: for every environment step collected, ``replay_ratio`` steps are replayed.
    So the number of parallel battles changes the speed but not the learning curve.

    There is one endless epoch: end training by the trainer's ``max_steps``, which counts updates. Validation plays
    ``val_episodes`` fresh battles greedily, with a seed of its own each time.

    Args:
        env: Name of the environment, e.g. ``battle/3m``.
        env_options: Further arguments of the environment.
        num_envs: Number of battles played side by side.
        batch_size: Episodes in a training batch.
        replay_ratio: Steps replayed for every environment step collected.
        capacity: Episodes kept for replay. Memory grows with them: 38 kB an episode of 3m, 6.6 MB of 27m_vs_30m.
        prioritised: Whether episodes are replayed the more often the larger their errors were, instead of all alike.
            Needs the callback ReplayPriorities, which the command line adds.
        priority_exponent: Exponent α of the priorities in prioritised replay; 0 is uniform.
        importance_exponent: Exponent β, at the start of training, of the weights that take the bias of prioritised
            replay out of the loss; 1, which takes all of it, is reached at the trainer's last update.
        val_episodes: Battles in a validation.
        test_episodes: Battles in a test.
        seed: Seed of battles, exploration and replay; None takes the one that ``seed_everything`` was given before, or
            else 0.

    Attributes:
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
        num_envs: int = 32,
        batch_size: int = 32,
        replay_ratio: float = 8.0,
        capacity: int = 5_000,
        prioritised: bool = False,
        priority_exponent: float = 0.6,
        importance_exponent: float = 0.4,
        val_episodes: int = 128,
        test_episodes: int = 512,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        for name, number in (
            ("num_envs", num_envs), ("replay_ratio", replay_ratio),
            ("val_episodes", val_episodes), ("test_episodes", test_episodes),
        ):  # fmt: skip
            if number <= 0:
                raise ValueError(f"{name} must be positive, got {number}.")
        self.env, self.env_options, self.num_envs = env, env_options or {}, num_envs
        self.replay_ratio, self.prioritised = replay_ratio, prioritised
        self.importance_exponent = importance_exponent
        self.val_episodes, self.test_episodes = val_episodes, test_episodes
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed
        self.rollout = BatchedRollout(self._make(num_envs, "train"), seed=self._derive("train", 1))
        draws = self._derive("train", 2)
        self.buffer = ReplayBuffer(
            capacity,
            batch_size,
            PrioritisedSampler(capacity, draws, alpha=priority_exponent, beta=importance_exponent)
            if prioritised
            else UniformSampler(draws),
        )
        self.has_priority_update = False
        self.replayed_steps = 0
        self._evaluation: BatchedRollout | None = None

    @property
    def spec(self) -> TaskSpec:
        """The task's sizes."""
        return self.rollout.spec

    @property
    def env_steps(self) -> int:
        """Environment steps collected for training so far."""
        return self.rollout.env_steps

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
        return ReplayedBatches(self)

    def val_dataloader(self) -> PlayedBattles:
        """One batch of ``val_episodes`` battles."""
        return PlayedBattles(self, "val", self.val_episodes)

    def test_dataloader(self) -> PlayedBattles:
        """One batch of ``test_episodes`` battles."""
        return PlayedBattles(self, "test", self.test_episodes)

    def next_batch(self) -> TensorDict:
        """Collect until the replay ratio allows for another batch, and draw it."""
        policy = self.policy()
        while len(self.buffer) < self.buffer.batch_size or self.replayed_steps >= self.replay_ratio * self.env_steps:
            episodes = self.rollout.step(policy, explore=True)
            if episodes is not None:
                self.buffer.extend(episodes)
        batch = self.buffer.sample()
        self.replayed_steps += int(batch[MASK].sum())
        return batch

    def play(self, stage: Stage, episodes: int) -> TensorDict:
        """Play fresh battles greedily; the seed depends on the stage and the update."""
        num_envs = min(episodes, _EVALUATED_AT_ONCE)
        if self._evaluation is None or self._evaluation.env.num_envs != num_envs:
            self._close_evaluation()
            self._evaluation = BatchedRollout(self._make(num_envs, stage))
        update = self.trainer.global_step if self.trainer is not None else 0
        return self._evaluation.play(self.policy(), episodes, seed=self._derive(stage, update))

    def policy(self) -> Policy:
        """Whoever is being trained.

        Raises:
            TypeError: If the trainer's module cannot play.
        """
        module: object = self.trainer.lightning_module if self.trainer is not None else None
        if not isinstance(module, Policy):
            raise TypeError(
                "Expected the trainer's module to be a Policy, with initial_memory and act, got"
                f" {type(module).__name__}. QLearner is one."
            )
        return module

    def state_dict(self) -> dict[str, Any]:
        """Counters and the state of the exploration; episodes are not kept, so that a resumed run collects anew."""
        return {"rollout": self.rollout.state_dict(), "replayed_steps": self.replayed_steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting where a checkpoint was written; an evaluation of a checkpoint has no use for that."""
        if self.trainer is None or self.trainer.state.fn != "fit":
            return
        self.rollout.load_state_dict(state_dict["rollout"])
        self.replayed_steps = state_dict["replayed_steps"]
        self.rollout.env.seed(self._derive("train", self.env_steps))

    def setup(self, stage: str) -> None:
        """Refuse a world of several processes, whose battles would all be the same.

        Raises:
            ValueError: If the trainer has more than one process, or a launcher has started more than one.
        """
        if (launched := launched_processes()) > 1:
            raise ValueError(alone(launched))
        if self.trainer is not None and self.trainer.world_size > 1:
            raise ValueError(
                f"Battles are played by one process so far, got a trainer of {self.trainer.world_size}. Use devices=1."
            )

    def teardown(self, stage: str) -> None:
        """Give back what evaluations hold; the battles of training stay, so that a fit can go on."""
        self._close_evaluation()

    def close(self) -> None:
        """Give back processes, files and memory of all battles."""
        self._close_evaluation()
        self.rollout.close()

    def _close_evaluation(self) -> None:
        if self._evaluation is not None:
            self._evaluation.close()
            self._evaluation = None

    def _make(self, num_envs: int, stage: Stage) -> AbstractEnvironment:
        return make(self.env, num_envs=num_envs, seed=self._derive(stage, 0), **self.env_options)

    def _derive(self, stage: Stage, number: int) -> int:
        """A seed for each use of randomness, independent of the others."""
        key = (("train", "val", "test").index(stage), number)
        return int(np.random.SeedSequence(self.seed, spawn_key=key).generate_state(1)[0])


class ReplayedBatches:
    """The training batches.

    Their number is given, and so Lightning does not fetch one ahead of the update before it.
    """

    def __init__(self, data: ReplayDataModule) -> None:
        self._data = data

    def __len__(self) -> int:
        return _ENDLESS

    def __iter__(self) -> Iterator[TensorDict]:
        while True:
            yield self._data.next_batch()

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the data module remembers."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to do."""


class PlayedBattles:
    """One batch of battles, played when it is asked for."""

    def __init__(self, data: ReplayDataModule, stage: Stage, episodes: int) -> None:
        self._data, self._stage, self._episodes = data, stage, episodes

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[TensorDict]:
        yield self._data.play(self._stage, self._episodes)
