"""Target networks that are copied now and then."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qmix_lightning.objectives.target_update.base import AbstractTargetUpdate


class HardUpdate(AbstractTargetUpdate):
    r"""Copies the online parameters at every N-th step, exactly.

    .. math:: \theta^- \leftarrow \theta \quad \text{if } \text{counter} \bmod N = 0

    TorchRL's class of this name copies at every (N + 1)-th.

    Args:
        loss_module: A loss with target networks of their own.
        value_network_update_interval: Steps N from one copy to the next, at least 1.

    Attributes:
        counter: Steps made so far. State dicts carry it; it is no buffer, since asking one on a GPU would wait for the
            GPU.

    Raises:
        ValueError: If the interval is not a positive integer, or the loss is none.
        RuntimeError: If the loss has no target networks of its own.

    Example:
        >>> from qmix_lightning.mixers.vdn import VDNMixer
        >>> from qmix_lightning.objectives.qmixer import QMixerLoss
        >>> loss = QMixerLoss(nn.Linear(10, 4), VDNMixer(n_agents=3), action_space="categorical")
        >>> update = HardUpdate(loss, value_network_update_interval=200)
        >>> update.step()
        >>> update
        HardUpdate(value_network_update_interval=200, counter=1)

    Mnih et al. (2015), Human-level control through deep reinforcement learning, algorithm 1.
    """

    def __init__(self, loss_module: nn.Module, *, value_network_update_interval: int = 1000) -> None:
        if not isinstance(value_network_update_interval, int) or value_network_update_interval < 1:
            raise ValueError(
                f"value_network_update_interval must be a positive integer, got {value_network_update_interval!r}."
            )
        super().__init__(loss_module)
        self.value_network_update_interval = value_network_update_interval
        self.counter = 0

    def step(self) -> None:
        """Count, and copy at every N-th call."""
        self.counter += 1
        if self.counter % self.value_network_update_interval == 0:
            self.init_()

    def get_extra_state(self) -> Tensor:
        """What a state dict carries: the counter."""
        return torch.tensor(self.counter)

    def set_extra_state(self, state: Tensor) -> None:
        """Go on counting where the state dict was written."""
        self.counter = int(state)

    def extra_repr(self) -> str:
        """Show the interval and the counter."""
        return f"value_network_update_interval={self.value_network_update_interval}, counter={self.counter}"
