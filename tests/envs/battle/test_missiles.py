"""Grenades fly 20 cells a second of 16 loops, 1.25 a loop; particles 18.75, 1.171875; spines 40, 2.5."""

import pytest

from tests.envs.battle.scenes import UNITS, Scene

RADIUS = {"marauder": 0.5625, "stalker": 0.625, "hydralisk": 0.625, "marine": 0.375}
WIND_UP = {"marauder": 0, "stalker": 3, "hydralisk": 4}  # ceil of 0, 0.167 * 16 = 2.672 and 0.208 * 16 = 3.328 loops


def shot(shooter, gap, victim="marine", **kwargs):
    """A shooter and a victim with so many cells between their edges; it begins in the first loop."""
    scene = Scene("a.......A", a=shooter, A=victim, **kwargs)
    scene.put("A", 0.5 + RADIUS[shooter] + gap + RADIUS[victim], 0.5)
    scene.pacify("A")
    scene.attack("a", "A")
    return scene


@pytest.mark.parametrize(
    ("shooter", "gap", "flight"),
    [
        ("marauder", 6.0, 5),  # 6 / 1.25 = 4.8
        ("marauder", 5.0, 4),
        ("marauder", 5.0625, 5),
        ("marauder", 2.5, 2),
        ("marauder", 0.0, 1),
        ("marauder", -0.125, 1),  # bodies overlap
        ("stalker", 6.0, 6),  # 6 / 1.171875 = 5.12
        ("stalker", 5.75, 5),  # 4.91
        ("stalker", 1.125, 1),
        ("stalker", 1.25, 2),
        ("hydralisk", 5.0, 2),
        ("hydralisk", 2.5625, 2),
        ("hydralisk", 2.5, 1),
        ("hydralisk", 0.5625, 1),
    ],
)
def test_a_missile_takes_as_many_loops_as_its_way_begins(shooter, gap, flight):
    scene = shot(shooter, gap)
    # In the first loop the attack starts; it is wound up WIND_UP loops later, and then the missile is on its way.
    assert scene.until(lambda: scene["A"]["health"] < 45) == 1 + WIND_UP[shooter] + flight


def test_a_missile_follows_its_target_and_arrives_when_it_would_have():
    scene = shot("marauder", 6.0)
    scene.loops()
    assert scene["a"]["flight"] == 5
    scene.put("A", 20.5, 5.5)
    scene.loops(4)
    assert scene["A"]["health"] == 45
    scene.loops()
    assert scene["A"]["health"] == 35


def test_a_missile_is_wasted_on_the_dead():
    # The second missile on 9 health, in the same loop or a later one, hits neither the dead nor a neighbour.
    for behind in (0, 2):
        scene = Scene("..a...A\n..b....\n......B", a="stalker", b="stalker")
        scene.put("A", 6.5, 2.0)
        scene.put("b", 2.5 - behind, 1.5)
        scene.pacify("A", "B")
        scene["A"]["health"] = 9
        for name in "ab":
            scene.attack(name, "A")
        scene.loops(4)
        assert scene["a"]["flight"] > 0
        assert (scene["b"]["flight"] > scene["a"]["flight"]) == (behind > 0)
        scene.until(lambda scene=scene: scene["A"]["health"] == 0)
        scene.loops(10)
        assert scene["B"]["health"] == 45
        assert min(scene[name]["cooldown"] for name in "ab") > 5  # both have spent their attack


def test_a_missile_flies_on_when_its_shooter_died():
    scene = shot("stalker", 6.0)
    scene.loops(4)
    assert scene["a"]["flight"] == 6
    scene["a"]["health"] = 0
    scene.loops(6)
    assert scene["A"]["health"] == 35


def test_no_order_calls_a_missile_back():
    scene = shot("stalker", 6.0)
    scene.loops(4)
    scene.look()
    scene.play(a="west")
    assert scene["A"]["health"] == 35


def test_a_shooter_that_died_winding_up_sends_nothing():
    scene = shot("stalker", 6.0)
    scene.loops(3)
    scene["a"]["health"] = 0
    scene.loops(12)
    assert scene["A"]["health"] == 45


def test_two_missiles_of_both_sides_cross_and_both_hit():
    scene = Scene("a....A", a="stalker", A="stalker")
    scene.attack("a", "A")
    scene.attack("A", "a")
    scene["a"]["health"] = scene["A"]["health"] = 10
    scene["a"]["shield"] = scene["A"]["shield"] = 0
    scene.loops(12)
    assert scene["a"]["health"] == scene["A"]["health"] == 0


@pytest.mark.parametrize(("gap", "loops"), [(0.5, 1 + 5), (0.0, 1 + 5), (-0.125, 1 + 5), (0.5625, 1 + 4 + 1)])
def test_a_hydralisk_claws_at_who_is_within_half_a_cell(gap, loops):
    # Claws wind up for 0.3 seconds = 4.8 loops and hit at once; spines for 3.328 and fly.
    scene = shot("hydralisk", gap)
    scene.loops()
    assert scene["a"]["wind_up"] == pytest.approx(4.8 if gap <= 0.5 else 3.328)
    assert 1 + scene.until(lambda: scene["A"]["health"] < 45) == loops
    assert scene["A"]["health"] == 45 - 12


def test_claws_and_spines_share_one_cooldown():
    scene = shot("hydralisk", 0.25)
    scene.until(lambda: scene["A"]["health"] < 45)
    assert 13.28 - 1 - 5 <= scene["a"]["cooldown"] <= 13.28 + 2 - 5
    scene.put("A", 4.5, 0.5)
    scene.loops(3)
    assert scene["a"]["wind_up"] == 0


def test_a_spine_crawlers_tentacle_takes_three_tenths_of_a_second_whatever_the_distance():
    for place in (3.5, 7.5):
        scene = Scene("A", A="spine_crawler", a="marauder")
        scene["a"]["health"] = 125
        scene.put("a", place, 0.5)
        scene.pacify("a")
        scene["A"]["order"] = 0
        # ceil(0.3332 * 16 = 5.33) = 6 loops of wind-up and ceil(4.8) = 5 of flight; 25 + 5 less an armour of 1.
        assert scene.until(lambda scene=scene: scene["a"]["health"] < 125) == 1 + 6 + 5
        assert scene["a"]["health"] == 125 - 29
    assert UNITS[int(scene["A"]["flight_target"])] == "a"
