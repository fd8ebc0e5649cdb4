"""What a loss regresses towards: returns, with their hyper-parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from enum import Enum
from typing import Any, ClassVar, Final, Self

import torch
from torch import Tensor, nn

from qmix_lightning.functional.returns import td0_targets, td1_targets, td_lambda_targets


class ValueEstimators(Enum):
    """TorchRL's names of value estimators; the last three belong to losses that are not here."""

    TD0 = "Bootstrapped TD (1-step return)"
    TD1 = "TD(1) (infinity-step return)"
    TDLambda = "TD(lambda)"
    GAE = "Generalized advantage estimate"
    MAGAE = "Multi-agent generalized advantage estimate"
    VTrace = "V-trace"


def _unit(name: str, value: float) -> Tensor:
    if not 0 <= float(value) <= 1:
        raise ValueError(f"{name} must lie in [0, 1], got {value}.")
    return torch.tensor(float(value))


class AbstractValueEstimator(nn.Module, ABC):
    """Computes targets from rewards and the values of the next states.

    Args:
        gamma: Discount in [0, 1].
        time_dim: Batch dimension along which time runs; None takes the one named "time", else the last.

    Attributes:
        gamma: The discount, a float32 buffer, so that a checkpoint carries it.
        needs_time: Whether a target depends on later steps, so that the batch must have a time dimension.
        value_type: The estimator's name.

    Raises:
        ValueError: If ``gamma`` is out of range.
    """

    needs_time: ClassVar[bool] = True
    value_type: ClassVar[ValueEstimators]
    gamma: Tensor

    def __init__(self, *, gamma: float = 0.99, time_dim: int | None = None) -> None:
        super().__init__()
        self.register_buffer("gamma", _unit("gamma", gamma))
        self.time_dim = time_dim

    @abstractmethod
    def targets(self, reward: Tensor, next_value: Tensor, terminated: Tensor, done: Tensor, gamma: Tensor) -> Tensor:
        """Targets ``[..., T, 1]`` from entries of this shape, time second to last."""

    def forward(
        self,
        reward: Tensor,
        next_value: Tensor,
        terminated: Tensor,
        done: Tensor,
        *,
        mask: Tensor | None = None,
        time_dim: int = -1,
        steps: Tensor | None = None,
    ) -> Tensor:
        """Compute targets, wherever the time dimension is.

        Args:
            reward: ``[*B, 1]``.
            next_value: ``[*B, 1]``.
            terminated: ``[*B, 1]`` bool.
            done: ``[*B, 1]`` bool.
            mask: ``[*B, 1]`` bool; a step before padding ends its trajectory. None means no padding.
            time_dim: The batch dimension of time, unless the estimator was made with one.
            steps: ``[*B, 1]``, over how many steps each reward was summed; the bootstrap is discounted as often.

        Returns:
            ``[*B, 1]``.

        Raises:
            ValueError: If time is needed and the batch has no such dimension.
        """
        gamma = self.gamma if steps is None else self.gamma ** steps.reshape(reward.shape)
        if not self.needs_time:
            return self.targets(reward, next_value, terminated, done, gamma)
        time_dim = self.time_dim if self.time_dim is not None else time_dim
        batch_dims = reward.ndim - 1
        if not -batch_dims <= time_dim < batch_dims:
            raise ValueError(
                f"{type(self).__name__} expected a batch with a time dimension {time_dim}, got the batch"
                f" {tuple(reward.shape[:-1])}. Give trajectories, or use TD0, which takes single steps."
            )
        time_dim %= batch_dims

        def swap(value: Tensor) -> Tensor:
            return value.transpose(time_dim, -2)

        if mask is not None:
            done = done.clone()
            swap(done)[..., :-1, :] |= ~swap(mask)[..., 1:, :]
        gamma = gamma if gamma.ndim == 0 else swap(gamma)
        return swap(self.targets(swap(reward), swap(next_value), swap(terminated), swap(done), gamma))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # Moves to another device, but keeps the dtype: in bfloat16 a discount of 0.99 is 0.9883.
        for name, buffer in self._buffers.items():
            if buffer is not None:
                self._buffers[name] = buffer.to(fn(buffer).device)
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # TorchRL makes its estimator at the first forward, so that checkpoints written before have no discount.
        for name, buffer in self._buffers.items():
            state_dict.setdefault(prefix + name, buffer)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        """Show the hyper-parameters."""
        return ", ".join(f"{name}={buffer.item():.4g}" for name, buffer in self.named_buffers())


