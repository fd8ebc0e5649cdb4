"""Each open question about the game is a switch, which changes what it says and nothing else."""

import re

import numpy as np
import pytest
import torch

from qmix_lightning.envs.battle.env import BattleEnvironment
from qmix_lightning.envs.battle.physics import LAWS, Physics
from tests.envs.battle.policies import random_legal
from tests.envs.battle.scenes import UNITS, Scene


def fought(name="3m", steps=25, **options):
    """Units after some steps of a battle with random orders."""
    env = BattleEnvironment(name, num_envs=2, seed=4, **options)
    view, generator = env.reset(), torch.Generator().manual_seed(1)
    for _ in range(steps):
        view = env.step(random_legal(view, generator, fierce=0.3))
    return env._battles.copy()


@pytest.fixture(scope="module")
def as_ever():
    return fought()


@pytest.mark.parametrize("switch", [{"medivac_follows": False}, {"creep_decay": False}])
def test_where_a_switch_has_nothing_to_say_battles_are_the_same_to_the_bit(as_ever, switch):
    assert (fought(**switch) == as_ever).all()


@pytest.mark.parametrize(
    "switch", [{"formation": "square"}, {"spawn_jitter": 0.1}, {"scan_period": 4}, {"standing_weight": 0.3}]
)
def test_where_it_has_they_differ(as_ever, switch):
    assert (fought(**switch) != as_ever).any()


def test_what_can_be_said_is_written_into_a_battles_laws():
    laws = Physics(formation="square", ranking="threat", scan_period=5, standing_weight=0.3, creep_decay=False).laws(3)
    assert laws.dtype == LAWS
    assert laws["formation"].tolist() == laws["ranking"].tolist() == [1, 1, 1]
    assert laws["scan_period"].tolist() == [5, 5, 5]
    assert laws["standing_weight"] == pytest.approx(0.3)
    assert not laws["creep_decay"].any()
    assert laws["medivac_follows"].all()
    assert not laws["drawn"].any()
    assert set(LAWS.names) == set(Physics.__dataclass_fields__) - {"pathing"} | {"drawn"}


def test_units_spread_in_rings_or_in_a_square():
    for formation, angles in (("rings", {0, 60, 120, 180, 240, 300}), ("square", {0, 45, 90, 135, 180, 225, 270, 315})):
        env = BattleEnvironment("25m", formation=formation, spawn_jitter=0.0)
        env.reset()
        agents = env._battles[0][:25]
        far = np.hypot(agents["x"] - 9, agents["y"] - 16)
        ring = (far > 0.1) & (far < 0.75 * (1.01 if formation == "rings" else 1.42))
        turns = np.degrees(np.arctan2(agents["y"][ring] - 16, agents["x"][ring] - 9)) % 360
        assert {round(turn) for turn in turns} == angles


@pytest.mark.parametrize(("ranking", "chosen"), [("nearest", "b"), ("threat", "a")])
def test_an_enemy_prefers_the_nearest_or_one_that_fights(ranking, chosen):
    scene = Scene("a.b..A", A="zealot", options={"ranking": ranking})
    scene.attack("a", "A")  # 4.125 cells away, and b idles 2.125 away: both in sight, neither within a zealot's reach
    scene.loops()
    assert UNITS[int(scene["A"]["target"])] == chosen


@pytest.mark.parametrize("ranking", ["nearest", "threat"])
def test_whom_it_can_reach_comes_before_both(ranking):
    scene = Scene("a....bA", A="zealot", options={"ranking": ranking})
    scene.attack("a", "A")
    scene.loops()
    assert UNITS[int(scene["A"]["target"])] == "b"


@pytest.mark.parametrize(("ranking", "chosen"), [("nearest", "b"), ("threat", "a")])
def test_a_medivac_is_always_a_threat(ranking, chosen):
    scene = Scene("a..b.A", a="medivac", options={"ranking": ranking})  # both within a marine's reach
    scene.loops()
    assert UNITS[int(scene["A"]["target"])] == chosen


@pytest.mark.parametrize("period", [1, 4, 8])
def test_an_enemy_looks_for_targets_every_so_many_loops(period):
    scene = Scene("a.......A", options={"scan_period": period})
    scene["A"]["order"] = 0
    scene.loops()  # it looks, and sees nobody
    scene.put("a", 3.5, 0.5)
    assert scene.until(lambda: scene["A"]["target"] == 0) == period


