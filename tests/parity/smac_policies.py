"""Scripted teams for SMAC's own environments, so that battles are won and lost, healed and fled from."""

from __future__ import annotations

import numpy as np

STOP, NORTH, SOUTH, EAST, WEST = 1, 2, 3, 4, 5


def _random(env, rng):
    """Whatever is legal."""
    return [int(rng.choice(np.flatnonzero(legal))) for legal in env.get_avail_actions()]


def _wandering(env, rng):
    """Walk about, and never attack."""
    return [int(rng.choice(np.flatnonzero(legal[: env.n_actions_no_attack]))) for legal in env.get_avail_actions()]


def _fierce(env, rng):
    """Attack the weakest in range together, else close up; now and then, whatever is legal."""
    chosen, first = [], env.n_actions_no_attack
    for agent, legal in enumerate(env.get_avail_actions()):
        heals = env.map_type in ("MMM", "terran_gen") and env.agents[agent].unit_type == env.medivac_id
        others = env.agents if heals else env.enemies
        targets = np.flatnonzero(legal[first:]).tolist()
        if rng.random() < 0.1 or legal[0]:
            chosen.append(int(rng.choice(np.flatnonzero(legal))))
        elif targets:
            chosen.append(first + min(targets, key=lambda t: (others[t].health + others[t].shield, t)))
        else:
            chosen.append(_towards(env, agent, legal))
    return chosen


def _towards(env, agent, legal):
    """The legal move that leads nearest to the nearest enemy."""
    here = env.agents[agent].pos
    there = min(
        (enemy.pos for enemy in env.enemies.values() if enemy.health > 0),
        key=lambda pos: abs(pos.x - here.x) + abs(pos.y - here.y),
    )
    east, north = there.x - here.x, there.y - here.y
    wishes = {EAST: east, WEST: -east, NORTH: north, SOUTH: -north, STOP: 0.0}
    return max((action for action in wishes if legal[action]), key=wishes.__getitem__)


POLICIES = {"fierce": _fierce, "random": _random, "wandering": _wandering}
