"""Targets that mix all numbers of steps."""

from __future__ import annotations

from tensordict import NestedKey
from torch import Tensor

from qmix_lightning.functional.returns import td_lambda_targets
from qmix_lightning.objectives.estimators.base import AbstractValueEstimator, ValueEstimators, fraction


class TDLambdaEstimator(AbstractValueEstimator):
    """Mixtures of n-step targets, see :func:`~qmix_lightning.functional.returns.td_lambda_targets`.

    Args:
        gamma: Discount in [0, 1].
        lmbda: Decay λ of the longer returns in [0, 1].
        time_dim: Batch dimension along which time runs; None takes the one named "time", else the last.
        average_rewards: Whether rewards are first brought to mean 0 and variance 1 over the batch.
        group_key: Where the batch says to which group each step belongs, for ``average_rewards`` within groups.

    Raises:
        ValueError: If ``gamma`` or ``lmbda`` is out of range.

    Example:
        >>> TDLambdaEstimator(lmbda=0.6)
        TDLambdaEstimator(gamma=0.99, lmbda=0.6)
    """

    value_type = ValueEstimators.TDLambda
    lmbda: Tensor

    def __init__(
        self,
        *,
        gamma: float = 0.99,
        lmbda: float = 0.95,
        time_dim: int | None = None,
        average_rewards: bool = False,
        group_key: NestedKey | None = None,
    ) -> None:
        super().__init__(gamma=gamma, time_dim=time_dim, average_rewards=average_rewards, group_key=group_key)
        self.register_buffer("lmbda", fraction("lmbda", lmbda))

    def targets(self, reward: Tensor, next_value: Tensor, terminated: Tensor, done: Tensor, gamma: Tensor) -> Tensor:
        """Mixtures of n-step targets."""
        return td_lambda_targets(reward, next_value, terminated, done, gamma=gamma, lmbda=self.lmbda)
