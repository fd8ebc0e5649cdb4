"""How episodes end: won or lost, what they earned, how long they took, who died.

Every metric is a mean over episodes, exact however unevenly they come in batches or lie on devices, with an interval
that says how far it can be trusted.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


def wilson_interval(successes: float, trials: float, z: float = 1.96) -> tuple[float, float]:
    """Where the probability of success lies, by Wilson's score.

    ``(p + z²/2n ± z sqrt(p (1 - p) / n + z²/4n²)) / (1 + z²/n)`` with ``p = successes / trials`` and ``n = trials``.
    Unlike the normal interval it stays within [0, 1] and keeps a width when all trials succeed.

    Args:
        successes: Number of successes.
        trials: Number of trials; of none nothing is known, and the interval is (0, 1).
        z: Half-width in standard deviations; 1.96 covers 95 %.

    Returns:
        The lower and the upper end.

    Raises:
        ValueError: If there are fewer successes than none or more than trials.

    Example:
        >>> low, high = wilson_interval(32, 32)
        >>> f"{low:.3f} {high:.3f}"
        '0.893 1.000'

    Source:
        Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"Expected 0 <= successes <= trials, got {successes} successes in {trials} trials.")
    if trials == 0:
        return 0.0, 1.0
    p, scale = successes / trials, 1 + z * z / trials
    centre = (p + z * z / (2 * trials)) / scale
    half = z * math.sqrt(p * (1 - p) / trials + (z / (2 * trials)) ** 2) / scale
    return max(0.0, centre - half), min(1.0, centre + half)


def final_value(value: Tensor, mask: Tensor) -> Tensor:
    """Pick what an entry of an episode said at the last step that was really played.

    Args:
        value: ``[B, T, 1]``.
        mask: ``[B, T, 1]`` bool, true on the played steps, which come first.

    Returns:
        ``[B]``.

    Example:
        >>> mask = torch.tensor([[[True], [True], [False]]])
        >>> final_value(torch.tensor([[[1.0], [2.0], [9.0]]]), mask)
        tensor([2.])
    """
    return value.gather(1, mask.sum(1, keepdim=True) - 1).flatten()


class EpisodeMean(Metric):
    """Mean of one number an episode, with its normal interval; the base of the metrics of this file.

    Args:
        kwargs: Options of every ``torchmetrics.Metric``.
    """

    is_differentiable = False
    full_state_update = False
    total: Tensor
    squares: Tensor
    episodes: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # Double precision: a sum of many small numbers should not depend on how they were batched.
        for state in ("total", "squares", "episodes"):
            self.add_state(state, torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")

    def add(self, value: Tensor) -> None:
        """Add one number an episode, ``[B]``."""
        value = value.to(torch.float64)
        # Out of place: states that Trainer.validate left in inference mode could not be written to by a later fit.
        self.total = self.total + value.sum()
        self.squares = self.squares + value.square().sum()
        self.episodes = self.episodes + value.numel()

    def compute(self) -> Tensor:
        """Mean over all episodes; not a number if there were none."""
        return (self.total / self.episodes).float()

    def interval(self, z: float = 1.96) -> tuple[float, float]:
        """Where the mean lies: ``mean ± z sqrt(variance / episodes)``, unbounded below two episodes.

        Args:
            z: Half-width in standard deviations; 1.96 covers 95 %.

        Returns:
            The lower and the upper end, over the episodes of all processes.
        """
        total, squares, n = self._sums()
        if n < 2:
            return -math.inf, math.inf
        mean = total / n
        half = z * math.sqrt(max(0.0, squares / n - mean * mean) / (n - 1))
        return mean - half, mean + half

    def _sums(self) -> tuple[float, float, float]:
        # torchmetrics gathers the states of other processes by itself around compute() only.
        with self.sync_context(self.dist_sync_fn, should_sync=self._to_sync, should_unsync=self._should_unsync):
            return float(self.total), float(self.squares), float(self.episodes)


class WinRate(EpisodeMean):
    """Share of episodes that were won, with Wilson's interval.

    Example:
        >>> metric = WinRate()
        >>> metric.update(torch.tensor([True, True, False, True]))
        >>> metric.compute()
        tensor(0.7500)
    """

    def update(self, won: Tensor) -> None:
        """Add episodes by whether they were won, ``[B]`` bool."""
        self.add(won)

    def interval(self, z: float = 1.96) -> tuple[float, float]:
        """Where the probability of a win lies, by :func:`wilson_interval`."""
        wins, _, n = self._sums()
        return wilson_interval(wins, n, z)


class EpisodeReturn(EpisodeMean):
    """What the team earned in an episode, not discounted.

    Example:
        >>> metric = EpisodeReturn()
        >>> metric.update(torch.tensor([[[1.0], [2.0], [9.0]]]), torch.tensor([[[True], [True], [False]]]))
        >>> metric.compute()
        tensor(3.)
    """

    def update(self, reward: Tensor, mask: Tensor) -> None:
        """Add episodes by their rewards ``[B, T, 1]`` and the mask of their played steps ``[B, T, 1]`` bool."""
        self.add(reward.masked_fill(~mask, 0.0).sum((1, 2), dtype=torch.float64))


class EpisodeLength(EpisodeMean):
    """Number of steps played in an episode.

    Example:
        >>> metric = EpisodeLength()
        >>> metric.update(torch.tensor([[[True], [True], [False]]]))
        >>> metric.compute()
        tensor(2.)
    """

    def update(self, mask: Tensor) -> None:
        """Add episodes by the mask of their played steps, ``[B, T, 1]`` bool."""
        self.add(mask.sum((1, 2)))


class Deaths(EpisodeMean):
    """Number of units of one side that are dead at the end of an episode.

    Example:
        >>> metric = Deaths()
        >>> metric.update(torch.tensor([3, 0]))
        >>> metric.compute()
        tensor(1.5000)
    """

    def update(self, dead: Tensor) -> None:
        """Add episodes by how many died, ``[B]``."""
        self.add(dead)
