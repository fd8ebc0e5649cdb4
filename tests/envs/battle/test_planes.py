"""The ground, above it and the air: who is in whose way, and whom which weapons reach."""

from dataclasses import replace

import pytest

from qmix_lightning.envs.battle.unit_types import load_unit
from tests.envs.battle.scenes import Scene

WALL = """
    ...#...
    ...#...
    a..#...
    ...#...
    ...#..."""


def sent(drawing, unit, goal):
    """Agent a of this type, on its way to a goal."""
    scene = Scene(drawing, a=unit)
    scene["a"]["order"], (scene["a"]["goal_x"], scene["a"]["goal_y"]) = 1, goal
    return scene


@pytest.mark.parametrize(("unit", "speed"), [("colossus", 2.25), ("medivac", 2.75)])
def test_a_colossus_steps_and_a_medivac_flies_over_a_wall(unit, speed):
    scene = sent(WALL, unit, (14.5, 10.5))
    # 6 cells, by a medivac with nine loops more, in which it comes to full speed.
    loops = scene.until(lambda: scene.at("a")[0] > 6.49)
    assert loops == pytest.approx(6 / (speed / 16) + 9 * (unit == "medivac"), abs=2)
    assert scene.at("a")[1] == 2.5


def test_who_walks_on_the_ground_walks_around_it():
    scene = sent(WALL, "marine", (14.5, 10.5))
    norths = []
    scene.until(lambda: norths.append(abs(scene.at("a")[1] - 2.5)) or scene.at("a")[0] > 6.49)
    assert max(norths) >= 2.5 + 0.375  # past an end of the wall


@pytest.mark.parametrize(("unit", "radius"), [("colossus", 0.75), ("medivac", 0.75), ("marine", 0.375)])
def test_units_of_a_plane_push_each_other(unit, radius):
    scene = Scene("ab", a=unit, b=unit)
    scene.put("b", 0.75, 0.5)
    scene.loops(3)
    (x, _), (u, _) = scene.at("a"), scene.at("b")
    assert u - x == pytest.approx(2 * radius, abs=1 / 128)


@pytest.mark.parametrize("pair", [("colossus", "marine"), ("medivac", "marine"), ("colossus", "medivac")])
def test_units_of_different_planes_do_not(pair):
    scene = Scene("ab", a=pair[0], b=pair[1])
    scene.put("b", 0.75, 0.5)
    scene.loops(3)
    assert (scene.at("a"), scene.at("b")) == ((0.5, 0.5), (0.75, 0.5))


@pytest.mark.parametrize(("shooter", "hit"), [("marine", 5), ("zealot", 7), ("stalker", 13), ("zergling", 4)])
def test_a_colossus_is_within_reach_from_the_ground(shooter, hit):
    scene = Scene("aA", a=shooter, A="colossus")
    scene.pacify("A")
    scene["A"]["shield"] = 0
    scene.attack("a", "A")
    scene.until(lambda: scene["A"]["health"] < 200)
    assert scene["A"]["health"] == 200 - hit  # armour of 1


def test_weapons_against_the_air_reach_a_colossus_and_not_the_ground():
    marine, colossus, medivac = load_unit("marine"), load_unit("colossus"), load_unit("medivac")
    flak = replace(marine, weapon=replace(marine.weapon, targets=("air",)))
    assert [flak.damage_to(other) for other in (marine, colossus, medivac)] == [0, 6, 6]


def test_a_colossus_does_not_reach_the_air():
    scene = Scene("a..A", a="colossus", A="medivac")
    scene.play(a="A")
    assert scene["a"]["target"] == -1
    assert scene["A"]["health"] == 150


@pytest.mark.parametrize("unit", ["colossus", "medivac"])
def test_who_is_not_on_the_ground_still_stays_on_the_map(unit):
    scene = sent("a", unit, (-5.0, -5.0))
    scene.put("a", -7.0, -7.0)
    scene.loops(60)
    assert (scene["a"]["x"], scene["a"]["y"]) == pytest.approx((0, 0), abs=0.2)
    assert min(scene["a"]["x"], scene["a"]["y"]) >= 0


def test_a_crowd_around_a_colossus_fills_its_feet():
    scene = Scene(
        """
        .B.
        ACa""",
        a="colossus",
        A="zergling",
        B="zergling",
        C="zergling",
    )
    scene["a"]["shield"] = 1000
    scene.loops(60)
    # They end up in reach, 0.1 from edge to edge of bodies of 1 and 0.375, or nearer: nobody holds them off.
    assert all(scene.gap(name, "a") <= 0.1 for name in "ABC")
