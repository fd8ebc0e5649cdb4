"""Rollouts by the name of what they play."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from tensordict import TensorDict

from qmix_lightning.envs.registry import game, make, needs_processes
from qmix_lightning.rollout.base import AbstractRollout
from qmix_lightning.rollout.batched import BatchedRollout
from qmix_lightning.rollout.processes.patience import Patience
from qmix_lightning.rollout.workers import WorkerRollout


class Task(NamedTuple):
    """What is played, and where.

    Attributes:
        name: As in :func:`qmix_lightning.envs.registry.make`.
        options: Further arguments of the environment.
        workers: Whether each game has a process of its own; None leaves it to the world.
        patience: Options of :class:`~qmix_lightning.rollout.processes.patience.Patience`.
    """

    name: str
    options: Mapping[str, Any]
    workers: bool | None = None
    patience: Mapping[str, Any] = {}


def make_rollout(
    task: Task,
    num_envs: int,
    *,
    env_seed: int,
    seed: int,
    rank: int = 0,
    replicas: int = 1,
    compact: bool = False,
) -> tuple[AbstractRollout, Callable[[TensorDict], TensorDict] | None]:
    """Make whoever plays a task for training.

    Args:
        task: What is played.
        num_envs: Number of battles side by side of this rank.
        env_seed: Of the battles, the same for all ranks.
        seed: Of this rank's exploration.
        rank: Which of the rollouts that advance together this is.
        replicas: How many they are.
        compact: Whether episodes may hold a snapshot in place of what was seen.

    Returns:
        The rollout, and what sees again what was seen in its episodes if they are compact.

    Raises:
        ValueError: If workers are wanted for a world that is not made of single games, or an option is unknown.

    Example:
        >>> rollout, observe = make_rollout(Task("matrix/two_step", {}), 4, env_seed=1, seed=2)
        >>> rollout.spec.episode_limit, observe
        (2, None)
    """
    workers = needs_processes(task.name) if task.workers is None else task.workers
    patience = Patience.of(dict(task.patience))
    if workers:
        factory = game(task.name, **task.options)
        if factory is None:
            raise ValueError(
                f"{task.name} plays all its battles at once in this process, and has no single games for workers. Set"
                " workers to false."
            )
        games = WorkerRollout(
            factory, num_envs, seed=seed, env_seed=env_seed, patience=patience, replicas=replicas, rank=rank
        )
        return games, None
    env = make(task.name, num_envs=num_envs, seed=env_seed, first=rank * num_envs, **task.options)
    compact = compact and bool(env.snapshot_keys)
    rollout = BatchedRollout(env, seed=seed, replicas=replicas, compact=compact)
    return rollout, env.observe if compact else None
