"""A zealot strikes twice: 8 at once and 8 more 0.28 seconds later, which is 4.48 loops, hence in the fifth."""

import pytest

from tests.envs.battle.scenes import Scene


def struck(victim="marauder", drawing="aA", **kwargs):
    """A zealot next to a victim that only stands there, ordered to strike."""
    scene = Scene(drawing, a="zealot", A=victim, **kwargs)
    scene.pacify("A")
    scene.attack("a", "A")
    return scene


def test_armour_counts_against_each_blade():
    scene = struck()
    healths = []
    for _ in range(9):
        scene.loops()
        healths.append(scene["A"]["health"])
    # Its damage point is 0: the first in the loop of the attack, the second ceil(4.48) = 5 loops later; 8 - 1 each.
    assert healths == [118] * 5 + [111] * 4


def test_a_shield_takes_both_whole():
    scene = struck("zealot")
    scene.loops(6)
    assert (scene["A"]["shield"], scene["A"]["health"]) == (50 - 16, 100)


def test_the_cooldown_runs_from_the_first_blade():
    scene = struck()
    scene.loops()
    # 1.2 seconds of 16 loops and -1 to 2 loops of jitter.
    assert 19.2 - 1 <= scene["a"]["cooldown"] <= 19.2 + 2
    first = float(scene["a"]["cooldown"])
    scene.loops(5)
    assert scene["a"]["cooldown"] == pytest.approx(first - 5)


def test_the_second_blade_follows_its_victim():
    scene = struck()
    scene.loops()
    scene.put("A", 6.5, 0.5)
    scene.loops(5)
    assert scene["A"]["health"] == 111


def test_the_second_blade_strikes_whatever_the_zealot_is_told_meanwhile():
    scene = struck()
    scene.loops()
    scene.look()
    scene.play(a="west")
    assert scene["A"]["health"] == 111
    assert scene.at("a")[0] == pytest.approx(0.5 - 1.125)


def test_the_second_blade_dies_with_its_zealot():
    scene = struck()
    scene.loops(3)
    scene["a"]["health"] = 0
    scene.loops(10)
    assert scene["A"]["health"] == 118


def test_a_zealot_that_dies_in_the_loop_of_its_second_blade_still_strikes():
    scene = struck()
    scene.loops(5)
    scene["a"]["hurt"] = 1000  # in the loop to come
    scene.loops()
    assert (scene["a"]["health"], scene["A"]["health"]) == (0, 111)


def test_the_second_blade_is_wasted_on_the_dead():
    scene = struck(drawing="aA\n.B", B="marauder")
    scene.pacify("B")
    scene["A"]["health"] = 7
    scene.loops()
    assert scene["A"]["health"] == 0
    scene.loops(8)
    assert scene["B"]["health"] == 125


def test_two_zealots_at_each_other_fare_alike():
    scene = Scene("aA", a="zealot", A="zealot")
    scene.attack("a", "A")
    scene.attack("A", "a")
    scene.loops(6)
    for name in "aA":
        assert (scene[name]["shield"], scene[name]["health"]) == (34, 100)


def test_a_zealot_kills_a_marine_with_six_blades():
    # 45 = 5 * 8 + 5: the sixth, the second of the third attack.
    scene = struck("marine")
    healths = set()
    scene.until(lambda: healths.add(float(scene["A"]["health"])) or scene["A"]["health"] == 0)
    assert healths == {45 - 8 * k for k in range(6)} | {0}
