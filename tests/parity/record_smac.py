"""What SMAC's own Python code makes of battles that the stand-in game plays, written down to be compared with ours.

    python -m tests.parity.record_smac 3m out.npz '{"seed": 1, "battles": 2, "policy": "random", "options": {}}'

Runs where ``smac`` can be imported; nothing here knows what our vectors look like.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import zlib

import numpy as np

from qmix_lightning.envs.adapters.protobuf import import_protocol
from tests.standin.install import install

STOP, NORTH, SOUTH, EAST, WEST, FIRST_TARGET = 1, 2, 3, 4, 5, 6


def record(map_name, *, seed=1, battles=1, policy="random", options=None, **script):
    """Play some battles on a map of SMAC with ``StarCraft2Env(map_name, seed=seed, **options)``.

    Returns:
        Arrays by name, over all looks of all battles one after the other; ``begins`` marks the looks that a battle
        begins with, which have no action, reward and outcome before them.
    """
    import_protocol()
    with tempfile.TemporaryDirectory() as home:
        os.environ["SC2PATH"] = str(install(home, [map_name], **script))
        from smac.env import StarCraft2Env

        env = StarCraft2Env(map_name, seed=seed, **(options or {}))
        try:
            looks = list(_play(env, POLICIES[policy], np.random.default_rng(zlib.crc32(map_name.encode())), battles))
        finally:
            env.close()
    columns = {name: np.array([look[name] for look in looks]) for name in looks[0]}
    info = {key: env.get_env_info()[key] for key in ("n_agents", "n_actions", "obs_shape", "state_shape")}
    return columns | info | {"episode_limit": env.episode_limit, "max_reward": env.max_reward}


def _play(env, policy, rng, battles):
    for _ in range(battles):
        env.reset()
        yield _look(env, [-1] * env.n_agents, 0.0, False, {"battle_won": False, "dead_allies": 0, "dead_enemies": 0})
        over = False
        while not over:
            actions = policy(env, rng)
            reward, over, info = env.step(actions)
            yield _look(env, actions, reward, over, info)


def _look(env, actions, reward, over, info):
    units = [*env.agents.values(), *env.enemies.values()]
    return {
        "observation": np.array(env.get_obs(), dtype=np.float32),
        "state": env.get_state(),
        "action_mask": np.array(env.get_avail_actions(), dtype=np.bool_),
        "visible": env.get_visibility_matrix(),
        "action": np.array(actions, dtype=np.int64),
        "begins": actions[0] < 0,
        "reward": float(reward),
        "over": over,
        **info,
        "unit_type": [unit.unit_type for unit in units],
        **{name: np.array([getattr(unit, name) for unit in units], np.float32) for name in UNIT},
        "x": np.array([unit.pos.x for unit in units], np.float32),
        "y": np.array([unit.pos.y for unit in units], np.float32),
    }


UNIT = ("health", "shield", "energy", "weapon_cooldown")


def _random(env, rng):
    """Whatever is legal."""
    return [int(rng.choice(np.flatnonzero(legal))) for legal in env.get_avail_actions()]


def _wandering(env, rng):
    """Walk about, and never attack."""
    return [int(rng.choice(np.flatnonzero(legal[:FIRST_TARGET]))) for legal in env.get_avail_actions()]


def _fierce(env, rng):
    """Attack the weakest in range together, else close up; now and then, whatever is legal."""
    chosen = []
    for agent, legal in enumerate(env.get_avail_actions()):
        heals = env.map_type == "MMM" and env.agents[agent].unit_type == env.medivac_id
        others = env.agents if heals else env.enemies
        targets = np.flatnonzero(legal[FIRST_TARGET:]).tolist()
        if rng.random() < 0.1 or legal[0]:
            chosen.append(int(rng.choice(np.flatnonzero(legal))))
        elif targets:
            chosen.append(FIRST_TARGET + min(targets, key=lambda t: (others[t].health + others[t].shield, t)))
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


POLICIES = {"random": _random, "wandering": _wandering, "fierce": _fierce}


if __name__ == "__main__":
    np.savez_compressed(sys.argv[2], **record(sys.argv[1], **json.loads(sys.argv[3])))
