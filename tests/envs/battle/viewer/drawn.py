"""Recordings made by hand: whoever is not told otherwise stands still, in health, and does nothing."""

from __future__ import annotations

from typing import Any

import numpy as np

from qmix_lightning.envs.battle.state import NOBODY
from qmix_lightning.envs.battle.viewer.recording import SHOWN, Kind, Outcome, Recording

MARINE = Kind("marine", radius=0.375, range=5.0, health=45.0)
ZEALOT = Kind("zealot", radius=0.5, range=0.1, health=100.0, shield=50.0, attack="blade", winds_up=False)
STALKER = Kind("stalker", radius=0.625, range=6.0, health=80.0, shield=80.0, attack="missile")
COLOSSUS = Kind("colossus", 1.0, 6.0, 200.0, shield=150.0, level=1, attack="beams", sweep=1.25)
MEDIVAC = Kind("medivac", 0.75, 4.0, 150.0, energy=200.0, level=2)
BANELING = Kind("baneling", 0.375, 0.25, 30.0, attack="blade", winds_up=False, burst=2.2)


def standing(*units: tuple[Kind, float, float], loops: int = 16) -> Any:
    """Frames ``[loops + 1, U]`` of units at places."""
    frames = np.zeros((loops + 1, len(units)), SHOWN)
    kinds = list(dict.fromkeys(kind for kind, _, _ in units))
    frames["target"] = frames["flight_target"] = NOBODY
    for i, (kind, x, y) in enumerate(units):
        frames["x"][:, i], frames["y"][:, i] = x, y
        frames["health"][:, i], frames["shield"][:, i], frames["energy"][:, i] = kind.health, kind.shield, kind.energy
        frames["kind"][:, i] = kinds.index(kind)
    return frames


def recording(
    frames: Any, kinds: tuple[Kind, ...] = (MARINE,), *, n_agents: int = 1, outcome: Outcome = "won", **options: Any
) -> Recording:
    """A battle on open ground of 32 x 32 cells, but for the three rows in the south."""
    walkable = np.ones((32, 32), dtype=bool)
    walkable[:, :3] = False
    rewards = np.full((len(frames) - 1) // 8, 0.5, dtype=np.float32)
    return Recording(
        **{
            "title": "drawn", "team": "us", "kinds": kinds, "n_agents": n_agents, "walkable": walkable,
            "frames": frames, "rewards": rewards, "outcome": outcome, **options,
        }
    )  # fmt: skip
