"""From the values of actions to the value of an action."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch._C._functorch import is_batchedtensor

_BITS: Final = {
    torch.float64: (torch.int64, -(2**52)),
    torch.float32: (torch.int32, -(2**23)),
    torch.float16: (torch.int16, -(2**10)),
    torch.bfloat16: (torch.int16, -(2**7)),
}
"""Integers as wide as each kind of float, and minus infinity read as one."""
_LARGE: Final = 2**13
"""From here on masking by bits is faster than torch.where, whose branches a processor cannot foresee: a fifth of the
time for 1920 steps of 8 agents with 14 actions, of which 6 in 10 are legal."""


def legal_argmax(value: Tensor, mask: Tensor | None = None, *, check: bool | None = None) -> Tensor:
    """The most valuable legal action, the first of equals.

    Illegal actions are excluded here and in :func:`legal_max` alone: neither passes a stand-in for "minus infinity" on,
    unless no action is legal and nobody checks.

    Args:
        value: ``[..., A]``; what it holds for illegal actions, even NaN, does not matter.
        mask: ``[..., A]`` bool, True where an action is legal; None makes all legal.
        check: Whether to refuse a row without a legal action. None does so for eager CPU tensors only, since the answer
            would make the host wait for a GPU and break a compiled graph.

    Returns:
        ``[...]`` int64.

    Raises:
        ValueError: If the mask is not bool, has another shape, or leaves a row without a legal action.

    Example:
        >>> legal_argmax(torch.tensor([1.0, 5.0, 3.0]), torch.tensor([True, False, True]))
        tensor(2)
    """
    if mask is None:
        return value.argmax(-1)
    # As fast as argmax, and the value tells whether there was a legal action.
    best, action = _legal_values(value.detach(), mask).max(-1)
    _refuse_no_legal_action(best, mask, check)
    return action


def legal_max(value: Tensor, mask: Tensor | None = None, *, check: bool | None = None, keepdim: bool = False) -> Tensor:
    """The value of the most valuable legal action: what :func:`legal_argmax` picks, in two thirds of the time.

    Args:
        value: ``[..., A]``.
        mask: ``[..., A]`` bool, as in :func:`legal_argmax`.
        check: As in :func:`legal_argmax`.
        keepdim: Whether the last dimension stays, with size 1.

    Returns:
        ``[...]``, or ``[..., 1]``.

    Raises:
        ValueError: If the mask is not bool, has another shape, or leaves a row without a legal action.

    Example:
        >>> legal_max(torch.tensor([1.0, 5.0, 3.0]), torch.tensor([True, False, True]))
        tensor(3.)
    """
    if mask is None:
        return value.amax(-1, keepdim)
    best = _legal_values(value, mask).amax(-1, keepdim)
    _refuse_no_legal_action(best, mask, check)
    return best


def _legal_values(value: Tensor, mask: Tensor) -> Tensor:
    if mask.dtype != torch.bool or mask.shape != value.shape:
        raise ValueError(
            f"An action mask must be bool and of the shape {tuple(value.shape)} of the action values, got {mask.dtype}"
            f" of shape {tuple(mask.shape)}. Cast it with .bool(), or expand it to all agents and actions."
        )
    large = value.device.type == "cpu" and value.numel() >= _LARGE and value.dtype in _BITS
    tracked = value.requires_grad and torch.is_grad_enabled()
    if not large or tracked or torch.compiler.is_compiling() or is_batchedtensor(mask):
        return torch.where(mask, value, -torch.inf)
    integer, infinity = _BITS[value.dtype]
    illegal = mask.view(torch.uint8).to(integer).sub_(1)  # no bit is set where an action is legal, all where it is not
    kept = value.detach().view(integer).bitwise_and(illegal.bitwise_not())
    return kept.bitwise_or_(illegal.bitwise_and_(infinity)).view(value.dtype)


def _refuse_no_legal_action(best: Tensor, mask: Tensor, check: bool | None) -> None:
    if check is None:
        # A graph would break, a GPU would be waited for, and below vmap there is no single answer.
        check = mask.device.type == "cpu" and not torch.compiler.is_compiling() and not is_batchedtensor(mask)
    # Where no action is legal, the best value is minus infinity: a hundredth of the time of looking through the mask.
    if not check or best.numel() == 0 or best.amin().item() > -torch.inf:
        return
    if not (legal := mask.any(-1)).all():
        row = legal.logical_not().nonzero()[0].tolist()
        raise ValueError(
            f"Expected a legal action in every row of the action mask, got none at index {row}. An agent that cannot"
            ' act needs one action ("no-op") that stays legal.'
        )


def chosen_value(value: Tensor, action: Tensor, *, keepdim: bool = False) -> Tensor:
    """The value of one action a row.

    Args:
        value: ``[..., A]``.
        action: ``[...]`` integer in ``0 .. A-1``.
        keepdim: Whether the last dimension stays, with size 1.

    Returns:
        ``[...]``, or ``[..., 1]``.

    Raises:
        ValueError: If the action is no integer, or its shape not that of the values without their last dimension.

    Example:
        >>> chosen_value(torch.tensor([[1.0, 5.0], [2.0, 3.0]]), torch.tensor([1, 0]))
        tensor([5., 2.])
    """
    if action.shape != value.shape[:-1]:
        raise ValueError(
            f"Expected one action for each row of action values, shape {tuple(value.shape[:-1])}, got"
            f" {tuple(action.shape)}. One-hot actions need action_space='one_hot' or .argmax(-1)."
        )
    if action.is_floating_point() or action.dtype == torch.bool:
        raise ValueError(f"Expected actions as integers, indices of action values, got {action.dtype}.")
    chosen = value.gather(-1, action.long().unsqueeze(-1))
    return chosen if keepdim else chosen.squeeze(-1)


def double_q_value(online: Tensor, target: Tensor, mask: Tensor | None = None, *, check: bool | None = None) -> Tensor:
    r"""What the target network thinks of the action that the online network prefers.

    .. math:: Q^-(s, \arg\max_{a\ \text{legal}} Q(s, a))

    Args:
        online: ``[..., A]``.
        target: ``[..., A]``.
        mask: ``[..., A]`` bool, as in :func:`legal_argmax`.
        check: As in :func:`legal_argmax`.

    Returns:
        ``[...]``.

    Example:
        >>> double_q_value(torch.tensor([1.0, 2.0]), torch.tensor([9.0, 7.0]))
        tensor(7.)

    van Hasselt, Guez and Silver (2016), Deep Reinforcement Learning with Double Q-learning, equation 4.
    """
    return chosen_value(target, legal_argmax(online, mask, check=check))
