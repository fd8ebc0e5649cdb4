"""Mostly the best action, sometimes any."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from qmix_lightning.functional.compiling import kernel, may_compute, readable
from qmix_lightning.functional.values import legal_argmax


def epsilon_greedy(value: Tensor, mask: Tensor, epsilon: float | Tensor, generator: Generator | None = None) -> Tensor:
    """Choose, for each agent on its own, a uniformly random legal action with probability ε, else the best legal one.

    Args:
        value: ``[..., A]`` action values.
        mask: ``[..., A]`` bool, which actions are legal.
        epsilon: Probability ε in [0, 1] of a random action, which may be the best one by chance. A ``[]`` tensor,
            on the device of ``value``, is not looked into.
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
    told = not isinstance(epsilon, Tensor)
    if told:
        refuse_improbable(epsilon)
    # One draw tells whether an agent explores, one which of its legal actions it then takes.
    draws = torch.rand(*value.shape[:-1], 2, device=value.device, generator=generator)
    if told and value.dtype == torch.float32 and mask.shape == value.shape and may_compute() and readable(value, mask):
        chosen = np.empty(value.shape[:-1], dtype=np.int64)
        if choose(value.numpy(), mask.numpy(), draws.numpy(), np.float32(epsilon), chosen):
            return torch.from_numpy(chosen)
    best = legal_argmax(value, mask)
    rank = mask.cumsum(-1)  # of each legal action among those of its agent, from 1
    last = rank.narrow(-1, value.shape[-1] - 1, 1)
    number = torch.minimum((draws.narrow(-1, 1, 1).double() * last).long() + 1, last)
    random = (mask & (rank == number)).to(torch.uint8).argmax(-1)
    return torch.where(draws.select(-1, 0) < epsilon, random, best)


def refuse_improbable(epsilon: Any) -> None:
    """Raise a ValueError if ε is no probability."""
    if not 0.0 <= epsilon <= 1.0:
        raise ValueError(f"epsilon is a probability, expected a number from 0 to 1, got {epsilon}.")


@kernel
def choose(value: Any, mask: Any, draws: Any, epsilon: Any, chosen: Any) -> bool:
    """Write what follows from the draws ``[..., 2]`` in one pass.

    Returns:
        False if a row has no legal action above -∞, or one of a value that is no number.
    """
    n_actions, n_rows, found = value.shape[-1], chosen.size, True
    value, mask = value.reshape(n_rows, n_actions), mask.reshape(n_rows, n_actions)
    draws, chosen = draws.reshape(n_rows, 2), chosen.reshape(n_rows)
    for i in range(n_rows):
        best, action, n_legal = _NOTHING, -1, 0
        for a in range(n_actions):
            # Chosen, not branched to: a processor that guesses at masks and values takes three times as long.
            key = value[i, a] if mask[i, a] else _NOTHING
            n_legal += mask[i, a]
            found &= key == key
            if key > best:
                best, action = key, a
        found &= action >= 0
        if draws[i, 0] < epsilon and n_legal > 0:
            left, action = min(int(np.float64(draws[i, 1]) * n_legal), n_legal - 1), -1
            while left >= 0:
                action += 1
                left -= mask[i, action]
        chosen[i] = action
    return found


_NOTHING = np.float32(-np.inf)
