"""SMAC's own Python code, fed by the simulator through the game's protocol, against our vectors: bit for bit.

Once with recordings of what it made of units, which are always there, and once, where SMAC is, with whole battles that
both sides play: SMAC behind the stand-in game, and ours by itself from the same seed and the same actions.
"""

import importlib.util
import json

import numpy as np
import pytest
import torch

from qmix_lightning.envs.battle.env import BattleEnvironment
from qmix_lightning.envs.battle.scenario import load_scenario
from tests.parity.record_smac import RECORDINGS, play, read_recordings
from tests.parity.smac_cases import (
    GROUND,
    SMAC_MAPS,
    SMAC_OPTIONS,
    SMACV2_OPTIONS,
    SMACV2_SCENARIOS,
    VECTORS,
    cases,
    checksum,
    label,
    thinned,
)
from tests.standin.battle import UNIT, judge, see
from tests.standin.numbers import COPIES, name_of

CASES = cases()


def needs(package):
    there = all(importlib.util.find_spec(name) for name in (package, "pysc2", "s2clientprotocol"))
    return pytest.mark.skipif(not there, reason=f"needs oxwhirl's {package}; tests/parity/record_smac.py says how")


def same(ours, theirs, what):
    """Fail with the first place where two arrays differ in a bit."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype), what
    bits = np.uint8 if ours.dtype == bool else np.uint32
    wrong = np.argwhere(ours.view(bits) != theirs.view(bits))
    assert not len(wrong), f"{what}{wrong[0].tolist()} is {ours[tuple(wrong[0])]}, SMAC's {theirs[tuple(wrong[0])]}"


def check_sizes(recorded, spec):
    assert spec.n_agents == recorded["n_agents"]
    assert spec.n_actions == recorded["n_actions"]
    assert spec.episode_limit == recorded["episode_limit"]


def check_battles(recorded, env):
    """Play the recorded actions again in ``env``, from its reset on, and compare everything."""
    check_sizes(recorded, env.spec)
    for look, begins in enumerate(recorded["begins"]):
        theirs = {name: column[look] for name, column in recorded.items() if np.ndim(column) and name not in GROUND}
        view = env.reset() if begins else env.step(torch.from_numpy(theirs["action"])[None])
        if not begins:
            same(np.float32(view["reward"].item()), np.float32(theirs["reward"]), f"reward of look {look}")
            assert view["done"].item() == theirs["over"], look
            assert view["terminated"].item() == (theirs["over"] and not theirs["out_of_time"]), look
            for name in ("battle_won", "dead_allies", "dead_enemies"):
                assert view["info", name].item() == theirs[name], (name, look)
        ours = {"state": view["state"], **{name: view["agents", name] for name in ("observation", "action_mask")}}
        for name in VECTORS:
            same(ours[name][0].numpy(), theirs[name], f"{name} of look {look}")


def units_of(recorded, scenario, env, look):
    """The units that SMAC saw, as ours."""
    n_agents, kinds = scenario.n_agents, [unit.name for unit in scenario.unit_types]
    copies = COPIES if scenario.random_teams else sorted({squad.unit.name for squad in scenario.allies})
    units = np.zeros(n_agents + scenario.n_enemies, dtype=UNIT)
    for name in ("x", "y", "health", "shield", "energy"):
        units[name] = recorded[name][look]
    units["cooldown"] = recorded["weapon_cooldown"][look]
    for slot, number in enumerate(recorded["unit_type"][look]):
        units["kind"][slot] = kinds.index(name_of(number, slot < n_agents, copies))
    units["known_by"][n_agents:] = (recorded["known"][look] * 2.0 ** np.arange(n_agents)[:, None]).sum(0)
    if len(env.world.directions):
        units["facing"][:n_agents] = (recorded["facing"][look] @ env.world.directions.T).argmax(1)
    return units


def check_looks(kept, name, options):
    """Compare what ours makes of the recorded units with what SMAC made of them."""
    scenario, env = load_scenario(name), BattleEnvironment(name, **options)
    check_sizes(kept, env.spec)
    world = env.world._replace(ground=kept["walkable"].astype(np.uint8), heights=np.ascontiguousarray(kept["height"]))
    before = None
    for look, follows in enumerate(kept["follows"]):
        units, what = units_of(kept, scenario, env, look), f"look {look}"
        time = kept["steps"][look] / env.spec.episode_limit
        ours = dict(zip(VECTORS, see(env.spec, world, units, time, kept["action"][look]), strict=True))
        for which in np.flatnonzero(kept["whole"] == look):
            for vector in VECTORS:
                same(ours[vector], kept[vector][which], f"{vector} of {what}")
        for vector in VECTORS:
            assert checksum(ours[vector]) == kept[f"{vector}_checksum"][look], f"{vector} of {what}"
        if follows:
            reward = judge(env, before, units, float(kept["max_reward"]))
            same(np.float32(reward), np.float32(kept["reward"][look]), f"reward of {what}")
        before = units


@pytest.fixture(scope="module")
def recordings():
    return read_recordings()


@pytest.mark.parametrize("case", CASES)
def test_what_smac_made_of_recorded_units_is_what_ours_makes_of_them(case, recordings):
    name, options = CASES[case]
    check_looks(recordings[case], name, options)


def test_the_recordings_say_where_they_come_from():
    provenance = json.loads((RECORDINGS / "provenance.json").read_text())
    assert provenance["sources"]["smac"]["commit"].startswith("oxwhirl/smac@d6aab33")
    assert provenance["sources"]["smacv2"]["commit"].startswith("oxwhirl/smacv2@577ab5a")
    assert len(provenance["qmix_lightning"]) == 40


def test_the_recordings_hold_victories_defeats_and_deaths(recordings):
    won, over, dead = (
        np.concatenate([kept[name] for kept in recordings.values()]) for name in ("battle_won", "over", "dead_allies")
    )
    assert 0 < won.sum() < over.sum()
    assert dead.max() > 5


@needs("smac")
@pytest.mark.parametrize("name", SMAC_MAPS)
def test_battles_on_smac_s_maps_are_seen_as_smac_sees_them(name, tmp_path):
    recorded = play(tmp_path / "smac.npz", name, seed=5, battles=6)
    check_battles(recorded, BattleEnvironment(name, seed=5))
    check_looks(thinned(recorded), name, {})


@needs("smac")
@pytest.mark.parametrize("options", SMAC_OPTIONS, ids=label)
@pytest.mark.parametrize("name", ["MMM", "3s_vs_5z", "2c_vs_64zg"])
def test_every_option_of_smac_means_here_what_it_means_there(name, options, tmp_path):
    recorded = play(tmp_path / "smac.npz", name, seed=5, battles=3, options=options)
    check_battles(recorded, BattleEnvironment(name, seed=5, **options))


@needs("smac")
@pytest.mark.parametrize("how", [{"pathing_bits": 8}, {"first_type": 1885}], ids=["8-bit ground", "other types"])
def test_what_differs_between_versions_of_the_game_makes_no_difference(how, tmp_path):
    recorded = play(tmp_path / "smac.npz", "3s5z", seed=5, battles=2, **how)
    check_battles(recorded, BattleEnvironment("3s5z", seed=5))


@needs("smac")
@pytest.mark.parametrize("physics", [{"enemy_order": "sorted"}, {"pathing": "outer", "spawn_jitter": 0.0}], ids=label)
def test_smac_sees_other_physics_as_ours_does(physics, tmp_path):
    recorded = play(tmp_path / "smac.npz", "corridor", seed=5, battles=2, battle=physics)
    check_battles(recorded, BattleEnvironment("corridor", seed=5, **physics))


@needs("smacv2")
@pytest.mark.parametrize("name", SMACV2_SCENARIOS)
def test_battles_of_smacv2_s_scenarios_are_seen_as_smacv2_sees_them(name, tmp_path):
    recorded = play(tmp_path / "smac.npz", name, seed=5, battles=6)
    check_battles(recorded, BattleEnvironment(name, seed=5))
    check_looks(thinned(recorded), name, {})


@needs("smacv2")
@pytest.mark.parametrize("options", SMACV2_OPTIONS, ids=label)
@pytest.mark.parametrize("name", ["terran_5_vs_5", "protoss_10_vs_11"])
def test_every_option_of_smacv2_means_here_what_it_means_there(name, options, tmp_path):
    recorded = play(tmp_path / "smac.npz", name, seed=5, battles=3, options=options)
    check_battles(recorded, BattleEnvironment(name, seed=5, **options))
