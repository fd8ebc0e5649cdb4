"""What to do with the padding of episodes that are shorter than their batch."""

from __future__ import annotations

import torch
from torch import Tensor


def masked_mean(value: Tensor, mask: Tensor | None, weight: Tensor | None = None) -> Tensor:
    """Mean over the steps that were really played: ``Σ weight · value · mask / Σ weight · mask``, 0 if none was.

    Args:
        value: Any shape, finite everywhere (see :func:`without_padding`).
        mask: Bool of the same shape; None averages over everything.
        weight: How much each step counts, of a shape that can be broadcast to it; None means all alike.

    Returns:
        A scalar.

    Example:
        >>> masked_mean(torch.tensor([1.0, 2.0, 9.0]), torch.tensor([True, True, False]))
        tensor(1.5000)
    """
    if weight is None and mask is None:
        return value.mean()
    if mask is not None:
        weight = mask if weight is None else weight * mask
    assert weight is not None, "There is a mask or a weight."
    weight = weight.expand_as(value)
    total = weight.sum()
    # A batch of nothing but padding must not turn every parameter into NaN.
    return (value * weight).sum() / total.where(total > 0, 1)


def without_padding(value: Tensor, mask: Tensor | None, fill: float = 0) -> Tensor:
    """Overwrite padding, so that whatever it holds, NaN included, reaches neither a value nor a gradient.

    Zeroing the *loss* of padding is too late: the gradient of ``0 · NaN`` is NaN.

    Args:
        value: ``[*B, ...]``.
        mask: ``[*B, 1]`` bool, False on padding; None keeps everything.
        fill: What padding becomes.

    Returns:
        The same shape and dtype as ``value``.

    Example:
        >>> without_padding(torch.tensor([[1.0], [float("nan")]]), torch.tensor([[True], [False]])).tolist()
        [[1.0], [0.0]]
    """
    if mask is None:
        return value
    rows = mask.reshape(*mask.shape[:-1], *[1] * (value.ndim - mask.ndim + 1))
    # Half again as fast as masked_fill where one element of the mask covers many of the value.
    return torch.where(rows, value, fill)


def seen_steps(played: Tensor) -> Tensor:
    """Steps whose observation counts: those played, and the one after each, from which it bootstraps.

    Args:
        played: ``[B, T+1, 1]`` bool.

    Returns:
        ``[B, T+1, 1]`` bool.

    Example:
        >>> seen_steps(torch.tensor([[[True], [True], [False], [False]]])).squeeze().tolist()
        [True, True, True, False]
    """
    return torch.cat([played[:, :1], played[:, 1:] | played[:, :-1]], 1)
