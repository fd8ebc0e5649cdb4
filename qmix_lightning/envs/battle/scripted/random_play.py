"""A team that does anything that is legal."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from qmix_lightning.envs.battle.scripted.sight import Eyes


class RandomPlay:
    """Takes every legal action with the same chance, healers too.

    Args:
        eyes: Knows the number of agents.
        seed: Of its choices, wherever :meth:`act` is given no generator.
    """

    def __init__(self, eyes: Eyes, seed: int = 0) -> None:
        self._n_agents, self._generator = int(eyes.rules.n_agents), Generator().manual_seed(seed)

    def initial_memory(self, battles: int) -> Tensor:
        """It remembers nothing."""
        return torch.zeros(battles, self._n_agents, 0)

    def act(
        self,
        observation: Tensor,
        action_mask: Tensor,
        last_action: Tensor,
        memory: Tensor,
        *,
        env_steps: int | None = None,
        generator: Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Choose one legal action for every agent; see :class:`~qmix_lightning.spec.Policy`."""
        keys = torch.rand(action_mask.shape, generator=generator or self._generator)
        return keys.masked_fill(~action_mask, -1).argmax(-1), memory
