"""What a loss reads of a batch, its shapes checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from tensordict import NestedKey, TensorDictBase, unravel_key
from torch import Size, Tensor

from qmix_lightning.actors.action_spaces import component_sizes
from qmix_lightning.functional.masks import without_padding

Memory = Literal["none", "trajectory", "row"]
"""Over what networks run in one go: nothing, so that steps may come in any order; trajectories; rows of a batch."""


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
        needs_mask: Whether they must be there.
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
    needs_mask: bool

    def legal(self, entries: TensorDictBase, keep: Tensor | None) -> Tensor | None:
        """Which actions are legal, ``[*B, N, A]`` bool, all of them on padding."""
        if self.action_mask is None:
            return None
        legal = entries.get(self.action_mask, None)
        if legal is None and self.needs_mask:
            raise KeyError(
                f"Action mask key {self.action_mask} not found in {sorted(map(str, entries.keys(True, True)))}"
                f"{'' if entries is self.entries else ', the next step'}. Name your own with set_keys(action_mask=...)."
            )
        return None if legal is None else without_padding(legal, keep, fill=True)

    def time_dim(self, made: int | None, memory: Memory) -> int | None:
        """Which dimension of ``[*B]`` is time.

        Args:
            made: What the estimator was made with.
            memory: Over what the networks run, which then is the last dimension.

        Returns:
            The one that networks run over, else the one called "time", else None.

        Raises:
            ValueError: If networks run over a dimension that is not time.
        """
        names, dims = self.entries.names, len(self.shape)
        named = names.index("time") if "time" in names else None
        if memory == "none":
            return named
        said = [dim for dim in (named, made) if dim is not None] if dims else []
        if not dims or any(dim % dims != dims - 1 for dim in said):
            raise ValueError(
                f"Expected a batch [*B, T] with time last, over which the networks run, got {list(self.shape)}"
                + (f" with time at {said[0]}. Transpose the batch." if said else ". Keep trajectories whole.")
            )
        if dims == 1 and not said and memory == "trajectory":
            raise ValueError(
                f"A recurrent local network expected trajectories [*B, T], but {list(self.shape)} may be single steps"
                " in any order. Give [1, T] (batch.unsqueeze(0)), or say that it is time: batch.names = ['time']."
            )
        return dims - 1

    def ended_before(self, is_init: NestedKey) -> Batch:
        """Steps ``[*B, T]`` of which those before a trajectory's first one are done."""
        first = found(self.entries, is_init).flatten(len(self.shape)).any(-1, keepdim=True)
        done = self.done.clone()
        done[..., :-1, :] |= first[..., 1:, :]
        return replace(self, done=done)

    def without_last(self) -> Batch:
        """Steps ``[B, T]`` of ``[B, T+1]``, for all but what the networks read."""

        def cut(entry: Tensor | None) -> Any:
            return entry if entry is None or entry.shape[1] == 1 else entry[:, :-1]

        names = ("action", "reward", "terminated", "done", "mask", "weight", "steps", "groups")
        return replace(self, **{name: cut(getattr(self, name)) for name in names})


def read_batch(
    tensordict: TensorDictBase,
    keys: Any,
    *,
    action_mask: NestedKey | None,
    needs_mask: bool,
    group: NestedKey | None,
) -> Batch:
    """Find what a loss reads and refuse what has another shape than it should.

    Args:
        tensordict: Holds it.
        keys: Of the loss.
        action_mask: Where the legal actions of a step are; None makes all legal.
        needs_mask: Whether they must be there.
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
                f" {mask.dtype}. It is true where a step counts; cast it with .bool()."
            )
    return Batch(
        tensordict, shape, found(tensordict, keys.action), reward, terminated, done, mask,
        None if keys.priority_weight is None else _weight(found(tensordict, keys.priority_weight), reward.shape),
        tensordict.get("steps_to_next_obs", None),
        None if group is None else found(tensordict, group).reshape(reward.shape),
        action_mask, needs_mask,
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


def refuse_negative_weights(batch: Batch) -> None:
    """Refuse importance weights below 0.

    Raises:
        ValueError: If there is one.
    """
    if batch.weight is not None and (batch.weight < 0).any():
        raise ValueError(
            f"Expected importance weights of at least 0, got {float(batch.weight.min())}. They are what a prioritised"
            " buffer hands out beside a batch, not its priorities' logarithms or errors."
        )


def refuse_misplaced_steps(batch: Batch, *, stored_once: bool) -> None:
    """Refuse consecutive steps of which the next one is another than the batch says.

    Args:
        batch: Consecutive steps.
        stored_once: Whether they do not hold their own next step.

    Raises:
        ValueError: If rewards were summed over several steps, or a trajectory that was cut off inside a row is followed
            by another.
    """
    if batch.steps is not None and (batch.steps != 1).any():
        raise ValueError(
            "Expected steps_to_next_obs to be 1 where networks run over consecutive steps, got"
            f" {int(batch.steps.max())}. Rewards summed over several steps need layout='transition' and a local network"
            " without memory; TDLambda looks ahead without summing."
        )
    if stored_once:
        cut, played = (batch.done & ~batch.terminated)[:, :-1], torch.ones_like(batch.done)
        played[:, -1] = False
        played = played if batch.mask is None else batch.mask
        if (cut & played[:, :-1] & played[:, 1:]).any():
            raise ValueError(
                "Expected a trajectory that ran out of time inside a row to be followed by the step it ended in, with a"
                " false mask, got a step of another trajectory, from which it would bootstrap. Add that step, give each"
                " trajectory a row of its own, or use layout='transition'."
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


def write_error(tensordict: TensorDictBase, key: NestedKey, error: Tensor) -> None:
    """Write the error of each step into a batch; what is locked, as memory-mapped data are, is written over."""
    write = tensordict.set_ if tensordict.is_locked and key in tensordict else tensordict.set
    write(key, error)


def _weight(weight: Tensor, shape: Size) -> Tensor:
    came = weight.shape
    weight = weight.reshape(*came, *[1] * (len(shape) - len(came)))
    if weight.ndim != len(shape) or any(w not in (1, s) for w, s in zip(weight.shape, shape, strict=True)):
        raise ValueError(
            f"Expected a priority_weight for each step {tuple(shape)}, or one for each row, got {tuple(came)}."
        )
    return weight
