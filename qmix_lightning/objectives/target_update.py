"""How target networks follow the online networks."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class AbstractTargetUpdate(nn.Module, ABC):
    """Copies every ``<name>_params`` of a loss into its ``target_<name>_params``, buffers included.

    Making one leaves the targets as they are: a loss is born with targets equal to its networks, and a resumed run has
    its own.

    Args:
        loss: A loss with target networks of their own.

    Raises:
        RuntimeError: If the loss has no target networks of its own.
    """

    loss: nn.Module

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        # Not a submodule: a checkpoint holds the loss once.
        self.__dict__["loss"] = loss
        self._names = [
            name.removeprefix("target_")
            for name, _ in loss.named_children()
            if name.startswith("target_") and name.endswith("_params")
        ]
        if not self._names:
            raise RuntimeError(
                "Did not find any target parameters or buffers in the loss module."
                " A loss made with delay_value=True has some; with delay_value=False there is nothing to update."
            )
        self.__dict__["loss"].__dict__["has_target_update"] = True

    @abstractmethod
    def step(self) -> None:
        """Update the targets; call it after every step of the optimizer."""

    def _pairs(self) -> tuple[list[Tensor], list[Tensor]]:
        targets, sources = [], []
        # Looked up at each step, since moving a module to another device replaces its buffers.
        for name in self._names:
            source, target = getattr(self.loss, name), getattr(self.loss, f"target_{name}")
            for key, value in source.items(True, True):
                sources.append(value)
                targets.append(target.get(key))
        return targets, sources


class HardUpdate(AbstractTargetUpdate):
    r"""Copies the online parameters at every N-th step, exactly.

    .. math:: \theta^- \leftarrow \theta \quad \text{if } \text{counter} \bmod N = 0

    Args:
        loss: A loss with target networks of their own.
        value_network_update_interval: Steps N from one copy to the next, at least 1.

    Attributes:
        counter: Steps made so far. State dicts carry it; it is no buffer, since asking one on a GPU would wait for the
            GPU.

    Raises:
        ValueError: If the interval is not a positive integer.

    Mnih et al. (2015), Human-level control through deep reinforcement learning.
    """

    def __init__(self, loss: nn.Module, *, value_network_update_interval: int = 1000) -> None:
        if not isinstance(value_network_update_interval, int) or value_network_update_interval < 1:
            raise ValueError(
                f"value_network_update_interval must be a positive integer, got {value_network_update_interval!r}."
            )
        super().__init__(loss)
        self.value_network_update_interval = value_network_update_interval
        self.counter = 0

    @torch.no_grad()
    def step(self) -> None:
        """Count, and copy at every N-th call."""
        self.counter += 1
        if self.counter % self.value_network_update_interval == 0:
            torch._foreach_copy_(*self._pairs())

    def get_extra_state(self) -> Tensor:
        """What a state dict carries: the counter."""
        return torch.tensor(self.counter)

    def set_extra_state(self, state: Tensor) -> None:
        """Go on counting where the state dict was written."""
        self.counter = int(state)

    def extra_repr(self) -> str:
        """Show the interval and the counter."""
        return f"value_network_update_interval={self.value_network_update_interval}, counter={self.counter}"


class SoftUpdate(AbstractTargetUpdate):
    r"""Moves the targets a little towards the online parameters at every step.

    .. math:: \theta^- \leftarrow (1 - \tau)\,\theta^- + \tau\,\theta

    Args:
        loss: A loss with target networks of their own.
        eps: The share ``1 - tau`` that stays, in [0, 1].
        tau: The share τ that moves, in [0, 1]. Give exactly one of the two.

    Raises:
        RuntimeError: If neither is given.
        ValueError: If both are given, or one is out of range.

    Lillicrap et al. (2016), Continuous control with deep reinforcement learning.
    """

    def __init__(self, loss: nn.Module, *, eps: float | None = None, tau: float | None = None) -> None:
        if eps is None and tau is None:
            raise RuntimeError("Neither eps nor tau was provided. Give one: tau=0.005 is the same as eps=0.995.")
        if eps is not None and tau is not None:
            raise ValueError(f"eps and tau exclude each other, since tau is 1 - eps; got eps={eps} and tau={tau}.")
        share = tau if tau is not None else 1 - (eps or 0.0)
        if not 0 <= share <= 1:
            raise ValueError(f"eps and tau must lie in [0, 1], got eps={eps} and tau={tau}.")
        super().__init__(loss)
        self.tau = share

    @torch.no_grad()
    def step(self) -> None:
        """Move the targets by the share τ; counters of steps, which are integers, are copied."""
        targets, sources = self._pairs()
        real = [target.is_floating_point() for target in targets]
        torch._foreach_lerp_(
            [t for t, is_real in zip(targets, real, strict=True) if is_real],
            [s for s, is_real in zip(sources, real, strict=True) if is_real],
            self.tau,
        )
        for target, source, is_real in zip(targets, sources, real, strict=True):
            if not is_real:
                target.copy_(source)

    def extra_repr(self) -> str:
        """Show the share that moves."""
        return f"tau={self.tau}"
