import pytest

from tests.envs.battle.scenes import NEVER, Scene


def under_fire(shooter="stalker", victim="stalker", **kwargs):
    """Agent a is ordered to shoot at A, which only stands there."""
    scene = Scene("a.A", a=shooter, A=victim, **kwargs)
    scene.pacify("A")
    scene.attack("a", "A")
    return scene


def strengths(scene, hits):
    """Shield and health of A after each of the first hits."""
    seen = []
    while len(seen) < hits:
        before = scene["A"]["shield"] + scene["A"]["health"]
        scene.until(lambda before=before: scene["A"]["shield"] + scene["A"]["health"] < before)
        seen.append((float(scene["A"]["shield"]), float(scene["A"]["health"])))
    return seen


def test_a_stalker_kills_a_stalker_shield_first_and_then_against_its_armour():
    # 10 + 4 against armoured: the shield of 80 takes five whole hits, and 10 of the sixth, of whose other 4 the armour
    # takes 1; then 14 - 1 a hit: 77 - 13 k.
    expected = [(80 - 14 * k, 80) for k in range(1, 6)] + [(0, 77)] + [(0, max(77 - 13 * k, 0)) for k in range(1, 7)]
    assert strengths(under_fire(), 12) == expected


def test_a_shield_has_no_armour():
    # A marine's 6 on a zealot of armour 1: six from the shield of 50, not five, and 2 of the ninth.
    expected = [(50 - 6 * k, 100) for k in range(1, 9)] + [(0, 100 - (6 - 2 - 1)), (0, 92)]
    assert strengths(under_fire("marine", "zealot"), 10) == expected


@pytest.mark.parametrize(("shield", "health"), [(13.75, 79.5), (13, 79.5), (12.5, 79.5), (12.25, 79.25), (14, 80)])
def test_what_is_left_of_a_hit_takes_half_a_point_at_least(shield, health):
    # 14 - 13.75 - 1 < 0.5 and 14 - 13 - 1 < 0.5 and 14 - 12.5 - 1 = 0.5, but 14 - 12.25 - 1 = 0.75.
    scene = under_fire()
    scene["A"]["shield"] = shield
    assert strengths(scene, 1) == [(0, health)]


def test_two_hits_in_one_loop_share_what_is_left_of_the_shield():
    # 20 from the shield of 20; of the second hit's 14 no more than 6 of it, and 14 - 6 - 1 = 7 from the health.
    scene = Scene("ab.A", a="stalker", b="stalker", A="stalker")
    scene.pacify("A")
    scene["A"]["shield"] = 20
    for name in "ab":
        scene[name]["flight"], scene[name]["flight_target"] = 1, 3
    scene.loops()
    assert (scene["A"]["shield"], scene["A"]["health"]) == (0, 80 - 7)


@pytest.mark.parametrize("side", ["a", "A"])
def test_a_shield_comes_back_160_loops_after_the_last_damage_by_an_eighth_a_loop(side):
    scene = Scene(side, **{side: "zealot"})
    scene.pacify(side)
    scene[side]["shield"], scene[side]["calm"] = 50 - 6, 1  # hit in the loop before these
    assert scene.until(lambda: scene[side]["shield"] > 44) == 160
    assert scene[side]["shield"] == 44.125
    scene.loops(15)
    assert scene[side]["shield"] == 46  # 2 a second of 16 loops
    scene.loops(31)
    assert scene[side]["shield"] == 49.875
    scene.loops(40)
    assert scene[side]["shield"] == 50


def test_every_hit_begins_the_160_loops_anew():
    scene = under_fire("marine")
    scene.until(lambda: scene["A"]["shield"] == 74)
    scene["a"]["order"], scene["a"]["target"] = 0, -1
    scene.loops(100)
    scene["a"]["flight"], scene["a"]["flight_target"] = 1, 3
    scene.loops()
    assert scene["A"]["shield"] == 68
    scene.loops(159)
    assert scene["A"]["shield"] == 68
    scene.loops()
    assert scene["A"]["shield"] == 68.125


def test_a_hit_on_the_health_alone_delays_the_shield_too():
    scene = under_fire("marine")
    scene["A"]["shield"], scene["A"]["calm"], scene["a"]["cooldown"] = 0, 159, 0
    scene.until(lambda: scene["A"]["health"] < 80)
    scene["a"]["cooldown"] = NEVER
    scene.loops(159)
    assert scene["A"]["shield"] == 0
    scene.loops()
    assert scene["A"]["shield"] == 0.125


def test_the_dead_have_no_shield():
    scene = under_fire("marauder")
    scene["A"]["health"], scene["A"]["shield"] = 5, 1
    scene.until(lambda: scene["A"]["health"] == 0)
    scene.loops(170)
    assert (scene["A"]["health"], scene["A"]["shield"]) == (0, 0)


def test_what_a_hit_takes_from_the_shield_counts_for_the_reward():
    scene = Scene("a.A\n...\nB..", a="marine", A="stalker", B="stalker")
    scene.pacify("A", "B")
    # 6 of 3 (80 + 80 + 10) + 200 with the third enemy, a marine of 45: 2 * 160 + 45 + 30 + 200 = 595.
    assert scene.play(a="A")["reward"].item() == pytest.approx(6 * 20 / 595)
