"""SMAC's own Python code, fed by the simulator through the game's protocol, against our vectors: bit for bit."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from qmix_lightning.envs.battle.env import BattleEnvironment

ROOT = Path(__file__).parents[2]
needs_smac = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("smac", "pysc2")),
    reason="needs SMAC and pysc2, which are not on PyPI together; see tests/parity/README.md",
)


def play(path, map_name, **how):
    """What SMAC sees, in a process of its own: SMAC parses the command line when it is imported."""
    command = [sys.executable, "-m", "tests.parity.record_smac", map_name, str(path), json.dumps(how)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(np.load(path))


def bits(array):
    return np.ascontiguousarray(array).view(np.uint32)


def same(look, ours, theirs, what):
    """Fail with the first place where two vectors differ in a bit; zeros may differ in their sign."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape, f"{what} of look {look}: {ours.shape}, SMAC's {theirs.shape}"
    wrong = np.argwhere((bits(ours) != bits(theirs)) & ~((ours == 0) & (theirs == 0)))
    if len(wrong):
        place = tuple(wrong[0])
        raise AssertionError(f"{what}{place} of look {look} is {ours[place]!r}, SMAC's {theirs[place]!r}")


def check(recorded, env):
    """Play the recorded actions again in ``env``, from its reset on."""
    assert env.spec.n_agents == recorded["n_agents"]
    assert env.spec.n_actions == recorded["n_actions"]
    assert env.spec.episode_limit == recorded["episode_limit"]
    for look, begins in enumerate(recorded["begins"]):
        theirs = {name: column[look] for name, column in recorded.items() if np.ndim(column)}
        if begins:
            view = env.reset()
        else:
            view = env.step(torch.from_numpy(theirs["action"])[None])
            same(look, view["reward"][0, 0].numpy(), np.float32(theirs["reward"]), "reward")
            assert bool(view["done"]) == theirs["over"], look
            allies, units = env.spec.n_agents, len(theirs["x"])
            standing = [allies - theirs["dead_allies"], units - allies - theirs["dead_enemies"]]
            decided = theirs["over"] and 0 in standing
            assert bool(view["terminated"]) == decided, look
            for name in ("battle_won", "dead_allies", "dead_enemies"):
                assert view["info", name].item() == theirs[name], (name, look)
        same(look, view["agents", "observation"][0], theirs["observation"], "observation")
        same(look, view["state"][0], theirs["state"], "state")
        assert (view["agents", "action_mask"][0].numpy() == theirs["action_mask"]).all(), look


@needs_smac
@pytest.mark.parametrize("policy", ["random", "wandering", "fierce"])
@pytest.mark.parametrize("map_name", ["3m", "8m", "5m_vs_6m", "8m_vs_9m"])
def test_every_vector_equals_smac_s(map_name, policy, tmp_path):
    recorded = play(tmp_path / "smac.npz", map_name, seed=5, battles=3, policy=policy)
    check(recorded, BattleEnvironment(map_name, seed=5))
