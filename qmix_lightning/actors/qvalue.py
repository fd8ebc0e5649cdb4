"""The choice of the greedy action at the end of a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from tensordict import NestedKey, TensorDictBase, unravel_key
from tensordict.nn import dispatch
from torch import Size, Tensor

from qmix_lightning.actors.action_spaces import (
    GREEDY_SPACES,
    expand_mask,
    find_action_space,
    greedy_action,
    value_of_action,
)
from qmix_lightning.actors.specified import AbstractSpecified
from qmix_lightning.actors.specs import action_leaf, composite_like, is_composite, is_spec, spec_sizes


class QValueModule(AbstractSpecified):
    r"""Picks the greedy action from the values of all actions; a drop-in for TorchRL's class of this name.

    .. math:: a^* = \arg\max_{a\ \text{legal}} Q(a), \qquad \text{chosen} = Q(a^*)

    the first of equals, in every action space. Masked action values are written back with the smallest number of their
    dtype, as TorchRL does, for whoever reads them. :class:`~qmix_lightning.objectives.qmixer.QMixerLoss` does not: it
    leaves this module out and asks :func:`~qmix_lightning.actors.action_spaces.greedy_action`.

    Args:
        action_space: ``"categorical"``, ``"one-hot"`` or ``"mult-one-hot"``; taken from ``spec`` if None.
        action_value_key: Where the action values are read, ``"action_value"`` if None.
        action_mask_key: Where a bool mask of legal actions is read; None makes all actions legal.
        out_keys: Where action, action values and chosen action value are written, in this order; the second must be
            ``action_value_key``, and the last may be left out.
        var_nums: Number of actions of each component of a ``"mult-one-hot"`` action, one number if all have the same;
            taken from ``spec`` if None.
        spec: A TorchRL spec of the action, or a Composite of such.
        safe: Whether to project what is written into ``spec``, which gives the action its dtype.
        strict_shape: What to do with an action whose shape is not that of the spec: refuse it (True or None), reshape
            it (``"auto"``), or let it pass (False).

    Attributes:
        spec: A TorchRL Composite with an entry for each of the three, None where nothing is known. There is no such
            attribute if no spec was given.

    Raises:
        ValueError: If the action space is missing, unknown, or not that of the spec, ``strict_shape`` is unknown, or
            there are not two or three ``out_keys``.
        RuntimeError: If the second of ``out_keys`` is not ``action_value_key``, ``safe`` has no spec, or the entries of
            a Composite are not ``out_keys``.
        KeyError: If a Composite has no action.
        TypeError: If a spec is passed as the action space, or something else as the spec.

    Example:
        >>> QValueModule("categorical")(torch.tensor([0.0, 2.0, 1.0]))
        (tensor(1), tensor([0., 2., 1.]), tensor([2.]))

    Source:
        Bou et al., "TorchRL: A data-driven decision-making library for PyTorch", 2024.
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
        value: NestedKey = "action_value" if action_value_key is None else action_value_key
        out_keys = ["action", value, "chosen_action_value"] if out_keys is None else list(out_keys)
        if len(out_keys) not in (2, 3):
            raise ValueError(f"Expected two or three out_keys: action, {value!r} and chosen value, got {out_keys}.")
        if unravel_key(out_keys[1]) != unravel_key(value):
            raise RuntimeError(
                f"Expected the action-value key to be '{value}' but got {out_keys[1]} instead. The action values are"
                " written where they were read: make them the second of out_keys."
            )
        if strict_shape not in (True, False, None, "auto"):
            raise ValueError(f"Expected strict_shape to be True, False, None or 'auto', got {strict_shape!r}.")
        leaf = _action_spec(action_space, spec, out_keys[0])
        self.action_space = _agreed(action_space, leaf)
        if var_nums is None and leaf is not None and self.action_space == "mult_one_hot":
            var_nums = spec_sizes(leaf)
        self.action_mask_key, self.var_nums, self.strict_shape = action_mask_key, var_nums, strict_shape
        self.in_keys = [value] if action_mask_key is None else [value, action_mask_key]
        self.out_keys = out_keys
        if spec is not None and not is_composite(spec):
            spec = composite_like(spec, {out_keys[0]: spec})
        self.register_spec(safe=safe, spec=spec)

    @property
    def action_value_key(self) -> NestedKey:
        """Where the action values are read."""
        return self.in_keys[0]

    @dispatch(auto_batch_size=False)  # type: ignore[untyped-decorator]
    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write action, action values and chosen action value.

        Args:
            tensordict: Holds the action values ``[*B, A]`` and, if there is a mask key, the mask ``[*B, A]`` bool,
                whose sizes may be 1.

        Returns:
            The same tensordict.

        Raises:
            KeyError: If an entry is missing.
            ValueError: If the mask is not bool, does not fit, or leaves someone without a legal action.
            RuntimeError: If the action does not have the shape of the spec.
        """
        value, mask = tensordict.get(self.action_value_key, None), None
        if value is None:
            raise KeyError(f"Action value key {self.action_value_key} not found in {tensordict}.")
        if self.action_mask_key is not None:
            mask = tensordict.get(self.action_mask_key, None)
            if mask is None:
                raise KeyError(f"Action mask key {self.action_mask_key} not found in {tensordict}.")
            mask = expand_mask(mask, value.shape)
        action = greedy_action(value, mask, self.action_space, self.var_nums)
        if mask is not None:
            value = torch.where(mask, value, torch.finfo(value.dtype).min)
        chosen = value_of_action(value, action, self.action_space)
        outputs = dict(zip(self.out_keys, (self._in_shape(action, value.shape[:-1]), value, chosen), strict=False))
        if self.safe:
            leaves = {key: self.spec[key] for key in outputs}
            outputs = {key: out if leaves[key] is None else leaves[key].project(out) for key, out in outputs.items()}
        tensordict.update(outputs)
        return tensordict

    def _in_shape(self, action: Tensor, batch: Size) -> Tensor:
        """The action in the shape that the spec gives it."""
        key = unravel_key(self.out_keys[0])
        leaf = None if self._spec is None else self._spec.get(key, None)
        if leaf is None or self.strict_shape is False:
            return action
        parent = self._spec[key[:-1]] if isinstance(key, tuple) else self._spec
        shape = leaf.shape[len(parent.shape) :]
        expected = Size([*batch, *shape])
        if action.shape == expected:
            return action
        if self.strict_shape != "auto":
            raise RuntimeError(
                f"Action shape {action.shape} does not match expected shape {expected} (per-sample spec shape:"
                f" {shape}). Set strict_shape='auto' to attempt automatic reshaping."
            )
        if action.numel() != expected.numel():
            raise RuntimeError(
                f"Cannot reshape action from {action.shape} to {expected}. The spec of the action must have the shape"
                " of one action, and a Composite around it that of the batch."
            )
        return action.reshape(expected)


def _action_spec(action_space: Any, spec: Any, key: NestedKey) -> Any:
    """The spec of the action, if one was given, in its place."""
    if is_spec(action_space):
        raise TypeError("Using specs in action_space is deprecated. Pass it as spec.")
    if spec is not None and not is_spec(spec):
        raise TypeError(f"spec must be a TensorSpec subclass, got {spec!r}. Names such as 'one-hot' are action spaces.")
    if action_space is None and spec is None:
        raise ValueError(
            "Neither action_space nor spec was defined. The action space cannot be inferred. Choose"
            " action_space='categorical' if actions are indices."
        )
    return action_leaf(spec, key)


def _agreed(action_space: str | None, leaf: Any) -> str:
    """The action space that its name and the spec of the action agree on."""
    found = find_action_space(leaf if action_space is None else action_space)
    if leaf is not None and find_action_space(leaf) != found:
        raise ValueError(
            f"The action spec and the action space do not match: got action_space={found} and spec={leaf}. Leave one"
            " of them out."
        )
    if found not in GREEDY_SPACES:
        raise ValueError(f"action_space must be one of {list(GREEDY_SPACES)}, got {found}.")
    return found
