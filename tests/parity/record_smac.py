"""What SMAC's own Python code makes of battles that the stand-in game plays, written down to be compared with ours.

It runs where ``smac`` or ``smacv2`` can be imported. Neither is on PyPI (``smac`` there is another project)::

    pip install pysc2
    pip install --no-deps git+https://github.com/oxwhirl/smac git+https://github.com/oxwhirl/smacv2
    python -m tests.parity.record_smac              # writes tests/parity/recordings anew
    python -m tests.parity.record_smac 3m out.npz '{"seed": 1, "battles": 2, "policy": "random"}'

Nothing here knows what our vectors look like. The games are not changed, but for SMACv2's dice: the order in which its
agents look about and who learns of an enemy are drawn as the simulator draws them.
"""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import importlib.util
import io
import json
import lzma
import os
import random
import subprocess
import sys
import tempfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path

import numpy as np

from qmix_lightning.envs.adapters.protobuf import import_protocol
from tests.parity.smac_cases import SMACV2_SCENARIOS, cases, thinned
from tests.parity.smac_policies import POLICIES
from tests.standin.battle import Battle
from tests.standin.install import install
from tests.standin.numbers import EMPTY_MAP

ROOT = Path(__file__).parents[2]
RECORDINGS = Path(__file__).parent / "recordings"
UNIT = ("health", "shield", "energy", "weapon_cooldown")

COMMITS = {
    "95df0a817af3273a6c0b6e34ad7fe696bd6d5055": "oxwhirl/smac@d6aab33f76abc3849c50463a8592a84f59a5ef84",
    "5a416c30bac9b380d0b50fe59ee3eb2797e1f1a8": "oxwhirl/smacv2@577ab5a2cff2391f8df582da5731ea9cd6adf3c6",
}
"""Commits that are known, by git's hash of the file that makes the vectors."""


def record(name, *, seed=1, battles=1, policy="mixed", options=None, **script):
    """Play some battles on a map of SMAC, or of a scenario of SMACv2, with ``StarCraft2Env(seed=seed, **options)``.

    Returns:
        Arrays by name, over all looks of all battles one after the other; ``begins`` marks the looks that a battle
        begins with, which have no action, reward and outcome before them.
    """
    import_protocol()
    options = options or {}
    if "move_amount" in options:
        script["battle"] = {**script.get("battle", {}), "move_amount": options["move_amount"]}
    second = name in SMACV2_SCENARIOS
    with tempfile.TemporaryDirectory() as home:
        os.environ["SC2PATH"] = str(install(home, [EMPTY_MAP if second else name], **script))
        make = _smacv2 if second else _smac
        env, reset = make(name, seed, script.get("battle", {}), options)
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        policies = cycle(POLICIES.values()) if policy == "mixed" else cycle([POLICIES[policy]])
        try:
            looks = [
                look for _, play in zip(range(battles), policies, strict=False) for look in _play(env, play, rng, reset)
            ]
        finally:
            env.close()
    columns = {key: np.array([look[key] for look in looks]) for key in looks[0]}
    sizes = {key: env.get_env_info()[key] for key in ("n_agents", "n_actions", "obs_shape", "state_shape")}
    ground = {"walkable": env.pathing_grid, "height": env.terrain_height}
    return columns | sizes | ground | {"episode_limit": env.episode_limit, "max_reward": env.max_reward}


def _smac(name, seed, _battle, options):
    """SMAC's environment, and its resets."""
    from smac.env import StarCraft2Env

    env = StarCraft2Env(name, seed=seed, **options)
    return env, env.reset


def _smacv2(name, seed, battle, options):
    """SMACv2's environment, and its resets, to battles as the simulator draws them from this seed."""
    from smacv2.env.starcraft2.starcraft2 import StarCraft2Env

    drawn = Battle(name, seed, **battle)
    random.shuffle, np.random.rand = drawn.shuffle, drawn.roll
    sizes = {"n_units": drawn.n_agents, "n_enemies": drawn.n_enemies}
    config = {"team_gen": {"observe": True, **sizes}, "start_positions": {}, **sizes}
    defaults = {"obs_own_pos": True, "use_unit_ranges": True}  # those of SMACv2's own configurations
    env = StarCraft2Env(f"10gen_{name.split('_')[0]}", seed=seed, capability_config=config, **{**defaults, **options})
    env.known_in_turn = np.zeros((drawn.n_agents, drawn.n_enemies), dtype=np.bool_)
    observe = env.get_obs_agent

    def get_obs_agent(agent, **how):
        seen = observe(agent, **how)
        env.known_in_turn[agent] = env.obs_enemies[:, agent]
        return seen

    def reset():
        units = drawn.draw()
        teams = [[unit for unit in units if unit[0] == agent] for agent in (True, False)]
        names, places = zip(
            *(([unit[1] for unit in team], np.array([unit[2:] for unit in team])) for team in teams), strict=True
        )
        env.reset(
            {
                "team_gen": dict(zip(("ally_team", "enemy_team"), names, strict=True)),
                "ally_start_positions": {"item": places[0]},
                "enemy_start_positions": {"item": places[1]},
            }
        )

    env.get_obs_agent = get_obs_agent
    return env, reset


