"""Targets of rewards to the end."""

from __future__ import annotations

from torch import Tensor

from qmix_lightning.functional.returns import td1_targets
from qmix_lightning.objectives.estimators.base import AbstractValueEstimator, ValueEstimators


class TD1Estimator(AbstractValueEstimator):
    """Rewards to the end of the window, see :func:`~qmix_lightning.functional.returns.td1_targets`.

    Args:
        gamma: Discount in [0, 1].
        time_dim: Batch dimension along which time runs; None takes the one named "time", else the last.
        average_rewards: Whether rewards are first brought to mean 0 and variance 1 over the batch.
        group_key: Where the batch says to which group each step belongs, for ``average_rewards`` within groups.

    Example:
        >>> TD1Estimator()
        TD1Estimator(gamma=0.99)
    """

    value_type = ValueEstimators.TD1

    def targets(self, reward: Tensor, next_value: Tensor, terminated: Tensor, done: Tensor, gamma: Tensor) -> Tensor:
        """Rewards to the end of the window."""
        return td1_targets(reward, next_value, terminated, done, gamma=gamma)
