"""SMAC's shaped reward and how it tells that a battle is over."""

from __future__ import annotations

from typing import Any

import numpy as np

from qmix_lightning.envs.battle.compiling import inlined

DEATH_VALUE, WIN_VALUE, SCALED_RETURN = 10.0, 200.0, 20.0
"""Reward for an enemy's death and for the victory, and the return of a flawless victory after scaling."""

UNDECIDED, WON, LOST, DRAWN = 0, 1, 2, 3


@inlined
def alive(units: Any, first: int, end: int) -> int:
    """Number of living units from ``first`` up to ``end``."""
    count = 0
    for i in range(first, end):
        count += units[i].health > 0
    return count


@inlined
def outcome(units: Any, n_agents: int) -> int:
    """How the battle stands: a side without a living unit has lost, and without any on either it is drawn."""
    allies = alive(units, 0, n_agents) > 0
    enemies = alive(units, n_agents, units.shape[0]) > 0
    if allies:
        return UNDECIDED if enemies else WON
    return LOST if enemies else DRAWN


@inlined
def step_reward(units: Any, types: Any, n_agents: int, won: bool) -> float:
    """Reward of the step just played.

    ``(|Δh + 10 deaths| + 200 won) · 20 / (Σ health + 10 M + 200)`` with the health Δh that the M enemies lost in
    the step and their deaths in it; the absolute value is SMAC's (``reward_only_positive``).
    """
    damage, deaths, best = 0.0, 0.0, WIN_VALUE
    for i in range(n_agents, units.shape[0]):
        best += types[units[i].kind].health + DEATH_VALUE
        if units[i].health_before > 0:
            damage += np.float64(units[i].health_before) - np.float64(units[i].health)
            if units[i].health <= 0:
                deaths += DEATH_VALUE
    return (abs(damage + deaths) + (WIN_VALUE if won else 0.0)) / (best / SCALED_RETURN)
