"""Agents without a memory."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from qmix_lightning.agents.compiled import CompiledAgent
from qmix_lightning.agents.inputs import AgentInput
from qmix_lightning.agents.mlp_step import MLPStep
from qmix_lightning.functional.packing import Packing
from qmix_lightning.functional.precision import in_its_precision
from qmix_lightning.spec import TaskSpec


class MLPAgent(CompiledAgent):
    """Values actions by what the agent sees now: ``layers`` times Linear-ReLU, then Linear.

    Enough where the observation tells all that matters, and about half the cost of an update with a GRU.

    Args:
        spec: The task's sizes.
        hidden_size: Width of every hidden layer.
        layers: Number of hidden layers, at least 1.
        last_action: Whether an agent is told what it did one step before.
        agent_id: Whether an agent is told which one it is.

    Raises:
        ValueError: If there is no hidden layer.

    Example:
        >>> import torch
        >>> spec = TaskSpec("battle/3m", n_agents=3, n_actions=9, observation_size=30, state_size=48, episode_limit=60)
        >>> MLPAgent(spec)(torch.zeros(2, 61, 3, 30), torch.zeros(2, 61, 3, dtype=torch.int64)).shape
        torch.Size([2, 61, 3, 9])

    Source:
        Papoudakis et al., "Benchmarking Multi-Agent Deep Reinforcement Learning Algorithms in Cooperative Tasks", 2021
        (EPyMARL, ``use_rnn: False``).
    """

    compiled, memory_size = MLPStep, 0

    def __init__(
        self,
        spec: TaskSpec,
        *,
        hidden_size: int = 64,
        layers: int = 2,
        last_action: bool = True,
        agent_id: bool = True,
    ) -> None:
        super().__init__(spec)
        if layers < 1:
            raise ValueError(f"MLPAgent needs at least 1 hidden layer, got layers={layers}.")
        self.input = AgentInput(spec, hidden_size, last_action=last_action, agent_id=agent_id)
        hidden = [module for _ in range(layers - 1) for module in (nn.Linear(hidden_size, hidden_size), nn.ReLU())]
        self.head = nn.Sequential(nn.ReLU(), *hidden, nn.Linear(hidden_size, spec.n_actions))

    def step(self, observation: Tensor, last_action: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Value one step; the memory is empty and comes back as it is."""
        return self(observation, last_action), memory

    def forward(
        self,
        observation: Tensor,
        last_action: Tensor,
        is_init: Tensor | None = None,
        packing: Packing | None = None,
    ) -> Tensor:
        """Value all steps at once, ``[B, T, N, A]``; where a trajectory begins makes no difference."""
        if packing is not None:
            return packing.put(self(packing.take(observation), packing.take(last_action)))
        layers: list[Any] = list(self.head)
        *hidden, last = layers
        x = self.input(observation, last_action)
        for layer in hidden:
            x = layer(x)
        return in_its_precision(last, x)
