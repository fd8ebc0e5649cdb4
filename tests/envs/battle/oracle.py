"""SMAC's observation, mask, state and reward by the book: slow, in plain Python, for maps of marines alone.

Written from the documentation of ``StarCraft2Env``'s vectors, not from the simulator. Everything is worked out in
double precision from the game's single-precision positions and healths, and rounded once, at the end.
"""

from __future__ import annotations

import math

import numpy as np

SIGHT, SHOOT, STEP, SIZE, HEALTH, COOLDOWN = 9, 6, 1, 32, 45, 15
DIRECTIONS = [(0, STEP), (0, -STEP), (STEP, 0), (-STEP, 0)]  # north, south, east, west


def raw(units):
    """Units as plain numbers: ``(x, y, health, cooldown)``."""
    return [tuple(float(unit[name]) for name in ("x", "y", "health", "cooldown")) for unit in units]


def distance(one, two):
    return math.hypot(two[0] - one[0], two[1] - one[1])


def mask(units, n_agents, walkable, i):
    """``walkable[x][y]`` tells where one can stand."""
    me, enemies = units[i], units[n_agents:]
    if me[2] == 0:
        return [True] + [False] * (5 + len(enemies))
    legal = [False, True]
    for dx, dy in DIRECTIONS:
        x, y = int(me[0] + dx), int(me[1] + dy)
        legal.append(0 <= x < SIZE and 0 <= y < SIZE and bool(walkable[x][y]))
    return legal + [enemy[2] > 0 and distance(me, enemy) <= SHOOT for enemy in enemies]


def observation(units, n_agents, walkable, i):
    me, legal = units[i], mask(units, n_agents, walkable, i)
    others = units[n_agents:] + units[:i] + units[i + 1 : n_agents]
    flags = legal[6:] + [True] * (n_agents - 1)
    if me[2] == 0:
        return np.zeros(4 + 5 * len(others) + 1, dtype=np.float32)
    features = [float(may) for may in legal[2:6]]
    for flag, other in zip(flags, others, strict=True):
        far = distance(me, other)
        if other[2] > 0 and far < SIGHT:
            dx, dy = (other[0] - me[0]) / SIGHT, (other[1] - me[1]) / SIGHT
            features += [float(flag), far / SIGHT, dx, dy, other[2] / HEALTH]
        else:
            features += [0.0] * 5
    return np.array([*features, me[2] / HEALTH], dtype=np.float32)


def state(units, n_agents, last_action):
    n_actions = 6 + len(units) - n_agents
    features = []
    for number, (x, y, health, cooldown) in enumerate(units):
        place = [(x - SIZE / 2) / SIZE, (y - SIZE / 2) / SIZE]
        ready = [cooldown / COOLDOWN] if number < n_agents else []
        features += [health / HEALTH, *ready, *place] if health > 0 else [0.0] * (3 + len(ready))
    for action in last_action:
        features += [float(number == action) for number in range(n_actions)]
    return np.array(features, dtype=np.float32)


def reward(before, after, n_agents):
    """Of one step between two looks at the field."""
    enemies = list(zip(before[n_agents:], after[n_agents:], strict=True))
    damage = sum(old[2] - new[2] for old, new in enemies)
    deaths = sum(10 for old, new in enemies if old[2] > 0 and new[2] == 0)
    won = any(unit[2] > 0 for unit in after[:n_agents]) and all(new[2] == 0 for _, new in enemies)
    best = 200 + sum(10 + HEALTH for _ in enemies)
    return np.float32((abs(damage + deaths) + 200 * won) / (best / 20))


def done(after, n_agents, steps, limit):
    decided = not any(unit[2] > 0 for unit in after[:n_agents]) or not any(unit[2] > 0 for unit in after[n_agents:])
    return decided or steps >= limit, decided
