"""A colossus burns a line across its shot: 1.25 cells to either side of the target, and 0.15 to the next body's edge.

It winds up for 0.0832 * 16 = 1.33 loops, hence shoots in the third; 0.25 * 16 = 4 loops later it burns who stands
beside the target, and 0.375 * 16 = 6 loops later the target itself, 20 twice each.
"""

import math

import pytest

from tests.envs.battle.scenes import Scene

SHOT, ASIDE, MAIN = 3, 4, 6
BODY = 0.375  # of a marine


def line(aside=(0.0, 1.0), main="marine", side="marine", turn=0.0):
    """A colossus shoots at A, five cells off; B stands ``aside`` of A: along the shot, and across it."""
    scene = Scene("a......\n......A\nB......", a="colossus", A=main, B=side)
    along, across = aside
    cos, sin = math.cos(turn), math.sin(turn)
    scene.put("a", 0.5, 0.5)
    scene.put("A", 0.5 + 5 * cos, 0.5 + 5 * sin)
    scene.put("B", 0.5 + (5 + along) * cos - across * sin, 0.5 + (5 + along) * sin + across * cos)
    scene["A"]["health"] = scene["B"]["health"] = 1000
    scene.pacify("A", "B")
    scene.attack("a", "A")
    return scene


def test_who_stands_beside_the_target_burns_after_four_loops_and_the_target_after_six():
    scene = line()
    scene.loops(SHOT + ASIDE - 1)
    assert scene["B"]["health"] == 1000
    scene.loops()
    assert (scene["A"]["health"], scene["B"]["health"]) == (1000, 960)
    scene.loops(MAIN - ASIDE - 1)
    assert scene["A"]["health"] == 1000
    scene.loops()
    assert (scene["A"]["health"], scene["B"]["health"]) == (960, 960)


@pytest.mark.parametrize(
    ("aside", "burns"),
    [
        ((0.0, 1.25 + 0.15 + BODY - 0.01), True),  # 1.765 across the shot
        ((0.0, 1.25 + 0.15 + BODY + 0.01), False),
        ((0.0, -(1.25 + 0.15 + BODY) + 0.01), True),
        ((0.0, -(1.25 + 0.15 + BODY) - 0.01), False),
        ((0.15 + BODY - 0.01, 1.0), True),  # behind the line by 0.515
        ((0.15 + BODY + 0.01, 1.0), False),
        ((-0.15 - BODY + 0.01, -1.25), True),
        ((-0.15 - BODY - 0.01, -1.25), False),
        ((0.36, 1.25 + 0.36), True),  # around the line's end: 0.36 * sqrt(2) = 0.509
        ((0.38, 1.25 + 0.38), False),  # 0.537
        ((-2.0, 0.0), False),  # between the colossus and its target
        ((2.0, 0.0), False),
    ],
)
def test_the_line_lies_across_the_shot(aside, burns):
    for turn in (0.0, 2.0):
        scene = line(aside, turn=turn)
        scene.loops(SHOT + MAIN)
        assert (scene["B"]["health"] == 960) == burns
        assert scene["A"]["health"] == 960


def test_a_large_body_is_on_the_line_sooner():
    # A hydralisk's body of 0.625: 1.25 + 0.15 + 0.625 = 2.025.
    for far, health in ((2.0, 960), (2.05, 1000)):
        scene = line((0.0, far), side="hydralisk")
        scene["B"]["health"] = 1000
        scene.loops(SHOT + ASIDE)
        assert scene["B"]["health"] == pytest.approx(health, abs=0.2)  # which grows by 0.017 a loop


def test_armour_counts_against_each_beam_and_shields_absorb_both():
    scene = line(main="marauder", side="zealot")
    scene["B"]["health"], scene["B"]["shield"] = 100, 50
    scene.loops(SHOT + MAIN)
    assert scene["A"]["health"] == 1000 - 2 * (20 - 1)
    assert (scene["B"]["shield"], scene["B"]["health"]) == (10, 100)


def test_two_beams_kill_a_zergling_beside_and_one_before():
    # 20 + 20 against 35.
    scene = line(main="zergling", side="zergling")
    scene["A"]["health"] = scene["B"]["health"] = 35
    scene.loops(SHOT + MAIN)
    assert scene["A"]["health"] == scene["B"]["health"] == 0


def test_nobody_of_its_own_side_burns():
    scene = Scene("a......\n.....b.\n.....A.", a="colossus", b="zergling")
    scene.pacify("A")
    scene.attack("a", "A")
    scene.put("a", 0.5, 0.5)
    scene.loops(SHOT + MAIN)
    assert scene["A"]["health"] == 5
    assert scene["b"]["health"] == 35


def test_nobody_in_the_air_burns():
    scene = line(side="medivac")
    scene.loops(SHOT + MAIN)
    assert scene["B"]["health"] == 1000


def test_the_line_turns_as_its_target_moves():
    scene = line((0.0, 1.0))
    scene.loops(SHOT)
    scene.put("A", 0.5, 5.5)  # due north of it now, and B, which is at (5.5, 1.5), far away
    scene.put("B", 1.5, 5.5)
    scene.loops(MAIN)
    assert (scene["A"]["health"], scene["B"]["health"]) == (960, 960)


def test_a_target_that_leaves_its_reach_while_it_winds_up_is_not_shot_at():
    # Six cells between bodies of 1 and 0.375, and no slop.
    for place, health in ((0.5 + 7.3125, 960), (0.5 + 7.4375, 1000)):
        scene = line()
        scene.loops()
        scene.put("A", place, 0.5)
        scene["A"]["cooldown"] = 1e6
        scene.loops(SHOT - 1 + MAIN)
        assert scene["A"]["health"] == health


def test_volleys_follow_each_other_every_35_2_loops_and_a_jitter():
    scene = line()
    scene.until(lambda: scene["A"]["health"] == 960)
    between = scene.until(lambda: scene["A"]["health"] == 920)
    assert 34 <= between <= 38  # 35.2 - 1 to 35.2 + 2, in whole loops
