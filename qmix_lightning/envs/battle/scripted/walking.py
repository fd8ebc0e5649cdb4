"""Which way to go, for units that see no farther than they do."""

from __future__ import annotations

import torch
from torch import Tensor

from qmix_lightning.envs.battle.orders import EAST, NO_OP, NORTH, SOUTH, STOP, WEST
from qmix_lightning.envs.battle.scripted.sight import Eyes, Sight

WAYS = torch.tensor([[0.0, 1.0], [0.0, -1.0], [1.0, 0.0], [-1.0, 0.0]])
"""North, south, east and west."""

_BACK = torch.tensor([SOUTH, NORTH, WEST, EAST])

_TURNING_BACK = 0.75
"""What going back where one has just come from counts against it, so that whoever walks into a wall follows it."""

_NEAR_ENOUGH = 2.0
"""Cells from the middle of the map, or from a friend, at which a unit stops that goes there for want of enemies."""


def wait(sight: Sight) -> Tensor:
    """Stop, or what the dead do, ``[B, N]``."""
    return torch.where(sight.alive, STOP, NO_OP)


def go(direction: Tensor, sight: Sight, last_action: Tensor, bonus: Tensor | float = 0.0) -> Tensor:
    """Go north, south, east or west, as near to a direction as the ground allows, without turning back at a wall.

    Args:
        direction: ``[B, N, 2]`` cells east and north, of any length; who has none waits.
        sight: What is seen.
        last_action: ``[B, N]``.
        bonus: ``[B, N, 4]``, what else speaks for going north, south, east or west; 1 outweighs a right angle.

    Returns:
        ``[B, N]`` actions.
    """
    unit = torch.nn.functional.normalize(direction, dim=-1)
    back = last_action[..., None] == _BACK
    worth = (unit @ WAYS.T - _TURNING_BACK * back + bonus).masked_fill(~sight.moves, -torch.inf)
    goes = sight.alive & (unit != 0).any(-1) & sight.moves.any(-1)
    return torch.where(goes, NORTH + worth.argmax(-1), wait(sight))


def hurts(sight: Sight, eyes: Eyes) -> Tensor:
    """Whom each agent's weapon hurts, ``[B, N, M]`` bool, wherever they are."""
    return eyes.damage[sight.kind[..., None], sight.enemy_kind[:, None]] > 0


def to_the_enemy(sight: Sight, eyes: Eyes) -> Tensor:
    """Direction to the nearest enemy in sight; else to the nearest friend who sees one; else to where they start.

    Where the start is random, that is the middle of the map, if one knows where one is.

    Returns:
        ``[B, N, 2]`` cells.
    """
    worthwhile = sight.enemy_seen & hurts(sight, eyes)
    sees = worthwhile.any(-1)
    led = sight.ally_seen & sees[:, None]
    return torch.where(
        sees[..., None],
        _nearest(sight.enemy_at, sight.enemy_far, worthwhile),
        torch.where(led.any(-1)[..., None], _nearest(sight.ally_at, sight.ally_far, led), _to_their_start(sight, eyes)),
    )


def to_the_army(sight: Sight, eyes: Eyes) -> Tensor:
    """Direction to the nearest armed friend in sight that is not near enough; else as :func:`to_the_enemy`."""
    armed = sight.ally_seen & (eyes.types["armed"][sight.kind] > 0)[:, None]
    friend = _nearest(sight.ally_at, sight.ally_far, armed)
    friend = friend * (friend.norm(dim=-1, keepdim=True) > _NEAR_ENOUGH)
    return torch.where(armed.any(-1)[..., None], friend, _to_their_start(sight, eyes))


def _to_their_start(sight: Sight, eyes: Eyes) -> Tensor:
    shape = (*sight.alive.shape, 2)
    if eyes.heading is not None:
        return eyes.heading.expand(shape)
    if sight.place is None:
        return torch.zeros(shape)
    to_middle = eyes.middle - sight.place
    far: Tensor = torch.linalg.vector_norm(to_middle, dim=-1, keepdim=True) > _NEAR_ENOUGH
    return to_middle * far


def _nearest(at: Tensor, far: Tensor, among: Tensor) -> Tensor:
    """Where the nearest is, ``[B, N, 2]``."""
    which = far.masked_fill(~among, torch.inf).argmin(-1)
    return at.gather(2, which[..., None, None].expand(*which.shape, 1, 2))[:, :, 0]
