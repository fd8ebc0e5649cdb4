import pytest

from qmix_lightning.envs.battle.env import BattleEnvironment
from qmix_lightning.envs.battle.opponent import HELP_RADIUS
from qmix_lightning.envs.battle.physics import Physics
from tests.envs.battle.scenes import UNITS, Scene


def target(scene, name):
    number = int(scene[name]["target"])
    return UNITS[number] if number >= 0 else None


def test_enemies_walk_to_the_point_they_attack_move_to():
    scene = Scene("A.......", goal=(10.5, 8.5))
    scene.loops(20)
    assert scene.at("A") == pytest.approx((2.5, 0.5), abs=1e-5)


def test_an_enemy_that_walks_stops_to_shoot_the_first_it_can_reach():
    scene = Scene("a........A", goal=(8.5, 8.5))
    while scene["a"]["health"] == 45:
        scene.loops()
    assert 5 - Physics().scan_period * 0.140625 <= scene.gap("a", "A") <= 5
    assert target(scene, "A") == "a"


def test_enemies_look_for_targets_at_intervals_and_at_times_of_their_own():
    env = BattleEnvironment("3m", num_envs=64, seed=1)
    env.reset()
    assert set(env._battles["look"][:, 3:].ravel()) == set(range(Physics().scan_period))
    scene = Scene("a.......A")
    scene["A"]["order"] = 0
    scene.loops()
    scene.put("a", 8.5 - 5.75, 0.5)
    scene.loops(Physics().scan_period - 1)
    assert target(scene, "A") is None
    scene.loops()
    assert target(scene, "A") == "a"


def test_an_enemy_takes_the_nearest():
    scene = Scene("a.b..A")
    scene.loops()
    assert target(scene, "A") == "b"


def test_an_enemy_keeps_the_target_that_it_can_shoot():
    scene = Scene("a...A..b")
    scene.loops()
    assert target(scene, "A") == "b"
    scene.put("a", 3.0, 0.5)
    scene.loops(20)
    assert target(scene, "A") == "b"


def test_an_enemy_leaves_a_target_out_of_reach_for_one_within():
    scene = Scene("a.......A", goal=(8.5, 8.5))
    scene["A"]["target"] = 0
    scene.put("b", 12.0, 0.5)
    scene["b"]["health"] = 45
    scene.loops()
    assert target(scene, "A") == "b"


def test_an_enemy_pursues_a_target_that_leaves_its_reach():
    scene = Scene("a....A", goal=(31.0, 8.5))
    scene["A"]["cooldown"] = 1e6
    scene.loops()
    scene.put("a", -1.5, 0.5)
    scene.loops()
    assert target(scene, "A") == "a"
    assert scene.at("A")[0] == pytest.approx(5.5 - 0.140625)


def test_an_enemy_gives_up_a_target_beyond_its_leash():
    scene = Scene("a....A", goal=(8.5 + 5, 8.5))
    scene.loops()
    scene.put("a", 5.5 - 24.0, 0.5)
    scene["A"]["wind_up"] = 0
    scene.loops(Physics().scan_period)
    assert target(scene, "A") is None


def test_an_enemy_walks_on_when_its_target_is_dead():
    scene = Scene("a...A", goal=(8.0, 8.5))
    scene.loops(3)
    assert target(scene, "A") == "a"
    scene["a"]["health"] = 0
    scene.loops()
    assert target(scene, "A") is None
    assert scene.at("A")[0] == pytest.approx(4.5 - 0.140625)


def test_an_idle_enemy_waits_for_whoever_comes_within_five_cells():
    scene = Scene("a.......A")
    scene["A"]["order"] = 0
    scene.loops(16)
    assert target(scene, "A") is None
    assert scene.at("A") == (8.5, 0.5)
    scene.put("a", 8.5 - 5.75, 0.5)
    scene.loops(Physics().scan_period)
    assert target(scene, "A") == "a"


def test_who_is_shot_from_afar_answers_and_so_do_neighbours_without_a_target():
    scene = Scene("a......A...B....C")
    for name in "ABC":
        scene[name]["order"] = 0
    assert HELP_RADIUS == 4  # from A to B, but not from A to C
    scene["A"]["hurt"], scene["A"]["shooter"] = 6, 0
    scene.loops()
    assert [target(scene, name) for name in "ABC"] == ["a", "a", None]
    scene.loops()
    assert scene.at("B")[0] < 11.5  # and it walks to where it can shoot


def test_neighbours_that_have_a_target_keep_it():
    scene = Scene("a......A..B.b")
    for name in "AB":
        scene[name]["order"] = 0
    scene.loops()
    scene["A"]["hurt"], scene["A"]["shooter"] = 6, 0
    scene.loops()
    assert target(scene, "B") == "b"


def test_nobody_answers_a_dead_shooter():
    scene = Scene("a......A")
    scene["A"]["order"] = 0
    scene["A"]["hurt"], scene["A"]["shooter"] = 6, 0
    scene["a"]["health"] = 0
    scene.loops()
    assert target(scene, "A") is None
