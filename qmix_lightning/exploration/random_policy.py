"""A team that does anything that is legal."""

from __future__ import annotations

import torch
from torch import Generator, Tensor


class RandomPolicy:
    """A :class:`~qmix_lightning.spec.Policy` without values: every legal action is as likely as any other.

    Args:
        seed: Of its choices, wherever :meth:`act` is given no generator.

    Example:
        >>> legal = torch.tensor([[[False, True, False], [True, False, False]]])
        >>> policy = RandomPolicy()
        >>> policy.act(torch.zeros(1, 2, 5), legal, torch.full((1, 2), -1), policy.initial_memory(1))[0]
        tensor([[1, 0]])
    """

    def __init__(self, seed: int = 0) -> None:
        self._generator = Generator().manual_seed(seed)

    def initial_memory(self, battles: int) -> Tensor:
        """It remembers nothing."""
        return torch.zeros(battles, 1, 0)

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
        chances = action_mask.flatten(0, -2).float()
        action = torch.multinomial(chances, 1, generator=generator or self._generator)
        return action.view(action_mask.shape[:-1]), memory
