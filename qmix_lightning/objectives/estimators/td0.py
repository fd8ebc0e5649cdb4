"""One-step targets."""

from __future__ import annotations

from torch import Tensor

from qmix_lightning.functional.returns import td0_targets
from qmix_lightning.objectives.estimators.base import AbstractValueEstimator, ValueEstimators


class TD0Estimator(AbstractValueEstimator):
    """One-step targets, see :func:`~qmix_lightning.functional.returns.td0_targets`.

    Args:
        gamma: Discount in [0, 1].
        time_dim: Of no importance here.
        average_rewards: Whether rewards are first brought to mean 0 and variance 1 over the batch.
        group_key: Where the batch says to which group each step belongs, for ``average_rewards`` within groups.

    Example:
        >>> TD0Estimator(gamma=0.9)
        TD0Estimator(gamma=0.9)
    """

    needs_time = False
    smallest_deviation = 1e-5
    value_type = ValueEstimators.TD0

    def targets(self, reward: Tensor, next_value: Tensor, terminated: Tensor, done: Tensor, gamma: Tensor) -> Tensor:
        """One-step targets."""
        return td0_targets(reward, next_value, terminated, gamma=gamma)
