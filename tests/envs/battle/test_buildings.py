"""A spine crawler stands where it stands."""

import pytest

from tests.envs.battle.scenes import UNITS, Scene


def crawler(drawing="A......a", **kwargs):
    scene = Scene(drawing, A="spine_crawler", **kwargs)
    scene["A"]["order"] = 0
    return scene


def test_a_spine_crawler_reaches_seven_cells_and_looks_as_far():
    # Bodies of 0.875 and 0.375: 8.25 between the centres. 25 less no armour.
    for place, health in ((0.5 + 8.25, 20), (0.5 + 8.3125, 45)):
        scene = crawler()
        scene.put("a", place, 0.5)
        scene.loops(1 + 6 + 5)
        assert scene["a"]["health"] == health


def test_it_never_walks():
    scene = crawler("a....A")
    scene.put("a", -4.0, 0.5)
    scene["A"]["order"], scene["A"]["target"] = 3, 0
    scene.loops(20)
    assert scene.at("A") == (5.5, 0.5)


def test_it_yields_to_nobody():
    scene = crawler("aA")
    scene["A"]["cooldown"] = 1e6
    scene.put("a", 1.0, 0.5)
    scene["a"]["order"], scene["a"]["goal_x"], scene["a"]["goal_y"] = 1, 30.0, 8.5
    scene.loops(40)
    assert scene.at("A") == (1.5, 0.5)
    assert scene.at("a")[0] <= 1.5 - 0.875 - 0.375 + 1 / 128


def test_a_target_that_leaves_its_reach_meanwhile_is_spared():
    # No slop, where other weapons have one cell of it.
    scene = crawler()
    scene.loops(3)
    assert scene["A"]["wind_up"] > 0
    scene.put("a", 0.5 + 8.5, 0.5)
    scene.loops(20)
    assert scene["a"]["health"] == 45
    assert scene["A"]["wind_up"] == 0


@pytest.mark.parametrize(("victim", "loss"), [("stalker", 30), ("zealot", 25), ("marauder", 29), ("marine", 25)])
def test_armoured_units_suffer_five_more(victim, loss):
    scene = crawler("A....a", a=victim)
    strength = scene["a"]["health"] + scene["a"]["shield"]
    scene.loops(1 + 6 + 5)
    assert UNITS[int(scene["A"]["target"])] == "a"
    assert scene["a"]["health"] + scene["a"]["shield"] == strength - loss


def test_it_takes_a_team_of_two_stalkers_many_hits_through_its_armour_of_two():
    scene = crawler("A....a", a="stalker")
    scene["A"]["cooldown"] = 1e6
    scene.attack("a", "A")
    scene.until(lambda: scene["A"]["health"] < 300)
    assert scene["A"]["health"] == pytest.approx(300 - (14 - 2) + 0.2734 / 16)
