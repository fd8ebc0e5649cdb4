"""Which battles SMAC's code and ours are compared in, and how few of their looks are enough to keep."""

from __future__ import annotations

import zlib
from itertools import pairwise

import numpy as np

SMAC_MAPS = (
    "3m", "8m", "25m", "5m_vs_6m", "8m_vs_9m", "10m_vs_11m", "27m_vs_30m", "MMM", "MMM2", "2s3z", "3s5z",
    "3s5z_vs_3s6z", "3s_vs_3z", "3s_vs_4z", "3s_vs_5z", "1c3s5z", "2m_vs_1z", "corridor", "6h_vs_8z", "2s_vs_1sc",
    "so_many_baneling", "bane_vs_bane", "2c_vs_64zg",
)  # fmt: skip

SMACV2_SCENARIOS = tuple(
    f"{race}_{sizes}"
    for race in ("protoss", "terran", "zerg")
    for sizes in ("5_vs_5", "10_vs_10", "10_vs_11", "20_vs_20", "20_vs_23")
)

SMAC_OPTIONS = (
    {"obs_last_action": True},
    {"obs_pathing_grid": True},
    {"obs_terrain_height": True},
    {"obs_timestep_number": True},
    {"obs_instead_of_state": True},
    {"obs_instead_of_state": True, "obs_timestep_number": True},
    {"state_last_action": False},
    {"state_timestep_number": True},
    {"obs_all_health": False},
    {"obs_all_health": False, "obs_own_health": False},
    {"reward_sparse": True},
    {"reward_sparse": True, "reward_scale": False},
    {"reward_only_positive": False},
    {"reward_scale": False, "reward_only_positive": False, "reward_negative_scale": 0.3},
    {"reward_death_value": 3, "reward_win": 50, "reward_defeat": -20, "reward_scale_rate": 7},
    {"move_amount": 1},
    {"move_amount": 3, "obs_pathing_grid": True, "obs_terrain_height": True},
    {"step_mul": 4},
    {
        "obs_last_action": True, "obs_pathing_grid": True, "obs_terrain_height": True, "obs_timestep_number": True,
        "state_timestep_number": True, "state_last_action": False, "reward_only_positive": False,
    },
)  # fmt: skip
"""Every argument of ``StarCraft2Env`` that changes what a learner sees, alone or with those it meets in a vector."""

SMACV2_OPTIONS = (
    {"obs_own_pos": False},
    {"use_unit_ranges": False},
    {"min_attack_range": 5},
    {"prob_obs_enemy": 0.5},
    {"action_mask": False, "prob_obs_enemy": 0.0},
    {"fully_observable": True},
    {"conic_fov": True},
    {"conic_fov": True, "num_fov_actions": 6, "action_mask": False},
    {"obs_last_action": True, "obs_timestep_number": True, "state_timestep_number": True},
    {"obs_all_health": False, "obs_own_health": False, "obs_pathing_grid": True, "obs_terrain_height": True},
    {"reward_only_positive": False},
    {"reward_sparse": True},
)

GROUND = ("walkable", "height")
"""What a recording has of the map: as SMAC saw it then, whatever is made of the map archives later."""

VECTORS = ("observation", "action_mask", "state")


def label(options):
    """A short name of options."""
    return ",".join(f"{name}={value}" for name, value in options.items()) or "default"


def cases():
    """What is recorded, by name: a map and how it is played."""
    every = {f"{name} default": (name, {}) for name in SMAC_MAPS + SMACV2_SCENARIOS}
    for name, sets in (("MMM", SMAC_OPTIONS), ("3s_vs_5z", SMAC_OPTIONS), ("zerg_5_vs_5", SMACV2_OPTIONS)):
        every |= {f"{name} {label(options)}": (name, options) for options in sets}
    return every


def thinned(recorded, whole=2):
    """A recording small enough to be kept: the beginning, the middle and the end of each battle.

    Of the vectors all checksums remain, and a few whole ones, to see where they differ if they do.
    """
    starts = [*np.flatnonzero(recorded["begins"]), len(recorded["begins"])]
    keep = set()
    for start, end in pairwise(starts):
        middle = (start + end) // 2
        keep |= {
            *range(start, min(start + 3, end)),
            *range(middle, min(middle + 4, end)),
            *range(max(end - 4, start), end),
        }
    looks = sorted(keep)
    columns = {name for name, column in recorded.items() if np.ndim(column) and name not in GROUND}
    kept = {name: value for name, value in recorded.items() if name not in columns}
    kept |= {name: recorded[name][looks] for name in columns.difference(VECTORS)}
    kept["follows"] = np.array([look - 1 in keep for look in looks]) & ~kept["begins"]
    kept["whole"] = np.linspace(0, len(looks) - 1, whole + 2).astype(int)[1:-1]
    for name in VECTORS:
        kept[f"{name}_checksum"] = np.array([checksum(recorded[name][look]) for look in looks], dtype=np.uint32)
        kept[name] = recorded[name][np.array(looks)[kept["whole"]]]
    return kept


def checksum(array):
    """Of the very bits of an array.

    Example:
        >>> checksum(np.float32([0.0])) == checksum(np.float32([-0.0]))
        False
    """
    return zlib.crc32(np.ascontiguousarray(array).tobytes())
