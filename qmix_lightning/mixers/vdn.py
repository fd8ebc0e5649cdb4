"""The mixer that adds."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from qmix_lightning.mixers.base import Mixer
from qmix_lightning.spec import TaskSpec


class VDNMixer(Mixer):
    r"""Value-decomposition networks: the joint value is the sum of the agents' values.

    .. math:: Q_{tot} = \sum_i Q_i

    Args:
        n_agents: Number of agents N, or the task's sizes, which tell it.
        device: Where the mixer lives; it has no parameters.

    Example:
        >>> VDNMixer(n_agents=2)(torch.tensor([[[1.0], [2.0]]]))
        tensor([[3.]])
        >>> VDNMixer(n_agents=2)(torch.tensor([[[1.0], [2.0]]]), agent_mask=torch.tensor([[True, False]]))
        tensor([[1.]])

    Sunehag et al. (2017), Value-Decomposition Networks For Cooperative Multi-Agent Learning, equation 1.
    """

    monotonic: ClassVar[bool] = True

    def __init__(self, n_agents: int | TaskSpec, device: torch.device | str | None = None) -> None:
        if isinstance(n_agents, TaskSpec):
            n_agents = n_agents.n_agents
        super().__init__(n_agents=n_agents, needs_state=False, state_shape=(), device=device)

    def mix(self, chosen_action_value: Tensor, state: Tensor | None) -> Tensor:
        """Add up the agents: ``[*B, N, 1]`` to ``[*B, 1]``."""
        return chosen_action_value.sum(-2)
