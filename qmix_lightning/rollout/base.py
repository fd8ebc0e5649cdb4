"""The contract of whoever plays battles."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import torch
from tensordict import TensorDict

from qmix_lightning.spec import Policy, TaskSpec


class AbstractRollout(ABC):
    """Plays B battles side by side and hands out each one that ended, as an episode in the layout of ``spec.py``.

    Attributes:
        spec: The task's sizes.
        env_steps: Environment steps played for training so far, counted over all battles, also those of rollouts on
            other ranks that advance together with this one.
        episodes: Episodes that this rollout handed out for training so far.
        seed: Of the exploration.
        info_keys: Names of what is reported of each step under ``("next", "info")``.
        plays_both: Whether :meth:`play` may be called between the steps of training, which go on afterwards, so that
            evaluations need no other rollout.
    """

    spec: TaskSpec
    env_steps: int
    episodes: int
    seed: int
    info_keys: tuple[str, ...]
    plays_both: bool = False

    @property
    def versions(self) -> dict[str, str]:
        """What results may depend on beside this package, for the records of a run."""
        return {}

    @property
    def restarts(self) -> Counter[str]:
        """How often a game failed, or was made anew for another reason, by reason."""
        return Counter()

    @abstractmethod
    def step(self, policy: Policy, *, explore: bool, times: int = 1) -> TensorDict | None:
        """Play on: as many environment steps as there are battles, so many times.

        Args:
            policy: Who decides.
            explore: Whether the policy is told how many environment steps were played, and hence may explore.
            times: How often; to hand out episodes once after several steps costs less than after each.

        Returns:
            The episodes ``[k, T + 1]`` that ended, if any.
        """

    @abstractmethod
    def play(self, policy: Policy, episodes: int, *, seed: int) -> TensorDict:
        """Play fresh greedy episodes, for evaluation; they are not counted.

        Args:
            policy: Who decides.
            episodes: How many episodes, together with rollouts on other ranks that play other battles of the same seed.
            seed: Of the environment; the same seed plays the same battles.

        Returns:
            ``[k, T + 1]``: all ``episodes``, or this rank's share of them.
        """

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs.

        Returns:
            Numbers, strings, tensors, and lists and dictionaries of these, which ``torch.load`` reads with
            ``weights_only``. Its entry ``"exact"`` is False if the battles under way are not part of it, because their
            environment cannot be rewound.
        """

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> bool:
        """Go on from a :meth:`state_dict`.

        Returns:
            Whether the battles go on where they were, so that all that follows is the same bit for bit. If not, only
            counters and exploration go on, and the battles begin anew: because the state is not ``"exact"``, or of
            another number of battles, or of battles recorded otherwise. Give the environment another seed then, or it
            starts with the battles that it has played already.
        """

    @abstractmethod
    def start_anew(self, env_seed: int, seed: int) -> None:
        """Have the battles that start from now on, and exploration, depend on these seeds."""

    def close(self) -> None:  # noqa: B027 (most rollouts hold nothing that must be given back)
        """Give back processes, files and memory."""


def ordinary_tensors() -> AbstractContextManager[object]:
    """Work without a graph, but not in inference mode.

    Lightning validates in inference mode, whose tensors could not be written to by a later step outside of it.
    """
    if not torch.is_inference_mode_enabled():
        return torch.no_grad()
    context = ExitStack()
    context.enter_context(torch.inference_mode(False))
    context.enter_context(torch.no_grad())
    return context
