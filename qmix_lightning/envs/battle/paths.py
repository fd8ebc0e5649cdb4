"""Ways around walls: where to walk first to get anywhere else.

A way around walls turns at their corners (Lozano-Pérez and Wesley, 1979). For every pair of cells the table holds the
first corner on the shortest way between them, or says that one can walk straight there.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qmix_lightning.envs.battle.compiling import SOURCES, inlined, kernel
from qmix_lightning.envs.battle.terrain import BLOCKED, fits

STRAIGHT = -1
"""Nothing is in the way."""

CLEARANCE = 0.45
"""Cells that a way keeps from walls, a little less than half of one; a larger body slides past corners."""

_GRAIN = 0.1
_FAR = 1e9


def waypoints_of(ground: NDArray[np.uint8]) -> NDArray[np.int16]:
    """The table of ways over this ground.

    Args:
        ground: ``[X, Y]`` cells; see :func:`~qmix_lightning.envs.battle.terrain.ground_of`.

    Returns:
        ``[X Y, X Y]``: number ``x Y + y`` of the cell whose middle to walk to on the way from one cell to another, or
        :data:`STRAIGHT`. From and to a cell that cannot be walked on ways lead as from and to the nearest one that can,
        and if there is no way at all, to the corner nearest to it. ``[0, 0]`` if every way is straight.
    """
    walkable = np.argwhere(ground != BLOCKED)
    low, high = walkable.min(axis=0), walkable.max(axis=0)
    if len(walkable) == np.prod(high - low + 1):  # a rectangle, in which nothing can be in the way
        return np.zeros((0, 0), dtype=np.int16)
    corners = _corners(ground)
    clear = np.zeros((ground.size, ground.size), dtype=np.bool_)
    see(ground, clear)
    table = np.full((ground.size, ground.size), STRAIGHT, dtype=np.int16)
    route(ground, clear, corners, _between(corners, clear, ground.shape[1]), _stand(ground), table)
    return table


def _corners(ground: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Cells diagonally before a convex corner of a wall, ``[C]``."""
    walkable = np.pad(ground != BLOCKED, 1)
    x, y = np.nonzero(walkable)
    turns = np.zeros(len(x), dtype=bool)
    for dx, dy in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        turns |= ~walkable[x + dx, y + dy] & walkable[x + dx, y] & walkable[x, y + dy]
    cells: NDArray[np.int64] = ((x - 1) * ground.shape[1] + y - 1)[turns]
    return cells


def _between(corners: NDArray[np.int64], clear: NDArray[np.bool_], height: int) -> NDArray[np.float64]:
    """Lengths of the shortest ways between corners, ``[C, C]`` (Floyd and Warshall)."""
    place = np.stack([corners // height, corners % height], -1)
    straight = np.linalg.norm(place[:, None] - place[None], axis=-1)
    lengths = np.where(clear[np.ix_(corners, corners)], straight, _FAR)
    for middle in range(len(corners)):
        lengths = np.minimum(lengths, lengths[:, middle, None] + lengths[None, middle])
    return lengths


def _stand(ground: NDArray[np.uint8]) -> NDArray[np.int64]:
    """For every cell the nearest one that can be walked on, ``[X Y]``."""
    cells = np.stack(np.unravel_index(np.arange(ground.size), ground.shape), -1)
    walkable = np.flatnonzero(ground.ravel() != BLOCKED)
    apart = ((cells[:, None] - cells[walkable][None]) ** 2).sum(-1)
    nearest: NDArray[np.int64] = walkable[apart.argmin(1)]
    return nearest


@kernel
def see(ground: Any, clear: Any, _: int = SOURCES) -> None:
    """Tell for every pair of cells whether one can walk straight from the middle of one to that of the other."""
    height = ground.shape[1]
    for a in range(ground.size):
        ax, ay = a // height + 0.5, a % height + 0.5
        for b in range(a, ground.size):
            bx, by = b // height + 0.5, b % height + 0.5
            far = math.sqrt((bx - ax) ** 2 + (by - ay) ** 2)
            steps = int(far / _GRAIN) + 1
            free = True
            for step in range(steps + 1):
                share = step / steps
                if not fits(ground, ax + share * (bx - ax), ay + share * (by - ay), CLEARANCE):
                    free = False
                    break
            clear[a, b] = clear[b, a] = free


@kernel
def route(ground: Any, clear: Any, corners: Any, between: Any, stand: Any, table: Any, _: int = SOURCES) -> None:
    """Fill the table of ways."""
    height, n_corners = ground.shape[1], corners.shape[0]
    for start in range(ground.size):
        a = stand[start]
        for goal in range(ground.size):
            b = stand[goal]
            if a == b or (clear[a, b] and b == goal):
                continue
            first = _first_corner(clear, corners, between, height, a, b) if not clear[a, b] else b
            if first < 0:
                nearest = _FAR
                for c in range(n_corners):  # the nearest corner to the goal on this side
                    if clear[a, corners[c]] or _first_corner(clear, corners, between, height, a, corners[c]) >= 0:
                        apart = _apart(corners[c], goal, height)
                        if apart < nearest:
                            nearest, first = apart, corners[c]
                if first >= 0 and not clear[a, first]:
                    first = _first_corner(clear, corners, between, height, a, first)
            table[start, goal] = first


@inlined
def _apart(a: int, b: int, height: int) -> float:
    dx, dy = a // height - b // height, a % height - b % height
    return math.sqrt(dx * dx + dy * dy)


@inlined
def _first_corner(clear: Any, corners: Any, between: Any, height: int, a: int, b: int) -> int:
    """The first corner on the shortest way from cell ``a`` to cell ``b``, -1 if there is no way."""
    best, first = _FAR, -1
    for c in range(corners.shape[0]):
        if corners[c] != a and clear[a, corners[c]]:
            before = _apart(a, corners[c], height)
            for d in range(corners.shape[0]):
                length = before + between[c, d]
                if length < best and clear[corners[d], b]:
                    length += _apart(corners[d], b, height)
                    if length < best:
                        best, first = length, corners[c]
    return first


@inlined
def first_step(ground: Any, waypoints: Any, x: float, y: float, goal_x: float, goal_y: float) -> tuple[float, float]:
    """The place to walk straight to, on the way from (x, y) to the goal."""
    if waypoints.shape[0] == 0:
        return goal_x, goal_y
    width, height = ground.shape[0], ground.shape[1]
    start = min(max(int(x), 0), width - 1) * height + min(max(int(y), 0), height - 1)
    goal = min(max(int(goal_x), 0), width - 1) * height + min(max(int(goal_y), 0), height - 1)
    via = waypoints[start, goal]
    if via < 0:
        return goal_x, goal_y
    return via // height + 0.5, via % height + 0.5