@pytest.mark.parametrize(("weight", "share"), [(1.0, 1 / 2), (0.25, 1 / 5), (0.01, 1 / 101)])
def test_who_stands_yields_by_its_weight_to_who_walks(weight, share):
    scene = Scene("ab", options={"standing_weight": weight})
    scene.put("b", 1.25, 0.5)  # they touch
    scene["a"]["order"], scene["a"]["goal_x"], scene["a"]["goal_y"] = 1, 20.0, 8.5
    scene.loops()
    assert scene.at("b")[0] - 1.25 == pytest.approx(0.140625 * share, abs=1e-6)


def test_the_outer_cells_are_a_row_wider():
    inner, outer = (BattleEnvironment("3m", pathing=pathing).world.ground > 0 for pathing in ("inner", "outer"))
    assert outer[inner].all()
    assert (outer.sum() - inner.sum()) == 2 * 32


def laws(seed=1, num_envs=256, episodes=1, **options):
    env = BattleEnvironment("3m", num_envs=num_envs, seed=seed, physics="random", **options)
    for _ in range(episodes):
        env.reset()
    return env._laws.copy()


def test_random_physics_lie_in_what_is_possible_and_differ_from_battle_to_battle():
    drawn = laws()
    for name in ("formation", "ranking", "medivac_follows"):
        assert drawn[name].mean() == pytest.approx(0.5, abs=0.12)
        assert set(drawn[name].tolist()) == {0, 1}
    assert set(drawn["scan_period"].tolist()) == {4, 5, 6, 7, 8}
    for name, low, high in (("standing_weight", 0.1, 0.3), ("spawn_jitter", 0.0, 0.25)):
        assert low <= drawn[name].min() < low + 0.02 * (high - low) * 5
        assert high - 0.02 * (high - low) * 5 < drawn[name].max() <= high
    assert drawn["creep_decay"].all()  # what is fixed stays as it was chosen
    assert not laws(creep_decay=False)["creep_decay"].any()


def test_random_physics_are_drawn_anew_for_every_episode_and_alike_for_a_seed():
    once, again, later, other = laws(), laws(), laws(episodes=2), laws(seed=2)
    assert (once == again).all()
    assert (once["standing_weight"] != later["standing_weight"]).all()
    assert (once["standing_weight"] != other["standing_weight"]).all()
    alone = BattleEnvironment("3m", seed=1, first=7, physics="random")
    alone.reset()
    assert (alone._laws[0] == once[7]).all()


def test_random_physics_stay_for_the_whole_battle_and_are_saved_with_it():
    env = BattleEnvironment("3m", num_envs=2, seed=1, physics="random")
    view = env.reset()
    before = env._laws.copy()
    for _ in range(3):
        view = env.step(random_legal(view, torch.Generator().manual_seed(0)))
    assert (env._laws == before).all()
    other = BattleEnvironment("3m", num_envs=2, seed=5, physics="random")
    other.load_state_dict(env.state_dict())
    assert (other._laws == before).all()


@pytest.mark.parametrize(
    ("switch", "words"),
    [
        ({"formation": "wedge"}, "Unknown formation 'wedge'. Expected 'rings' or 'square'."),
        ({"ranking": "weakest"}, "Unknown ranking 'weakest'. Expected 'nearest' or 'threat'."),
        ({"pathing": "left"}, "Unknown pathing 'left'. Expected 'likely', 'inner' or 'outer'."),
        ({"medivac_follows": "yes"}, "Unknown medivac_follows 'yes'. Expected False or True."),
        ({"creep_decay": 2}, "Unknown creep_decay 2. Expected False or True."),
        ({"spawn_jitter": 1.5}, "spawn_jitter must be a number, at least 0 and at most 1, got 1.5."),
        ({"spawn_jitter": "0.1"}, "spawn_jitter must be a number, at least 0 and at most 1, got '0.1'."),
        ({"scan_period": 0}, "scan_period must be a whole number, at least 1 and at most 100, got 0."),
        ({"scan_period": 4.5}, "scan_period must be a whole number, at least 1 and at most 100, got 4.5."),
        ({"standing_weight": 0}, "standing_weight must be a number, at least 0.01 and at most 1, got 0."),
        ({"standing_weight": float("nan")}, "standing_weight must be a number, at least 0.01 and at most 1, got nan."),
    ],
)
def test_what_cannot_be_is_refused(switch, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        Physics(**switch)


def test_physics_are_fixed_or_random():
    with pytest.raises(ValueError, match=r"Unknown physics 'drawn'\. Expected 'fixed' or 'random'\."):
        BattleEnvironment("3m", physics="drawn")