class TD0Estimator(AbstractValueEstimator):
    """One-step targets, see :func:`~qmix_lightning.functional.returns.td0_targets`.

    Args:
        gamma: Discount in [0, 1].
        time_dim: Of no importance here.

    Example:
        >>> TD0Estimator(gamma=0.9)
        TD0Estimator(gamma=0.9)
    """

    needs_time = False
    value_type = ValueEstimators.TD0

    def targets(self, reward: Tensor, next_value: Tensor, terminated: Tensor, done: Tensor, gamma: Tensor) -> Tensor:
        """One-step targets."""
        return td0_targets(reward, next_value, terminated, gamma=gamma)


class TD1Estimator(AbstractValueEstimator):
    """Rewards to the end of the window, see :func:`~qmix_lightning.functional.returns.td1_targets`.

    Args:
        gamma: Discount in [0, 1].
        time_dim: Batch dimension along which time runs; None takes the one named "time", else the last.

    Example:
        >>> TD1Estimator()
        TD1Estimator(gamma=0.99)
    """

    value_type = ValueEstimators.TD1

    def targets(self, reward: Tensor, next_value: Tensor, terminated: Tensor, done: Tensor, gamma: Tensor) -> Tensor:
        """Rewards to the end of the window."""
        return td1_targets(reward, next_value, terminated, done, gamma=gamma)


class TDLambdaEstimator(AbstractValueEstimator):
    """Mixtures of n-step targets, see :func:`~qmix_lightning.functional.returns.td_lambda_targets`.

    Args:
        gamma: Discount in [0, 1].
        lmbda: Decay λ of the longer returns in [0, 1].
        time_dim: Batch dimension along which time runs; None takes the one named "time", else the last.

    Raises:
        ValueError: If ``gamma`` or ``lmbda`` is out of range.

    Example:
        >>> TDLambdaEstimator(lmbda=0.6)
        TDLambdaEstimator(gamma=0.99, lmbda=0.6)
    """

    value_type = ValueEstimators.TDLambda
    lmbda: Tensor

    def __init__(self, *, gamma: float = 0.99, lmbda: float = 0.95, time_dim: int | None = None) -> None:
        super().__init__(gamma=gamma, time_dim=time_dim)
        self.register_buffer("lmbda", _unit("lmbda", lmbda))

    def targets(self, reward: Tensor, next_value: Tensor, terminated: Tensor, done: Tensor, gamma: Tensor) -> Tensor:
        """Mixtures of n-step targets."""
        return td_lambda_targets(reward, next_value, terminated, done, gamma=gamma, lmbda=self.lmbda)


ESTIMATORS: Final[dict[str, type[AbstractValueEstimator]]] = {
    "TD0": TD0Estimator,
    "TD1": TD1Estimator,
    "TDLambda": TDLambdaEstimator,
}
# TorchRL accepts these and its QMixerLoss computes the same with any value of them.
_WITHOUT_EFFECT: Final = frozenset(
    ("differentiable", "vectorized", "shifted", "skip_existing", "device", "deactivate_vmap")
)


def make_estimator(value_type: Any, loss: str, **hyperparameters: Any) -> AbstractValueEstimator:
    """Make a value estimator from its name.

    Args:
        value_type: A member of :class:`ValueEstimators` (or of TorchRL's enum), its name in any case, or a class or
            instance of :class:`AbstractValueEstimator`.
        loss: Name of the loss, for the words of errors.
        **hyperparameters: ``gamma``, ``lmbda``, ``time_dim``, where the estimator has them.

    Returns:
        The estimator.

    Raises:
        NotImplementedError: If the loss has no use for this estimator.
        KeyError: If no estimator has this name.
        TypeError: If it is no name at all, or a hyper-parameter is unknown.

    Example:
        >>> make_estimator("tdlambda", "QMixerLoss", lmbda=0.6)
        TDLambdaEstimator(gamma=0.99, lmbda=0.6)
    """
    if isinstance(value_type, AbstractValueEstimator):
        return value_type
    if isinstance(value_type, type) and issubclass(value_type, AbstractValueEstimator):
        return value_type(**hyperparameters)
    if not isinstance(value_type, str | Enum):
        raise TypeError(f"Expected a member of ValueEstimators, its name or an estimator, got {value_type!r}.")
    known = {member.name.lower(): member.name for member in ValueEstimators}
    alias = value_type if isinstance(value_type, str) else value_type.name
    name = known.get(alias.lower())
    if name is None:
        raise KeyError(f"Unknown value estimator alias {alias!r}. Known aliases: {sorted(known)}.")
    if name not in ESTIMATORS:
        raise NotImplementedError(
            f"Value type {value_type} is not implemented for loss {loss}. Supported value types: {list(ESTIMATORS)}."
        )
    wanted = {key: value for key, value in hyperparameters.items() if key not in _WITHOUT_EFFECT}
    return ESTIMATORS[name](**wanted)
