import numpy as np
import pytest

from tests.envs.battle.scenes import NEVER, Scene

PERIOD = 0.8608 * 16  # 13.773 loops


def duel(**kwargs):
    """A marine and a target that never shoots, within reach of each other."""
    scene = Scene("a...A", **kwargs)
    scene.pacify("A")
    return scene


def test_a_target_at_a_gap_of_exactly_five_can_be_shot_at_once():
    scene = duel()
    scene.put("A", 6.25, 0.5)
    assert scene.gap("a", "A") == 5
    scene.play(a="A")
    assert scene["A"]["health"] == 39
    assert scene.at("a") == (0.5, 0.5)


def test_a_target_at_a_gap_of_5_01_is_approached_first():
    scene = duel()
    scene.put("A", 6.26, 0.5)
    scene["a"]["order"], scene["a"]["target"] = 2, 3
    scene.loops()
    assert scene["a"]["wind_up"] == 0
    assert scene.at("a")[0] == pytest.approx(0.51, abs=1 / 2048)
    scene.loops()
    assert scene["a"]["wind_up"] == pytest.approx(0.8)


def test_damage_lands_in_the_loop_after_the_attack_starts():
    scene = duel()
    scene["a"]["order"], scene["a"]["target"] = 2, 3
    scene.loops()
    assert scene["a"]["wind_up"] == pytest.approx(0.8)  # ceil(0.8) = 1 loop to wait
    assert scene["A"]["health"] == 45
    scene.loops()
    assert scene["a"]["wind_up"] == 0
    assert scene["A"]["health"] == 39


def test_a_cooldown_is_a_period_with_a_jitter_of_minus_one_to_two_loops():
    drawn = []
    for seed in range(200):
        scene = duel(seed=seed)
        scene["a"]["order"], scene["a"]["target"] = 2, 3
        scene.loops()
        drawn.append(scene["a"]["cooldown"] - PERIOD)
    assert -1 <= min(drawn) < -0.9
    assert 1.9 < max(drawn) <= 2
    assert np.mean(drawn) == pytest.approx(0.5, abs=0.25)


def test_no_attack_follows_another_before_the_period_has_passed():
    # The shortest period is 13.773 - 1 = 12.773 loops, so the second attack starts in the 13th loop after the first.
    waits = []
    for seed in range(60):
        scene = duel(seed=seed)
        scene.attack("a", "A")
        scene.loops()
        drawn = float(scene["a"]["cooldown"])
        for wait in range(1, 20):
            scene.loops()
            if scene["a"]["wind_up"] > 0 and wait > 1:
                break
        assert wait == np.ceil(drawn)
        waits.append(wait)
    assert min(waits) == 13
    assert max(waits) <= np.ceil(PERIOD + 2)


def test_an_attack_winds_up_also_where_bodies_overlap():
    scene = duel()
    scene.put("A", 1.2, 0.5)
    assert scene.gap("a", "A") < 0
    scene.attack("a", "A")
    scene.loops()
    assert scene["a"]["wind_up"] == pytest.approx(0.8)
    assert scene["A"]["health"] == 45


def test_attacks_follow_each_other_every_14_27_loops_on_average():
    scene = duel()
    scene["A"]["health"] = 30_000
    scene["a"]["order"], scene["a"]["target"] = 2, 3
    scene.loops(20_000)
    attacks = (30_000 - scene["A"]["health"]) / 6
    # The mean has a standard error of 0.87 / sqrt(1400) = 0.023 loops.
    assert 20_000 / attacks == pytest.approx(PERIOD + 0.5, abs=0.07)


def test_a_marine_dies_of_eight_hits_after_about_a_hundred_loops():
    scene = duel(seed=3)
    healths = []
    for _ in range(200):
        scene["a"]["order"], scene["a"]["target"] = 2, 3
        scene.loops()
        healths.append(float(scene["A"]["health"]))
        if healths[-1] == 0:
            break
    assert sorted(set(healths), reverse=True) == [45, 39, 33, 27, 21, 15, 9, 3, 0]
    assert len(healths) == pytest.approx(7 * (PERIOD + 0.5) + 2, abs=7 * 1.5)


