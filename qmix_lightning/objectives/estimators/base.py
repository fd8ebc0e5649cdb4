"""What every value estimator has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, ClassVar, Self

import torch
from tensordict import NestedKey
from torch import Tensor, nn

from qmix_lightning.functional.rewards import standardised


class ValueEstimators(Enum):
    """TorchRL's names of value estimators; the last three belong to losses that are not here.

    Example:
        >>> [member.name for member in ValueEstimators]
        ['TD0', 'TD1', 'TDLambda', 'GAE', 'MAGAE', 'VTrace']
    """

    TD0 = "Bootstrapped TD (1-step return)"
    TD1 = "TD(1) (infinity-step return)"
    TDLambda = "TD(lambda)"
    GAE = "Generalized advantage estimate"
    MAGAE = "Multi-agent generalized advantage estimate"
    VTrace = "V-trace"


def fraction(name: str, value: float) -> Tensor:
    """A hyper-parameter in [0, 1] as a float32 tensor.

    Raises:
        ValueError: If it is out of range.
    """
    if not 0 <= float(value) <= 1:
        raise ValueError(f"{name} must lie in [0, 1], got {value}.")
    return torch.tensor(float(value))


class AbstractValueEstimator(nn.Module, ABC):
    """Computes targets from rewards and the values of the next states.

    Args:
        gamma: Discount in [0, 1].
        time_dim: Batch dimension along which time runs; None takes the one named "time", else the last.
        average_rewards: Whether rewards are first brought to mean 0 and variance 1 over the batch.
        group_key: Where the batch says to which group each step belongs, for ``average_rewards`` within groups.

    Attributes:
        gamma: The discount, a float32 buffer, so that a checkpoint carries it.
        needs_time: Whether a target depends on later steps, so that the batch must have a time dimension.
        tensor_keys: Where the loss that uses the estimator finds what it computes with.
        value_type: The estimator's name.

    Raises:
        ValueError: If ``gamma`` is out of range.
    """

    @dataclass(frozen=True)
    class _AcceptedKeys:
        """TorchRL's names; a loss sets them as it finds its data."""

        advantage: NestedKey = "advantage"
        value_target: NestedKey = "value_target"
        value: NestedKey = "state_value"
        reward: NestedKey = "reward"
        done: NestedKey = "done"
        terminated: NestedKey = "terminated"
        steps_to_next_obs: NestedKey = "steps_to_next_obs"

    needs_time: ClassVar[bool] = True
    smallest_deviation: ClassVar[float] = 1e-4
    value_type: ClassVar[ValueEstimators]
    gamma: Tensor

    def __init__(
        self,
        *,
        gamma: float = 0.99,
        time_dim: int | None = None,
        average_rewards: bool = False,
        group_key: NestedKey | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("gamma", fraction("gamma", gamma))
        self.time_dim, self.average_rewards, self.group_key = time_dim, average_rewards, group_key
        self.tensor_keys = self._AcceptedKeys()

    def set_keys(self, **keys: NestedKey) -> None:
        """Tell the estimator where its data are."""
        self.tensor_keys = replace(self.tensor_keys, **keys)

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
        time_dim: int | None = None,
        steps: Tensor | None = None,
        groups: Tensor | None = None,
    ) -> Tensor:
        """Compute targets, wherever the time dimension is.

        Args:
            reward: ``[*B, 1]``.
            next_value: ``[*B, 1]``.
            terminated: ``[*B, 1]`` bool.
            done: ``[*B, 1]`` bool.
            mask: ``[*B, 1]`` bool; a step before padding ends its trajectory. None means no padding.
            time_dim: The batch dimension of time, unless the estimator was made with one; None is the last of two or
                more.
            steps: ``[*B, 1]``, over how many steps each reward was summed; the bootstrap is discounted as often.
            groups: ``[*B, 1]`` integers, for ``average_rewards`` within groups.

        Returns:
            ``[*B, 1]``.

        Raises:
            ValueError: If time is needed and the batch has no such dimension, or only one that nobody called time.
        """
        if self.average_rewards:
            reward = standardised(reward.detach(), mask, groups, smallest=self.smallest_deviation)
        gamma = self.gamma if steps is None else self.gamma ** steps.reshape(reward.shape)
        if not self.needs_time:
            return self.targets(reward, next_value, terminated, done, gamma)
        time_dim = self._time_dim(reward.shape[:-1], time_dim)

        def swap(value: Tensor) -> Tensor:
            return value.transpose(time_dim, -2)

        if mask is not None:
            done = done.clone()
            swap(done)[..., :-1, :] |= ~swap(mask)[..., 1:, :]
        gamma = gamma if gamma.ndim == 0 else swap(gamma)
        return swap(self.targets(swap(reward), swap(next_value), swap(terminated), swap(done), gamma))

    def _time_dim(self, batch: torch.Size, named: int | None) -> int:
        time_dim = self.time_dim if self.time_dim is not None else named
        name, dims = type(self).__name__, len(batch)
        if time_dim is None and dims == 1:
            raise ValueError(
                f"{name} looks ahead in time, but a batch {tuple(batch)} of one dimension may be single steps in any"
                " order. Give trajectories [B, T] (for one, batch.unsqueeze(0)), or say that this dimension is time:"
                " batch.names = ['time'], or make_value_estimator(..., time_dim=0). For single steps use TD0."
            )
        time_dim = dims - 1 if time_dim is None else time_dim
        if not -dims <= time_dim < dims or dims == 0:
            raise ValueError(
                f"{name} expected a batch with a time dimension {time_dim}, got the batch {tuple(batch)}. Give"
                " trajectories, or use TD0, which takes single steps."
            )
        return time_dim % dims

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # Moves to another device, but keeps the dtype: in bfloat16 a discount of 0.99 is 0.9883.
        for name, buffer in self._buffers.items():
            if buffer is not None and (device := fn(buffer).device).type != "meta":
                self._buffers[name] = buffer.to(device)
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # TorchRL makes its estimator at the first forward, so that checkpoints written before have no discount.
        for name, buffer in self._buffers.items():
            state_dict.setdefault(prefix + name, buffer)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        """Show the hyper-parameters."""
        return ", ".join(f"{name}={buffer.item():.4g}" for name, buffer in self.named_buffers())
