"""What happens in a recording: who faces where, who died when, and every shot."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from qmix_lightning.envs.battle.state import NOBODY

SHOT: Final = np.dtype(
    [
        ("start", np.int32),  # loop in which it leaves
        ("end", np.int32),  # loop in which it hits; the same one, unless it is a missile
        ("shooter", np.int16),
        ("target", np.int16),
    ]
)
"""One attack that was not called off."""


def shots_of(frames: NDArray[Any]) -> NDArray[Any]:
    """Find the shots.

    An attack that winds up is a shot as soon as its wind-up is over and the weapon cools down: one that is called off
    costs no cooldown. A missile leaves when its flight begins, and hits when it is over.

    Args:
        frames: ``[F, U]`` :data:`~qmix_lightning.envs.battle.viewer.recording.SHOWN`, of consecutive loops.

    Returns:
        ``[K]`` :data:`SHOT`, by their starts.
    """
    before, after = frames[:-1], frames[1:]
    launched = (after["flight"] > 0) & (after["flight"] > before["flight"])
    hit = (before["wind_up"] > 0) & (after["wind_up"] <= 0) & (after["cooldown"] > 0)
    hit &= (before["target"] != NOBODY) & ~launched
    # A missile that another follows at once has landed before.
    over = (after["flight"] <= 0) | launched
    shots = []
    for loop, shooter in np.argwhere(hit | launched).tolist():
        start = end = loop + 1
        target = before["target"][loop, shooter]
        if launched[loop, shooter]:
            target = after["flight_target"][loop, shooter]
            later = np.flatnonzero(over[start:, shooter])
            end = start + 1 + int(later[0]) if len(later) else len(frames)
        shots.append((start, end, shooter, target))
    return np.array(shots, dtype=SHOT)


def deaths_of(frames: NDArray[Any]) -> NDArray[np.int64]:
    """Find the loop in which each unit died.

    Args:
        frames: ``[F, U]`` :data:`~qmix_lightning.envs.battle.viewer.recording.SHOWN`.

    Returns:
        ``[U]``, more than all loops of those that live.

    Example:
        >>> frames = np.zeros((3, 2), [("health", np.float32)])
        >>> frames["health"] = [[9, 9], [9, 0], [9, 0]]
        >>> deaths_of(frames).tolist() == [np.iinfo(np.int64).max, 1]
        True
    """
    dead = frames["health"] <= 0
    never = np.iinfo(np.int64).max
    deaths: NDArray[np.int64] = np.where(dead.any(0), dead.argmax(0), never)
    return deaths


def facing_of(frames: NDArray[Any], n_agents: int) -> NDArray[np.float32]:
    """Find where units face: towards their target, else where they last went, at first towards the other team.

    Args:
        frames: ``[F, U]`` :data:`~qmix_lightning.envs.battle.viewer.recording.SHOWN`.
        n_agents: How many of them are agents, the first ones.

    Returns:
        ``[F, U]``, radians from the east towards the north.
    """
    x, y = frames["x"], frames["y"]
    ally = np.arange(frames.shape[1]) < n_agents
    towards = np.where(ally, x[0, ~ally].mean(), x[0, ally].mean()), np.where(ally, y[0, ~ally].mean(), y[0, ally].mean())
    dx, dy = np.diff(x, axis=0, prepend=x[:1]), np.diff(y, axis=0, prepend=y[:1])
    target = frames["target"]
    aims = target != NOBODY
    aimed = np.where(aims, target, 0)
    dx = np.where(aims, np.take_along_axis(x, aimed.astype(np.int64), 1) - x, dx)
    dy = np.where(aims, np.take_along_axis(y, aimed.astype(np.int64), 1) - y, dy)
    dx[0], dy[0] = towards[0] - x[0], towards[1] - y[0]
    known = np.hypot(dx, dy) > 1e-2
    known[0] = True
    last = np.maximum.accumulate(np.where(known, np.arange(len(frames))[:, None], 0), axis=0)
    facing: NDArray[np.float32] = np.take_along_axis(np.arctan2(dy, dx), last, 0).astype(np.float32)
    return facing
