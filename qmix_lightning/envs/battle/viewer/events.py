"""What happens in a recording: who faces where, who died when, who heals, and every attack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from qmix_lightning.envs.battle.state import NOBODY
from qmix_lightning.envs.battle.viewer.recording import Kind

SHOT: Final = np.dtype(
    [
        ("start", np.int32),  # loop in which it is let go
        ("end", np.int32),  # loop in which it hits; the same one, unless it is a missile or a beam
        ("shooter", np.int16),
        ("target", np.int16),
    ]
)
"""One attack that was not called off."""


def shots_of(frames: NDArray[Any], kinds: Sequence[Kind]) -> NDArray[Any]:
    """Find the attacks.

    An attack is let go in the loop in which its wind-up is over, if it has one, and the weapon cools down; one that is
    called off costs no cooldown. What flies then hits when its flight is over; of two blades the second does, if the
    unit lives. Who bursts does not shoot.

    Args:
        frames: ``[F, U]`` :data:`~qmix_lightning.envs.battle.viewer.recording.SHOWN`, of consecutive loops.
        kinds: The types of the units.

    Returns:
        ``[K]`` :data:`SHOT`, by their starts.
    """
    before, after = frames[:-1], frames[1:]
    kind = after["kind"]
    dies, waits = after["health"] <= 0, after["wind_up"] > 0
    # Who dies loses wind-up, but has done before what this loop was for.
    sudden = ~np.array([each.winds_up for each in kinds])[kind] | ~dies
    let_go = (after["cooldown"] > before["cooldown"]) & ~waits & sudden
    let_go |= (before["wind_up"] > 0) & ~waits & (after["cooldown"] > 0) & (~dies | (before["wind_up"] <= 1))
    let_go &= np.array([each.burst == 0 for each in kinds])[kind]
    # A new flight begins where the last one has ended, and may do so in the same loop.
    launched = (after["flight"] > 0) & (after["flight"] > before["flight"])
    over = (after["flight"] <= 0) | launched
    shots = []
    for at, shooter in np.argwhere(let_go).tolist():
        start = end = at + 1
        victim = int(after["flight_target"][at, shooter])
        if launched[at, shooter]:
            later = np.flatnonzero(over[start:, shooter])
            end = start + 1 + int(later[0]) if len(later) else len(frames)
            if kinds[kind[at, shooter]].attack == "blade":
                if frames["health"][end - 1, shooter] > 0:
                    shots.append((end, end, shooter, victim))
                end = start
        shots.append((start, end, shooter, victim))
    return np.sort(np.array(shots, dtype=SHOT), order="start", kind="stable")


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
    deaths: NDArray[np.int64] = np.where(dead.any(0), dead.argmax(0), np.iinfo(np.int64).max)
    return deaths


def healing_of(frames: NDArray[Any]) -> NDArray[np.bool_]:
    """Find who heals when: whoever spends energy on a target.

    Args:
        frames: ``[F, U]`` :data:`~qmix_lightning.envs.battle.viewer.recording.SHOWN`.

    Returns:
        ``[F, U]``, whether they do so in the loop that ends there.
    """
    spends = np.diff(frames["energy"], axis=0, prepend=frames["energy"][:1]) < 0
    healing: NDArray[np.bool_] = spends & (frames["target"] != NOBODY)
    return healing


def facing_of(frames: NDArray[Any], n_agents: int) -> NDArray[np.float32]:
    """Find where units face: towards their target, else where they last went, at first towards the other team.

    Args:
        frames: ``[F, U]`` :data:`~qmix_lightning.envs.battle.viewer.recording.SHOWN`.
        n_agents: How many of them are agents, the first ones.

    Returns:
        ``[F, U]``, radians from the east towards the north.
    """
    x, y, target = frames["x"], frames["y"], frames["target"].astype(np.int64)
    agent = np.arange(frames.shape[1]) < n_agents
    aims, aim = target != NOBODY, np.where(target != NOBODY, target, 0)
    ways = []
    for place in (x, y):
        walked = np.diff(place, axis=0, prepend=place[:1])
        walked[0] = np.where(agent, place[0, ~agent].mean(), place[0, agent].mean()) - place[0]
        ways.append(np.where(aims, np.take_along_axis(place, aim, 1) - place, walked))
    known = np.hypot(*ways) > 1e-2
    known[0] = True
    last = np.maximum.accumulate(np.where(known, np.arange(len(frames))[:, None], 0), axis=0)
    facing: NDArray[np.float32] = np.take_along_axis(np.arctan2(ways[1], ways[0]), last, 0).astype(np.float32)
    return facing
