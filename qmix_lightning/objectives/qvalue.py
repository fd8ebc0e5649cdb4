"""Greedy actions in every format that TorchRL's data uses, and their values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from tensordict import NestedKey, TensorDictBase, unravel_key
from tensordict.nn import TensorDictModuleBase, dispatch
from torch import Size, Tensor

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
}
_SPECS: Final = {
    "OneHot": "one_hot",
    "MultiOneHot": "mult_one_hot",
    "Binary": "binary",
    "Categorical": "categorical",
    "MultiCategorical": "multi_categorical",
}
_GREEDY_SPACES: Final = ("categorical", "one_hot", "mult_one_hot")


def find_action_space(action_space: Any) -> str:
    """How actions are written down.

    Args:
        action_space: A name such as ``"categorical"`` or ``"one-hot"``, or one of TorchRL's specs; of a Composite the
            leaf called ``"action"`` counts. Specs are told by the name of their class, since TorchRL is not imported.

    Returns:
        ``"categorical"``, ``"one_hot"``, ``"mult_one_hot"``, ``"binary"`` or ``"multi_categorical"``.

    Raises:
        ValueError: If it is none of these.

    Example:
        >>> find_action_space("one-hot")
        'one_hot'
    """
    if isinstance(action_space, str):
        found = ACTION_SPACES.get(action_space)
    else:
        found = _SPECS.get(type(_action_leaf(action_space)).__name__)
    if found is None:
        raise ValueError(
            "action_space was not specified/not compatible and could not be retrieved from the value network."
            f" Got action_space={action_space}. Choose one of {sorted(ACTION_SPACES)}, or a spec of that kind."
        )
    return found


def _action_leaf(spec: Any) -> Any:
    if type(spec).__name__ != "Composite":
        return spec
    keys = [unravel_key(key) for key in spec.keys(True, True)]
    actions = [key for key in keys if (key[-1] if isinstance(key, tuple) else key) == "action"]
    return spec[actions[0]] if actions else None


def _parts(width: int, var_nums: int | Sequence[int] | None, action_space: str) -> list[int]:
    if action_space == "one_hot":
        return [width]
    if var_nums is None:
        raise ValueError("var_nums must be provided to the constructor for multi one-hot action spaces.")
    return [var_nums] * (width // var_nums) if isinstance(var_nums, int) else list(var_nums)


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
        ValueError: If the action space has no greedy action here, or ``var_nums`` is missing.

    Example:
        >>> greedy_action(torch.tensor([1.0, 3.0, 3.0]), None, "one_hot")
        tensor([0, 1, 0])
    """
    if action_space not in _GREEDY_SPACES:
        raise ValueError(f"action_space must be one of {list(_GREEDY_SPACES)}, got {action_space}")
    if action_space == "categorical":
        return legal_argmax(value, mask)
    parts = _parts(value.shape[-1], var_nums, action_space)
    masks = [None] * len(parts) if mask is None else torch.split(mask, parts, -1)
    hot = [
        F.one_hot(legal_argmax(v, m), v.shape[-1]) for v, m in zip(torch.split(value, parts, -1), masks, strict=True)
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
        return chosen_value(value, action).unsqueeze(-1)
    if action.shape != value.shape:
        raise ValueError(
            f"Expected {action_space} actions of the shape {tuple(value.shape)} of the action values, got"
            f" {tuple(action.shape)}. Indices of actions need action_space='categorical'."
        )
    return (value * action).sum(-1, keepdim=True)


class QValueModule(TensorDictModuleBase):  # type: ignore[misc]
    """Picks the greedy action from the values of all actions; a drop-in for TorchRL's class of this name.

    Masked action values are written back with the smallest number of their dtype, as TorchRL does, for whoever reads
    them. :class:`~qmix_lightning.objectives.qmixer.QMixerLoss` does not: it leaves this module out and asks
    :func:`greedy_action`.

    Args:
        action_space: ``"categorical"``, ``"one-hot"`` or ``"mult-one-hot"``; taken from ``spec`` if None.
        action_value_key: Where the action values are read, ``"action_value"`` if None.
        action_mask_key: Where a bool mask of legal actions is read; None makes all actions legal.
        out_keys: Where action, action values and chosen action value are written; must contain ``action_value_key``.
        var_nums: Number of actions of each component of a ``"mult-one-hot"`` action.
        spec: A TorchRL spec of the action, or a Composite of such.
        safe: Kept for compatibility: a greedy action is always inside its space.
        strict_shape: What to do with an action whose shape is not that of the spec: refuse it (True or None), reshape
            it (``"auto"``), or let it pass (False).

    Raises:
        ValueError: If the action space is missing, unknown, or not that of the spec.
        RuntimeError: If ``out_keys`` lack ``action_value_key``, or ``safe`` has no spec.
        TypeError: If a spec is passed as the action space.

    Example:
        >>> QValueModule("categorical")(torch.tensor([0.0, 2.0, 1.0]))
        (tensor(1), tensor([0., 2., 1.]), tensor([2.]))
    """

    def __init__(
        self,
        action_space: str | None = None,
        action_value_key: NestedKey | None = None,
        action_mask_key: NestedKey | None = None,
        out_keys: Sequence[NestedKey] | None = None,
        var_nums: int | Sequence[int] | None = None,
        spec: Any = None,
        safe: bool = False,
        strict_shape: bool | Literal["auto"] | None = True,
    ) -> None:
        super().__init__()
        if action_space is None and spec is None:
            raise ValueError("Neither action_space nor spec was defined. The action space cannot be inferred.")
        if action_space is not None and not isinstance(action_space, str):
            raise TypeError("Using specs in action_space is deprecated. Pass it as spec.")
        if safe and spec is None:
            raise RuntimeError("safe=True needs the spec of the action, got spec=None.")
        self.action_space = find_action_space(spec if action_space is None else action_space)
        if spec is not None and find_action_space(spec) != self.action_space:
            raise ValueError(
                "The action spec and the action space do not match:"
                f" got action_space={self.action_space} and spec={spec}."
            )
        if self.action_space not in _GREEDY_SPACES:
            raise ValueError(f"action_space must be one of {list(_GREEDY_SPACES)}, got {self.action_space}")
        self.action_value_key: NestedKey = "action_value" if action_value_key is None else action_value_key
        self.action_mask_key, self.var_nums, self.spec = action_mask_key, var_nums, spec
        self.safe, self.strict_shape = safe, strict_shape
        self.in_keys = [self.action_value_key] + ([] if action_mask_key is None else [action_mask_key])
        out_keys = ["action", self.action_value_key, "chosen_action_value"] if out_keys is None else list(out_keys)
        if self.action_value_key not in out_keys:
            raise RuntimeError(
                f"Expected the action-value key to be '{self.action_value_key}' but got {out_keys[1]} instead."
            )
        self.out_keys = out_keys

    @dispatch(auto_batch_size=False)  # type: ignore[untyped-decorator]
    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write action, action values and chosen action value.

        Args:
            tensordict: Holds the action values ``[*B, A]`` and, if there is a mask key, the mask ``[*B, A]`` bool.

        Returns:
            The same tensordict.

        Raises:
            KeyError: If an entry is missing.
            RuntimeError: If the action does not have the shape of the spec.
        """
        value, mask = tensordict.get(self.action_value_key, None), None
        if value is None:
            raise KeyError(f"Action value key {self.action_value_key} not found in {tensordict}.")
        if self.action_mask_key is not None:
            mask = tensordict.get(self.action_mask_key, None)
            if mask is None:
                raise KeyError(f"Action mask key {self.action_mask_key} not found in {tensordict}.")
        action = greedy_action(value, mask, self.action_space, self.var_nums)
        chosen = value_of_action(value, action, self.action_space)
        if mask is not None:
            value = value.masked_fill(~mask, torch.finfo(value.dtype).min)
        action = self._in_spec(action, value.shape[:-1])
        tensordict.update(dict(zip(self.out_keys, (action, value, chosen), strict=True)))
        return tensordict

    def _in_spec(self, action: Tensor, batch: Size) -> Tensor:
        leaf, parent_dims = self.spec, 0
        if type(leaf).__name__ == "Composite":
            key = unravel_key(self.out_keys[0])
            parent_dims = len((leaf[key[:-1]] if isinstance(key, tuple) else leaf).shape)
            leaf = leaf.get(key, None)
        if leaf is None or self.strict_shape is False:
            return action
        expected = Size([*batch, *leaf.shape[parent_dims:]])
        if action.shape == expected:
            return action
        if self.strict_shape == "auto" and action.numel() == expected.numel():
            return action.reshape(expected)
        raise RuntimeError(
            f"Action shape {action.shape} does not match expected shape {expected}"
            f" (per-sample spec shape: {leaf.shape[parent_dims:]})."
            " Set strict_shape='auto' to attempt automatic reshaping."
        )
