"""What a loss reads of a batch, its shapes checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from tensordict import NestedKey, TensorDictBase, unravel_key
from torch import Size, Tensor

from qmix_lightning.actors.action_spaces import component_sizes
from qmix_lightning.functional.masks import without_padding


@dataclass(frozen=True)
class Batch:
    """The steps that a loss is computed of.

    Args:
        entries: Where they are.
        shape: Their leading shape ``[*B]``, which the tensordict may know only in part.
        action: ``[*B, N]`` or in another format.
        reward: ``[*B, 1]``.
        terminated: ``[*B, 1]`` bool.
        done: ``[*B, 1]`` bool.
        mask: ``[*B, 1]`` bool, False on padding; None means no padding.
        weight: How much each step counts, of a shape that can be broadcast to ``[*B, 1]``; None means all alike.
        steps: Over how many steps each reward was summed, ``[*B, 1]``; None means one.
        groups: To which group each step belongs, ``[*B, 1]``; None means one group.
        action_mask: Where the legal actions of a step are; None makes all legal.
    """

    entries: TensorDictBase
    shape: Size
    action: Tensor
    reward: Tensor
    terminated: Tensor
    done: Tensor
    mask: Tensor | None
    weight: Tensor | None
    steps: Tensor | None
    groups: Tensor | None
    action_mask: NestedKey | None

    def legal(self, entries: TensorDictBase, keep: Tensor | None) -> Tensor | None:
        """Which actions are legal, ``[*B, N, A]`` bool, all of them on padding."""
        legal = None if self.action_mask is None else entries.get(self.action_mask, None)
        return None if legal is None else without_padding(legal, keep, fill=True)

    def ended_before(self, is_init: NestedKey, time_dim: int | None) -> Batch:
        """Steps ``[*B, T]`` of which those before a trajectory's first one are done.

        Args:
            is_init: Where the batch says that a step is its trajectory's first.
            time_dim: Which dimension is called time; None if none is.

        Raises:
            ValueError: If there is no dimension of time, or it is not the last.
        """
        if not self.shape or time_dim not in (None, len(self.shape) - 1):
            raise ValueError(
                f"A recurrent local network expected a batch [*B, T] with time last, got {list(self.shape)}"
                f" with time at {time_dim}. Transpose the batch, and keep trajectories whole."
            )
        first = found(self.entries, is_init).reshape(*self.shape, -1).any(-1, keepdim=True)
        done = self.done.clone()
        done[..., :-1, :] |= first[..., 1:, :]
        return replace(self, done=done)

    def without_last(self) -> Batch:
        """Steps ``[B, T]`` of ``[B, T+1]``, for all but what the networks read."""

        def cut(entry: Tensor | None) -> Any:
            return entry if entry is None or entry.shape[1] == 1 else entry[:, :-1]

        names = ("action", "reward", "terminated", "done", "mask", "weight", "steps", "groups")
        return replace(self, **{name: cut(getattr(self, name)) for name in names})


def read_batch(tensordict: TensorDictBase, keys: Any, action_mask: NestedKey | None, group: NestedKey | None) -> Batch:
    """Find what a loss reads and refuse what has another shape than it should.

    Args:
        tensordict: Holds it.
        keys: Of the loss.
        action_mask: Where the legal actions of a step are; None makes all legal.
        group: Where the group of each step is; None means one group.

    Raises:
        KeyError: If an entry is missing.
        RuntimeError: If reward, done or terminated are not ``[*B, 1]``.
        TypeError: If done, terminated or a mask is not bool.
        ValueError: If a mask or a weight has another shape.
    """
    outcome = found(tensordict, "next")
    reward, terminated = outcome.get(keys.reward, None), outcome.get(keys.terminated, None)
    done = outcome.get(keys.done, terminated)
    if reward is None or done is None:
        found(tensordict, unravel_key(("next", keys.reward if reward is None else keys.done)))
    terminated = done if terminated is None else terminated
    known, shape = tensordict.shape, reward.shape[:-1]
    if known != shape[: len(known)] or not reward.shape == done.shape == terminated.shape:
        raise RuntimeError(_unequal((*known, 1), reward, done, terminated))
    if done.dtype != torch.bool or terminated.dtype != torch.bool:
        raise TypeError(
            f"Expected done and terminated to be bool, got {done.dtype} and {terminated.dtype}. Cast them with .bool()."
        )
    mask = None if keys.mask is None else found(tensordict, keys.mask)
    if mask is not None:
        mask = mask.unsqueeze(-1) if mask.shape == shape else mask
        if mask.shape != reward.shape or mask.dtype != torch.bool:
            raise ValueError(
                f"Expected a mask of shape {tuple(reward.shape)} and type bool, got {tuple(mask.shape)} and"
                f" {mask.dtype}."
            )
    return Batch(
        tensordict, shape, found(tensordict, keys.action), reward, terminated, done, mask,
        None if keys.priority_weight is None else _weight(found(tensordict, keys.priority_weight), reward.shape),
        tensordict.get("steps_to_next_obs", None),
        None if group is None else found(tensordict, group).reshape(reward.shape),
        action_mask,
    )  # fmt: skip


def unequal_shapes(batch: Batch, value: Size) -> str:
    """What to say if the rewards of a batch have not the shape ``[*B, 1]`` of its values."""
    return _unequal(tuple(value), batch.reward, batch.done, batch.terminated)


def _unequal(expected: tuple[int, ...], reward: Tensor, done: Tensor, terminated: Tensor) -> str:
    return (
        "All input tensors (value, reward and done states) must share a unique shape. Expected reward, done and"
        f" terminated to be {expected}, got reward {tuple(reward.shape)}, done {tuple(done.shape)} and terminated"
        f" {tuple(terminated.shape)}. A reward for each agent must be summed or averaged over the agents first."
    )


def refuse_malformed_actions(batch: Batch, action_space: str, var_nums: int | Sequence[int] | None) -> None:
    """Refuse one-hot actions that have no 1 or several.

    Args:
        batch: The steps.
        action_space: Format of their actions; categorical ones cannot be malformed.
        var_nums: Number of actions of each component of a ``"mult_one_hot"`` action; None leaves those unchecked.

    Raises:
        ValueError: If an action is malformed.
    """
    if action_space == "categorical" or (action_space == "mult_one_hot" and var_nums is None):
        return
    hot = batch.action
    parts = torch.split(hot, component_sizes(hot.shape[-1], action_space, var_nums), -1)
    one = torch.stack([((part != 0).sum(-1) == 1) & (part.sum(-1) == 1) for part in parts]).all(0)
    one = one if batch.mask is None else one | ~batch.mask
    if not one.all():
        raise ValueError(
            f"Expected {action_space} actions, with one 1 among zeros for each choice, got {hot[~one][0].tolist()}."
            " Actions of another format need another action_space."
        )


def found(tensordict: TensorDictBase, key: NestedKey) -> Any:
    """An entry that must be there.

    Raises:
        KeyError: If it is not.
    """
    entry = tensordict.get(key, None)
    if entry is None:
        there = ", ".join(sorted(map(str, tensordict.keys(True, True))))
        raise KeyError(f"The loss expected the key {key!r}, found {there}. Name your own keys with set_keys.")
    return entry


def _weight(weight: Tensor, shape: Size) -> Tensor:
    came = weight.shape
    weight = weight.reshape(*came, *[1] * (len(shape) - len(came)))
    if weight.ndim != len(shape) or any(w not in (1, s) for w, s in zip(weight.shape, shape, strict=True)):
        raise ValueError(
            f"Expected a priority_weight for each step {tuple(shape)}, or one for each row, got {tuple(came)}."
        )
    return weight
