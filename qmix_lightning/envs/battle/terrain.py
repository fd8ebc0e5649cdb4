"""The ground: which cells can be walked on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qmix_lightning.envs.battle.compiling import inlined, shared
from qmix_lightning.envs.battle.scenario import Scenario

BLOCKED, WALKABLE, OPEN = 0, 1, 2
"""Kinds of cells: an open one can be walked on and so can the eight around it."""


def ground_of(scenario: Scenario) -> NDArray[np.uint8]:
    """The scenario's cells as ``[x, y]`` uint8, each BLOCKED, WALKABLE or OPEN.

    Example:
        >>> from qmix_lightning.envs.battle.scenario import load_scenario
        >>> ground_of(load_scenario("3m"))[16, 6:11].tolist()
        [0, 0, 1, 2, 2]
    """
    walkable = np.array(scenario.walkable, dtype=np.bool_).T
    around = np.lib.stride_tricks.sliding_window_view(np.pad(walkable, 1), (3, 3))
    return walkable.astype(np.uint8) + around.all(axis=(2, 3)).astype(np.uint8)


@shared
def cell_is_walkable(ground: Any, x: int, y: int) -> bool:
    """Whether cell (x, y) lies on the map and can be walked on."""
    return bool(0 <= x < ground.shape[0] and 0 <= y < ground.shape[1] and ground[x, y] != BLOCKED)


@shared
def fits(ground: Any, x: float, y: float, radius: float) -> bool:
    """Whether a unit of this radius, at most a cell, stands on walkable ground alone; it may touch the rest."""
    column, row = int(x), int(y)
    if 0 <= column < ground.shape[0] and 0 <= row < ground.shape[1] and ground[column, row] == OPEN:
        return True
    # In code for a GPU floor and ceil are floats.
    west, east = int(math.floor(x - radius)), int(math.ceil(x + radius)) - 1  # noqa: RUF046
    south, north = int(math.floor(y - radius)), int(math.ceil(y + radius)) - 1  # noqa: RUF046
    return (
        cell_is_walkable(ground, west, south)
        and cell_is_walkable(ground, east, south)
        and cell_is_walkable(ground, west, north)
        and cell_is_walkable(ground, east, north)
    )


@inlined
def stands(ground: Any, unit_type: Any, x: float, y: float) -> bool:
    """Whether a unit of this type can be at (x, y): whoever is not on the ground, anywhere on the map."""
    if unit_type.plane == 0:
        return fits(ground, x, y, unit_type.inner_radius)
    return bool(0 <= x <= ground.shape[0] and 0 <= y <= ground.shape[1])