def _play(env, policy, rng, reset):
    """The looks of one battle."""
    reset()
    info = {"battle_won": False, "dead_allies": 0, "dead_enemies": 0, "out_of_time": False}
    yield _look(env, [-1] * env.n_agents, 0.0, False, info)
    over, timeouts = False, env.timeouts
    while not over:
        actions = policy(env, rng)
        reward, over, info = env.step(actions)
        yield _look(env, actions, reward, over, info | {"out_of_time": env.timeouts > timeouts})


def _look(env, actions, reward, over, info):
    units = [*env.agents.values(), *env.enemies.values()]
    return {
        "observation": np.array(env.get_obs(), dtype=np.float32),
        "state": env.get_state(),
        "action_mask": np.array(env.get_avail_actions(), dtype=np.bool_),
        "action": np.array(actions, dtype=np.int64),
        "begins": actions[0] < 0,
        "steps": env._episode_steps,
        "reward": float(reward),
        "over": over,
        **info,
        "unit_type": np.array([unit.unit_type for unit in units], np.int16),
        **{name: np.array([getattr(unit, name) for unit in units], np.float32) for name in UNIT},
        "x": np.array([unit.pos.x for unit in units], np.float32),
        "y": np.array([unit.pos.y for unit in units], np.float32),
        "known": getattr(env, "known_in_turn", np.ones((env.n_agents, env.n_enemies), dtype=np.bool_)).copy(),
        "facing": np.array(getattr(env, "fov_directions", np.zeros((env.n_agents, 2))), np.float64),
    }


def play(path, name, **how):
    """Record in a process of its own: these packages parse the command line, and exclude each other."""
    command = [sys.executable, "-m", "tests.parity.record_smac", name, str(path), json.dumps(how)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    if done.returncode != 0:
        raise RuntimeError(f"{name} with {how}:\n{done.stdout}{done.stderr}")
    return dict(np.load(path))


def provenance():
    """Where the recordings come from: which sources, by git's own hash of the file that makes the vectors."""
    sources = {}
    for package in ("smac", "smacv2"):
        home = Path(importlib.util.find_spec(package).origin).parent
        text = (home / "env/starcraft2/starcraft2.py").read_bytes()
        blob = hashlib.sha1(b"blob %d\0" % len(text) + text).hexdigest()
        sources[package] = {
            "file": f"{package}/env/starcraft2/starcraft2.py",
            "git_blob": blob,
            "commit": COMMITS.get(blob),
        }
    ours = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    packages = {name: importlib.metadata.version(name) for name in ("pysc2", "s2clientprotocol", "protobuf", "numpy")}
    return {
        "made_by": "python -m tests.parity.record_smac",
        "made_on": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "qmix_lightning": ours.strip(),
        "sources": sources,
        "packages": packages,
    }


def write_recordings():
    """Record all cases anew."""
    RECORDINGS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        wanted = {
            case: pool.submit(play, Path(folder) / f"{number}.npz", name, seed=7, battles=2, options=options)
            for number, (case, (name, options)) in enumerate(cases().items())
        }
        kept = {case: thinned(recorded.result()) for case, recorded in wanted.items()}
    file = io.BytesIO()
    np.savez(file, **{f"{case}/{name}": value for case, recorded in kept.items() for name, value in recorded.items()})
    # One stream for all of them, because the names and shapes of so many arrays are most of it.
    (RECORDINGS / "smac.npz.xz").write_bytes(lzma.compress(file.getvalue(), preset=9))
    (RECORDINGS / "provenance.json").write_text(json.dumps(provenance(), indent=2) + "\n")


def read_recordings():
    """What is kept of all cases: arrays by case and name."""
    kept = {}
    with np.load(io.BytesIO(lzma.decompress((RECORDINGS / "smac.npz.xz").read_bytes()))) as file:
        for key in file.files:
            case, name = key.split("/")
            kept.setdefault(case, {})[name] = file[key]
    return kept


if __name__ == "__main__":
    if len(sys.argv) == 1:
        write_recordings()
    else:
        np.savez_compressed(sys.argv[2], **record(sys.argv[1], **json.loads(sys.argv[3])))
