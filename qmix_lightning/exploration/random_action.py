"""Actions that are as good as any other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from qmix_lightning.actors.action_spaces import GREEDY_SPACES, action_space_of, expand_mask
from qmix_lightning.actors.specs import spec_sizes


def random_action(
    shape: Sequence[int],
    sizes: Sequence[int],
    mask: Tensor | None = None,
    *,
    one_hot: bool = False,
    device: torch.device | None = None,
) -> Tensor:
    """Draw uniformly from the legal actions; seeded alike, the very actions that TorchRL's specs draw.

    Args:
        shape: Shape of the actions, ``[*B]``, or ``[*B, A]`` if one-hot.
        sizes: Number of actions of each component of an action, ``[A]`` if it has one; A is their sum.
        mask: ``[*B, A]`` bool, which actions are legal; all if None.
        one_hot: Whether actions are written as ones and zeros instead of an index.
        device: Where they are drawn.

    Returns:
        int64 actions of that shape.

    Raises:
        ValueError: If shape or mask have not as many entries as there are actions.
        RuntimeError: If someone has no legal action.

    Example:
        >>> random_action([2], [3], torch.tensor([[False, True, False], [False, False, True]]))
        tensor([1, 2])
    """
    batch = list(shape[:-1] if one_hot else shape)
    if one_hot and tuple(shape[-1:]) != (sum(sizes),):
        raise ValueError(
            f"Action spec shape does not match the action shape: expected actions with {sum(sizes)} entries, got"
            f" {tuple(shape)}. Indices of actions need action_space='categorical'."
        )
    mask = None if mask is None else expand_mask(mask, [*batch, sum(sizes)])
    masks = [None] * len(sizes) if mask is None else torch.split(mask, list(sizes), -1)
    drawn = [_index(batch, size, legal, device) for size, legal in zip(sizes, masks, strict=True)]
    if not one_hot:
        return drawn[0]
    return torch.cat([F.one_hot(index, size) for index, size in zip(drawn, sizes, strict=True)], -1)


def _index(batch: Sequence[int], size: int, mask: Tensor | None, device: torch.device | None) -> Tensor:
    if mask is None:
        return torch.randint(size, tuple(batch), device=device)
    try:
        return torch.multinomial(mask.reshape(-1, size).float(), 1).reshape(mask.shape[:-1])
    except RuntimeError as error:
        # Asked afterwards, so that nobody waits twice for a GPU whose actions are legal.
        empty = mask.any(-1).logical_not()
        if not empty.any():
            raise
        raise RuntimeError(
            "invalid multinomial distribution: expected a legal action in every row of the action mask, got none at"
            f' index {empty.nonzero()[0].tolist()}. An agent that cannot act needs one action ("no-op") that stays'
            " legal."
        ) from error


def random_action_of(spec: Any, action: Tensor, mask: Tensor | None = None) -> Tensor:
    """Draw from a TorchRL spec as many actions as there are already, leaving the spec as it is.

    Args:
        spec: The spec of one action, of any kind, or of as many as there are.
        action: Actions of the wanted shape, on the wanted device.
        mask: ``[*B, A]`` bool, which actions are legal; None asks the spec's own mask, if it has one.

    Returns:
        Actions of the shape of ``action`` and the dtype of ``spec``.

    Raises:
        ValueError: If ``action`` or ``mask`` do not have the shape of ``spec``, or there is no finite number of actions
            that could be masked.
        RuntimeError: If someone has no legal action.
    """
    more = action.shape[: action.ndim - spec.ndim]
    if (*more, *spec.shape) != action.shape:
        raise ValueError(
            f"Action spec shape does not match the action shape: expected {['...', *spec.shape]}, got"
            f" {list(action.shape)}. Give the spec of the action as the tensordict holds it."
        )
    space = action_space_of(type(spec))
    if space in GREEDY_SPACES:
        if mask is None and spec.mask is not None:
            mask = spec.mask.to(action.device).expand(*more, *spec.mask.shape)
        one_hot = space != "categorical"
        return random_action(action.shape, spec_sizes(spec), mask, one_hot=one_hot, device=action.device).to(spec.dtype)
    spec = spec.expand(action.shape) if more else spec.clone()
    if mask is not None:
        if not hasattr(spec, "update_mask"):
            raise ValueError(
                f"A mask of legal actions needs a finite number of them, got spec={spec}. Leave action_mask_key out."
            )
        spec.update_mask(mask)
    drawn: Tensor = spec.rand()
    return drawn.to(action.device)
