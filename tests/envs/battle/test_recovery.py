"""What comes back, or goes, by itself: zerg health, and the health of buildings off creep."""

import pytest

from tests.envs.battle.scenes import Scene

RATE = 0.2734 / 16  # of all zerg: 0.0170875 a loop


@pytest.mark.parametrize("unit", ["zergling", "baneling", "hydralisk", "spine_crawler"])
def test_zerg_heal_a_quarter_of_a_point_a_second(unit):
    scene = Scene("a", a=unit)
    scene["a"]["health"] = 10
    scene.loops(160)
    assert scene["a"]["health"] == pytest.approx(10 + 160 * RATE, abs=1e-4)


@pytest.mark.parametrize("unit", ["marine", "marauder", "medivac", "zealot", "stalker", "colossus"])
def test_terran_and_protoss_do_not(unit):
    scene = Scene("a", a=unit)
    scene["a"]["health"] = 10
    scene.loops(20)
    assert scene["a"]["health"] == 10


def test_nobody_gets_better_than_whole():
    scene = Scene("a", a="zergling")
    scene["a"]["health"] = 34.99
    scene.loops(3)
    assert scene["a"]["health"] == 35


def test_zerg_heal_in_the_very_loop_in_which_they_are_hit():
    scene = Scene("a..A", A="zergling")
    scene.pacify("A")
    scene["a"]["flight"], scene["a"]["flight_target"] = 1, 3
    scene.loops()
    assert scene["A"]["health"] == pytest.approx(35 - 6 + RATE, abs=1e-5)


def test_the_dead_do_not_recover():
    scene = Scene("a", a="zergling")
    scene["a"]["hurt"] = 35
    scene.loops(10)
    assert scene["a"]["health"] == 0


def test_a_spine_crawler_off_creep_loses_three_a_second_if_that_is_switched_on():
    # 1 every 0.3332 seconds is 3.0012 a second, less 0.2734 that comes back: 300 - 10 * 2.7278 after 160 loops.
    health = {}
    for decays in (False, True):
        scene = Scene("A", A="spine_crawler", options={"creep_decay": decays})
        scene.loops(161)  # what is lost in a loop shows in the next
        health[decays] = scene["A"]["health"]
    assert health[False] == 300
    # Single precision rounds each of 320 changes by up to 1.5e-5.
    assert health[True] == pytest.approx(300 - 160 * 3.0012 / 16 + 160 * RATE, abs=0.005)


def test_off_creep_a_spine_crawler_dies_after_a_hundred_and_ten_seconds():
    scene = Scene("A", A="spine_crawler", options={"creep_decay": True})
    scene["A"]["health"] = 30
    # 30 / ((3.0012 - 0.2734) / 16) = 175.97 loops of decay; the units of the spec's estimate: ten times that for 300.
    assert scene.until(lambda: scene["A"]["health"] == 0) == 177
