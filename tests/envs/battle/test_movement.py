import numpy as np
import pytest

from qmix_lightning.envs.battle.movement import OVERLAP_TOLERANCE
from tests.envs.battle.scenes import Scene


def test_a_marine_walks_nine_eighths_of_a_cell_in_a_step():
    for direction, (dx, dy) in {"north": (0, 1), "south": (0, -1), "east": (1, 0), "west": (-1, 0)}.items():
        scene = Scene("a")
        scene.play(a=direction)
        assert scene.at("a") == (0.5 + 1.125 * dx, 0.5 + 1.125 * dy)


def test_a_marine_walks_2_25_cells_a_second_16_loops_long():
    scene = Scene("a........A", goal=(0.0, 8.5))
    scene.loops()
    assert scene.at("A") == (9.5 - 0.140625, 0.5)
    scene.loops(3)
    assert scene.at("A") == (9.5 - 4 * 0.140625, 0.5)


def test_a_walk_ends_at_its_goal():
    scene = Scene("A", goal=(8.5 + 0.2, 8.5))
    scene.loops(5)
    assert scene.at("A") == pytest.approx((0.7, 0.5))


def test_who_must_approach_walks_straight_until_in_reach_and_no_farther():
    scene = Scene("a....A")
    scene.put("A", 6.5, 0.5)  # gap 5.25: two loops of 0.140625 to go
    scene.pacify("A")
    scene.play(a="A")
    assert scene.gap("a", "A") == pytest.approx(5.0, abs=1 / 2048)
    assert scene.gap("a", "A") <= 5
    assert scene["A"]["health"] == 39


def test_rounding_leaves_nobody_just_out_of_reach():
    angles = np.linspace(0, 2 * np.pi, 97)
    for angle in angles:
        scene = Scene("A")
        scene.pacify("A")
        scene["a"]["health"] = 45
        scene.put("a", 0.5 + 5.9 * np.cos(angle), 0.5 + 5.9 * np.sin(angle))
        scene.look()
        scene.play(a="A")
        assert scene["A"]["health"] == 39


def test_nobody_walks_into_a_wall():
    scene = Scene("""
        ######
        #.a..#
        ######""")
    scene.play(a="north")
    assert scene.at("a") == (2.5, 1.5)  # 1.5 + 0.140625 would leave less than 0.375 to the wall at 2
    scene.play(a="east")
    assert scene.at("a") == (3.625, 1.5)


def test_a_unit_that_touches_a_wall_can_walk_along_it():
    scene = Scene("""
        ####
        .a..""")
    scene.put("a", 1.5, 0.625)
    scene.play(a="east")
    assert scene.at("a") == (2.625, 0.625)


def test_a_unit_slides_along_the_wall_that_is_in_its_way_without_losing_speed():
    scene = Scene(
        """
        ..........
        ....#.....
        ....#.....
        ....#...A.
        ....#.....""",
        goal=(8.0, 13.0),
    )
    # Over the end of the wall, at (4.5, 4.5) and five cells away: 5 / 0.140625 = 35.6 loops.
    assert scene.until(lambda: scene.at("A")[0] < 4.5) == pytest.approx(36, abs=3)
    assert scene.at("A")[1] >= 4.375


def test_nobody_is_pushed_into_a_wall():
    scene = Scene("""
        ######
        .a.b..
        ######""")
    scene.put("a", 1.5, 0.5 + 0.1)
    scene.put("b", 1.5, 0.5 + 0.05)
    scene.loops(30)
    for name in "ab":
        x, y = scene.at(name)
        assert 1.375 <= y + 1 <= 1.625
        assert 0 < x < 6


def test_overlapping_units_push_each_other_apart_in_equal_shares():
    scene = Scene("a.b")
    scene.put("b", 0.5 + 0.25, 0.5)
    scene.loops()
    (x, _), (u, _) = scene.at("a"), scene.at("b")
    assert u - x == pytest.approx(0.75)
    assert x + u == pytest.approx(1.25)


def test_who_stands_yields_a_sixth_to_who_walks():
    scene = Scene("ab")
    scene.put("b", 1.25, 0.5)  # they just touch
    scene.look()
    scene["a"]["order"], scene["a"]["goal_x"], scene["a"]["goal_y"] = 1, 20.0, 8.5
    scene.loops()
    overlap = 0.140625
    assert scene.at("b")[0] == pytest.approx(1.25 + overlap / 6)
    assert scene.at("a")[0] == pytest.approx(0.5 + overlap / 6)


def test_a_crowd_comes_to_rest_without_overlap():
    scene = Scene("""
        .ab
        .c.""")
    for name, place in {"a": (1.0, 1.0), "b": (1.1, 1.0), "c": (1.0, 1.2)}.items():
        scene.put(name, *place)
    scene.loops(20)
    resting = scene.units.copy()
    assert all(scene.gap(*pair) >= -OVERLAP_TOLERANCE for pair in ("ab", "ac", "bc"))
    scene.loops(5)
    assert (scene.units["x"] == resting["x"]).all()
    assert (scene.units["y"] == resting["y"]).all()


def test_two_units_on_one_spot_part():
    scene = Scene("a")
    scene["b"]["health"] = 45
    scene.put("b", *scene.at("a"))
    scene.loops()
    assert scene.gap("a", "b") == pytest.approx(0)


def test_the_order_of_the_units_does_not_matter():
    places = {"a": (1.0, 1.0), "b": (1.5, 1.1), "c": (1.2, 1.4)}
    ends = []
    for order in ("abc", "cab", "bca"):
        scene = Scene("a..\nb..\nc..")
        for name, place in zip(order, places.values(), strict=True):
            scene.put(name, *place)
        scene.loops(3)
        ends.append([scene.at(name) for name in order])
    np.testing.assert_allclose(ends[1], ends[0], atol=1e-5)
    np.testing.assert_allclose(ends[2], ends[0], atol=1e-5)


def test_the_dead_are_not_in_the_way():
    scene = Scene("ab")
    scene.put("b", 0.6, 0.5)
    scene["b"]["health"] = 0
    scene.loops(3)
    assert scene.at("a") == (0.5, 0.5)


def test_who_comes_to_fight_walks_around_those_who_fight_already():
    scene = Scene("........\n.aAB....\n........", a="zealot", A="zergling", B="zergling")
    scene.play(6)
    assert scene.gap("a", "A") <= 0.1
    assert scene.gap("a", "B") <= 0.1


def test_without_surrounding_it_queues_behind_them():
    scene = Scene("........\n.aAB....\n........", a="zealot", A="zergling", B="zergling", options={"surround": False})
    scene.play(6)
    assert scene.gap("a", "A") <= 0.1
    assert scene.gap("a", "B") > 0.5


def test_who_comes_to_fight_passes_on_the_other_side_where_a_wall_is():
    for wall in ("########\n.aAB....\n........", "........\n.aAB....\n########"):
        scene = Scene(wall, a="zealot", A="zergling", B="zergling")
        scene.play(12)
        assert scene.gap("a", "B") <= 0.1