def test_marines_that_shoot_in_the_same_loop_kill_each_other():
    scene = duel()
    for one, other in ("aA", "Aa"):
        scene[one]["health"], scene[one]["wind_up"] = 6, 0.5
        scene[one]["target"] = "abcABC".index(other)
    scene["a"]["order"] = 2
    scene.loops()
    assert scene["a"]["health"] == scene["A"]["health"] == 0


def test_damage_beyond_death_is_lost():
    scene = Scene("ab..A")
    scene.pacify("A")
    scene["A"]["health"] = 3
    scene.play(a="A", b="A")
    assert scene["A"]["health"] == 0


def test_ordering_the_same_attack_again_disturbs_nothing():
    once, again = duel(seed=1), duel(seed=1)
    for scene in (once, again):
        scene.play(a="A")
    once.loops(24)
    again.play(3, a="A")
    assert [unit["health"] for unit in once.units] == [unit["health"] for unit in again.units]
    assert once["a"]["cooldown"] == again["a"]["cooldown"]


@pytest.mark.parametrize("order", ["stop", "west", "B"])
def test_another_order_during_the_wind_up_calls_the_attack_off_at_no_cost(order):
    scene = Scene("a...A\n....B")
    scene.pacify("A", "B")
    scene["a"]["order"], scene["a"]["target"] = 2, 3
    scene.loops()
    assert scene["a"]["wind_up"] > 0
    scene.look()
    scene.play(a=order)
    assert scene["A"]["health"] == 45
    assert (scene["B"]["health"] == 39) == (order == "B")
    if order != "B":
        assert scene["a"]["cooldown"] == 0


def test_an_attack_that_has_begun_follows_its_target_one_cell_out_of_reach():
    for gap, hit in ((5.9, True), (6.1, False)):
        scene = duel()
        scene["a"]["order"], scene["a"]["target"] = 2, 3
        scene.loops()
        scene.put("A", 0.5 + 0.75 + gap, 0.5)
        scene.loops()
        assert (scene["A"]["health"] == 39) == hit
        assert scene["a"]["wind_up"] == 0
        assert (scene["a"]["cooldown"] > 0) == hit


def test_a_weapon_cools_down_while_its_marine_walks():
    scene = duel()
    scene.play(a="A")
    before = scene["a"]["cooldown"]
    scene.play(a="west")
    assert scene["a"]["cooldown"] == pytest.approx(max(before - 8, 0))
    scene.play(a="west")
    assert scene["a"]["cooldown"] == 0


def test_a_marine_with_a_hot_weapon_stands_and_waits():
    scene = duel()
    scene["a"]["cooldown"] = NEVER
    scene.play(a="A")
    assert scene.at("a") == (0.5, 0.5)
    assert scene["A"]["health"] == 45


def test_an_agent_whose_target_died_idles_and_never_chooses_one_itself():
    scene = Scene("a...A\n....B")
    scene.pacify("A", "B")
    scene["A"]["health"] = 6
    scene.play(a="A")
    assert scene["A"]["health"] == 0
    assert (scene["a"]["order"], scene["a"]["target"]) == (0, -1)
    scene.play(4)
    assert scene["B"]["health"] == 45


def test_an_agent_that_is_shot_does_not_answer():
    scene = Scene("a...A")
    scene.play(4)
    assert scene["a"]["health"] < 45
    assert scene["A"]["health"] == 45


def test_neither_side_of_a_duel_is_favoured():
    wins = {"a": 0, "A": 0, "": 0}
    for seed in range(200):
        scene = Scene("a...A", seed=seed)
        scene.attack("a", "A")
        scene.attack("A", "a")
        scene.until(lambda scene=scene: scene["a"]["health"] == 0 or scene["A"]["health"] == 0)
        wins["".join(name for name in "aA" if scene[name]["health"] > 0)] += 1
    # Seven jitters decide; a difference of three standard errors is 3 * sqrt(200) = 42.
    assert abs(wins["a"] - wins["A"]) < 42
    assert 0 < wins[""] < 50  # both in one loop
