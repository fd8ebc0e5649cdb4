"""SMAC's reward and how it tells that a battle is over."""

from __future__ import annotations

from typing import Any

import numpy as np

from qmix_lightning.envs.battle.compiling import inlined

UNDECIDED, WON, LOST, DRAWN = 0, 1, 2, 3


@inlined
def alive(units: Any, first: int, end: int) -> int:
    """Number of living units from ``first`` up to ``end``."""
    count = 0
    for i in range(first, end):
        count += units[i].health > 0
    return count


@inlined
def outcome(units: Any, world: Any) -> int:
    """How the battle stands: a side without a living unit has lost, and without any on either it is drawn.

    Where there are medivacs, they do not count, and the agents lose before the enemies do.
    """
    allies, enemies = False, False
    for i in range(units.shape[0]):
        if units[i].health > 0 and not (world.rules.wins_without_medivacs and world.types[units[i].kind].armed == 0):
            if i < world.rules.n_agents:
                allies = True
            else:
                enemies = True
    if allies:
        return UNDECIDED if enemies else WON
    return LOST if enemies or world.rules.wins_without_medivacs else DRAWN


@inlined
def best_reward(units: Any, world: Any) -> float:
    """What a flawless victory over these enemies brings, before it is scaled: ``Σ (health + shield) + 10 M + 200``."""
    best = world.rules.n_enemies * world.rules.reward_death_value + world.rules.reward_win
    for i in range(world.rules.n_agents, units.shape[0]):
        best += world.types[units[i].kind].health + world.types[units[i].kind].shield
    return float(best)


@inlined
def step_reward(units: Any, world: Any, best: float, stands: int) -> float:
    """Reward of the step just played, with SMAC's default options.

    ``(|Δh + 10 deaths| + 200 won) · 20 / best`` with the health and shield Δh that the enemies lost in the step and
    their deaths in it; the absolute value is SMAC's (``reward_only_positive``), where SMACv2 takes the positive part.
    Without it, ``w (Δh + 10 deaths)`` of the agents is subtracted.
    """
    options = world.rules
    if options.reward_sparse:
        reward = 1.0 * (stands == WON) - 1.0 * (stands == LOST)
    else:
        reward = _gains(units, world)
        if stands == WON:
            reward += options.reward_win
        elif stands == LOST:
            reward += options.reward_defeat
    if options.reward_scale:
        reward /= best / options.reward_scale_rate
    return float(reward)


@inlined
def _gains(units: Any, world: Any) -> float:
    """What the step brought, before the outcome counts; summed in SMAC's order, for its very bits."""
    options = world.rules
    deaths, lost, damage = 0.0, 0.0, 0.0
    for i in range(units.shape[0]):
        if units[i].health_before <= 0:
            continue
        before = np.float64(units[i].health_before) + np.float64(units[i].shield_before)
        if i < world.rules.n_agents:
            if units[i].health <= 0:
                lost += before * options.reward_negative_scale
                if not options.reward_only_positive:
                    deaths -= options.reward_death_value * options.reward_negative_scale
            else:
                left = before - np.float64(units[i].health) - np.float64(units[i].shield)
                lost += options.reward_negative_scale * left
        elif units[i].health <= 0:
            deaths += options.reward_death_value
            damage += before
        else:
            damage += before - np.float64(units[i].health) - np.float64(units[i].shield)
    if not options.reward_only_positive:
        return damage + deaths - lost
    return abs(damage + deaths) if world.rules.version == 1 else max(damage + deaths, 0.0)
