"""Target networks that follow a little at every step."""

from __future__ import annotations

import warnings

import torch
from torch import nn

from qmix_lightning.objectives.target_update.base import AbstractTargetUpdate


class SoftUpdate(AbstractTargetUpdate):
    r"""Moves the targets a little towards the online parameters at every step.

    .. math:: \theta^- \leftarrow (1 - \tau)\,\theta^- + \tau\,\theta

    Running statistics move likewise; counters of steps and whatever else is an integer is copied.

    Args:
        loss_module: A loss with target networks of their own.
        eps: The share ``1 - tau`` that stays, in [0, 1].
        tau: The share τ that moves, in [0, 1]. Give exactly one of the two.

    Attributes:
        tau: The share τ that moves.

    Warns:
        UserWarning: If ``eps`` is less than a half, since most likely ``tau`` was meant.

    Raises:
        RuntimeError: If neither is given, or the loss has no target networks of its own.
        ValueError: If both are given, or one is out of range, or the loss is none.

    Example:
        >>> from qmix_lightning.mixers.vdn import VDNMixer
        >>> from qmix_lightning.objectives.qmixer import QMixerLoss
        >>> loss = QMixerLoss(nn.Linear(10, 4), VDNMixer(n_agents=3), action_space="categorical")
        >>> update = SoftUpdate(loss, tau=0.005)
        >>> update.step()
        >>> update
        SoftUpdate(tau=0.005)

    Lillicrap et al. (2016), Continuous control with deep reinforcement learning, algorithm 1.
    """

    def __init__(self, loss_module: nn.Module, *, eps: float | None = None, tau: float | None = None) -> None:
        if eps is None and tau is None:
            raise RuntimeError("Neither eps nor tau was provided. Give one: tau=0.005 is the same as eps=0.995.")
        if eps is not None and tau is not None:
            raise ValueError(
                "One and only one argument (tau or eps) can be specified, since tau is 1 - eps; got"
                f" eps={eps} and tau={tau}."
            )
        share = tau if eps is None else 1 - eps
        assert share is not None
        if not 0 <= share <= 1:
            raise ValueError(f"Got eps = {1 - share} when it was supposed to be between 0 and 1, and so tau = {share}.")
        if eps is not None and eps < 0.5:
            warnings.warn(
                f"Found an eps value < 0.5, which is unexpected: the targets would keep {eps:.1%} of what they are."
                f" You may want to use the `tau` keyword argument instead: tau={eps}.",
                UserWarning,
                stacklevel=2,
            )
        super().__init__(loss_module)
        self.tau = share

    @property
    def eps(self) -> float:
        """The share that stays."""
        return 1 - self.tau

    @torch.no_grad()
    def step(self) -> None:
        """Move the targets by the share τ."""
        self._find()
        if self._real[0]:
            torch._foreach_lerp_(*self._real, self.tau)
        self._copy(self._whole)

    def extra_repr(self) -> str:
        """Show the share that moves."""
        return f"tau={self.tau}"
