"""What is done to rewards before values are regressed towards them."""

from __future__ import annotations

import torch
from torch import Tensor


def standardised(
    reward: Tensor, mask: Tensor | None = None, groups: Tensor | None = None, *, smallest: float = 1e-4
) -> Tensor:
    r"""Rewards of mean 0 and variance 1 over a batch, or over each group of it.

    .. math:: r' = \frac{r - \bar r}{\max(\sigma, \text{smallest})}, \qquad
        \sigma^2 = \frac{1}{n - 1} \sum (r - \bar r)^2

    Args:
        reward: Any shape.
        mask: Bool of that shape, which rewards count; the others become 0. None counts all.
        groups: Integers of that shape, which group each reward belongs to; None is one group.
        smallest: The least that is divided by.

    Returns:
        The shape of ``reward``.

    Example:
        >>> standardised(torch.tensor([1.0, 2.0, 3.0]))
        tensor([-1.,  0.,  1.])
    """
    counts = (torch.ones_like(reward) if mask is None else mask.to(reward.dtype)).flatten()
    flat = (reward if mask is None else torch.where(mask, reward, 0)).flatten()
    group = torch.zeros_like(flat, dtype=torch.int64)
    if groups is not None:
        group = torch.unique(groups, return_inverse=True)[1].flatten()
    sums = flat.new_zeros(int(group.max()) + 1 if groups is not None else 1)
    number = sums.index_add(0, group, counts)
    mean = sums.index_add(0, group, flat * counts) / number.clamp(min=1)
    centred = (flat - mean[group]) * counts
    deviation = (sums.index_add(0, group, centred.square()) / (number - 1).clamp(min=1)).sqrt()
    return (centred / deviation.clamp(min=smallest)[group]).view_as(reward)
