"""Greedy actions in every format that TorchRL's data uses, and their values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Size, Tensor

from qmix_lightning.actors.specs import action_leaf
from qmix_lightning.functional.values import chosen_value, legal_argmax

ACTION_SPACES: Final = {
    "one-hot": "one_hot",
    "one_hot": "one_hot",
    "mult-one-hot": "mult_one_hot",
    "mult_one_hot": "mult_one_hot",
    "multi-one-hot": "mult_one_hot",
    "multi_one_hot": "mult_one_hot",
    "binary": "binary",
    "categorical": "categorical",
    "multi-categorical": "multi_categorical",
    "multi_categorical": "multi_categorical",
    "multi-discrete": "multi_categorical",
    "multi_discrete": "multi_categorical",
}
_SPECS: Final = {
    "OneHot": "one_hot",
    "MultiOneHot": "mult_one_hot",
    "Binary": "binary",
    "Categorical": "categorical",
    "MultiCategorical": "multi_categorical",
}
GREEDY_SPACES: Final = ("categorical", "one_hot", "mult_one_hot")


def find_action_space(action_space: Any) -> str:
    """How actions are written down.

    Args:
        action_space: A name such as ``"categorical"`` or ``"one-hot"``, or one of TorchRL's specs or their classes; of
            a Composite the leaf called ``"action"`` counts.

    Returns:
        ``"categorical"``, ``"one_hot"``, ``"mult_one_hot"``, ``"binary"`` or ``"multi_categorical"``.

    Raises:
        ValueError: If it is none of these.
        KeyError: If a Composite has no leaf called ``"action"``.

    Example:
        >>> find_action_space("one-hot")
        'one_hot'
    """
    if isinstance(action_space, str):
        found = ACTION_SPACES.get(action_space)
    else:
        leaf = action_leaf(action_space)
        found = action_space_of(leaf if isinstance(leaf, type) else type(leaf))
    if found is None:
        raise ValueError(
            "action_space was not specified/not compatible and could not be retrieved from the value network."
            f" Got action_space={action_space}. Choose one of 'categorical', 'one-hot', 'mult-one-hot', or a spec of"
            " that kind."
        )
    return found


def action_space_of(spec: type) -> str | None:
    """The action space of a kind of specs, by its name; None if it has no name here."""
    return _SPECS.get(spec.__name__)


def component_sizes(width: int, action_space: str, var_nums: int | Sequence[int] | None = None) -> list[int]:
    """Number of actions of each component of an action.

    Args:
        width: Number A of action values.
        action_space: ``"categorical"``, ``"one_hot"`` or ``"mult_one_hot"``; only the last has several components.
        var_nums: The sizes of those, or the one size that all have.

    Returns:
        Sizes whose sum is A.

    Raises:
        ValueError: If the sizes are missing or do not add up.

    Example:
        >>> component_sizes(6, "mult_one_hot", 3)
        [3, 3]
    """
    if action_space != "mult_one_hot":
        return [width]
    if var_nums is None:
        raise ValueError(
            "var_nums must be provided to the constructor for multi one-hot action spaces: the number of actions of"
            " each component, e.g. var_nums=[2, 3]."
        )
    sizes = [var_nums] * (width // var_nums) if isinstance(var_nums, int) else list(var_nums)
    if sum(sizes) != width:
        raise ValueError(
            f"Expected var_nums that add up to the {width} action values, got {var_nums}. Give the number of actions of"
            " each component."
        )
    return sizes


def expand_mask(mask: Tensor, shape: Sequence[int]) -> Tensor:
    """A mask of legal actions, repeated for everyone it holds for.

    Args:
        mask: ``[*B, A]``, where dimensions may be 1, or ``[A]``.
        shape: What is wanted, ``[*B, A]``.

    Returns:
        A view ``[*B, A]``.

    Raises:
        ValueError: If the mask has other dimensions, even if they could be aligned from the right: nothing tells
            battles from agents then.

    Example:
        >>> expand_mask(torch.tensor([True, False]), [3, 2]).shape
        torch.Size([3, 2])
    """
    if mask.shape == Size(shape):
        return mask
    fits = mask.ndim == len(shape) and all(m in (1, wanted) for m, wanted in zip(mask.shape, shape, strict=True))
    if not fits and mask.shape != Size(shape[-1:]):
        raise ValueError(
            f"Cannot expand mask to the desired shape: expected an action mask of shape {tuple(shape)}, got"
            f" {tuple(mask.shape)}. Give it one entry for each action of each agent; sizes of 1 are repeated."
        )
    return mask.expand(shape)


def greedy_action(
    value: Tensor, mask: Tensor | None, action_space: str, var_nums: int | Sequence[int] | None = None
) -> Tensor:
    """The best legal action in the format of the action space; the first of equals, never several at once.

    Args:
        value: ``[..., A]``.
        mask: ``[..., A]`` bool, or None.
        action_space: ``"categorical"``, ``"one_hot"`` or ``"mult_one_hot"``.
        var_nums: Number of actions of each component of a ``"mult_one_hot"`` action.

    Returns:
        ``[...]`` int64 if categorical, else ``[..., A]`` int64.

    Raises:
        ValueError: If the action space has no greedy action here, ``var_nums`` does not fit, or no action is legal.

    Example:
        >>> greedy_action(torch.tensor([1.0, 3.0, 3.0]), None, "one_hot")
        tensor([0, 1, 0])
    """
    if action_space not in GREEDY_SPACES:
        raise ValueError(f"action_space must be one of {list(GREEDY_SPACES)}, got {action_space}")
    if action_space == "categorical":
        return legal_argmax(value, mask)
    sizes = component_sizes(value.shape[-1], action_space, var_nums)
    masks = [None] * len(sizes) if mask is None else torch.split(mask, sizes, -1)
    hot = [
        F.one_hot(legal_argmax(v, m), v.shape[-1]) for v, m in zip(torch.split(value, sizes, -1), masks, strict=True)
    ]
    return hot[0] if len(hot) == 1 else torch.cat(hot, -1)


def value_of_action(value: Tensor, action: Tensor, action_space: str) -> Tensor:
    """The value of an action in the format of the action space.

    Args:
        value: ``[..., A]``.
        action: ``[...]`` or ``[..., 1]`` integer if categorical, else ``[..., A]``, whose picked components are added
            up.
        action_space: As :func:`find_action_space` names it.

    Returns:
        ``[..., 1]``.

    Raises:
        ValueError: If the action does not have that shape.

    Example:
        >>> value_of_action(torch.tensor([1.0, 3.0]), torch.tensor([0, 1]), "one_hot")
        tensor([3.])
    """
    if action_space == "categorical":
        if action.ndim == value.ndim and action.shape[-1] == 1:
            action = action.squeeze(-1)
        return chosen_value(value, action, keepdim=True)
    if action.shape != value.shape:
        raise ValueError(
            f"Expected {action_space} actions of the shape {tuple(value.shape)} of the action values, got"
            f" {tuple(action.shape)}. Indices of actions need action_space='categorical'."
        )
    return (value * action).sum(-1, keepdim=True)
