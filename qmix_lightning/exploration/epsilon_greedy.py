"""Mostly the best action, sometimes any."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from qmix_lightning.functional.values import legal_argmax


def epsilon_greedy(value: Tensor, mask: Tensor, epsilon: float, generator: Generator | None = None) -> Tensor:
    """Choose, for each agent on its own, a uniformly random legal action with probability ε, else the best legal one.

    Args:
        value: ``[..., A]`` action values.
        mask: ``[..., A]`` bool, which actions are legal.
        epsilon: Probability ε in [0, 1] of a random action, which may be the best one by chance.
        generator: Source of the random choices, on the device of ``value``; None is torch's own.

    Returns:
        ``[...]`` int64 actions.

    Raises:
        ValueError: If ε is no probability, or some agent has no legal action.

    Example:
        >>> value, mask = torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([[False, True, True]])
        >>> epsilon_greedy(value, mask, epsilon=0.0)
        tensor([1])

    Source:
        Sutton and Barto, "Reinforcement Learning: An Introduction", 2018, section 2.2.
    """
    if not 0.0 <= epsilon <= 1.0:
        raise ValueError(f"epsilon is a probability, expected a number from 0 to 1, got {epsilon}.")
    # An exploring agent values its actions at random: the argmax of independent keys is uniform over the legal ones and
    # cheaper than torch.multinomial. In half precision the keys would collide and favour the first action.
    *batch, n_actions = value.shape
    draws = torch.rand(*batch, n_actions + 1, device=value.device, generator=generator)
    explores = draws.narrow(-1, n_actions, 1) < epsilon
    return legal_argmax(torch.where(explores, draws.narrow(-1, 0, n_actions), value), mask)
