"""A baneling bursts when it attacks and when it is killed: 20 to all enemies within 2.2 cells, 35 to light ones."""

import pytest

from tests.envs.battle.scenes import Scene

LIGHT, OTHER = 35, 20


def beside(distance, victim="marine", **kwargs):
    """A baneling, and an enemy whose centre is so far from its own."""
    scene = Scene("a......A", a="baneling", A=victim, **kwargs)
    scene.put("A", 0.5 + distance, 0.5)
    scene["A"]["health"] = 1000
    scene.pacify("A")
    return scene


def test_a_baneling_bursts_a_quarter_of_a_cell_from_its_victim_and_the_damage_comes_a_loop_later():
    scene = beside(0.375 + 0.25 + 0.375)
    scene.attack("a", "A")
    scene.loops()
    assert (scene["a"]["health"], scene["A"]["health"]) == (0, 1000)
    scene.loops()
    assert scene["A"]["health"] == 1000 - LIGHT
    scene.loops(20)
    assert scene["A"]["health"] == 1000 - LIGHT


def test_a_baneling_rolls_to_its_victim_first():
    scene = beside(2.0)
    scene.attack("a", "A")
    # A cell to go until in reach, 2.5 / 16 = 0.15625 in a loop: seven loops, and in the eighth it bursts.
    assert scene.until(lambda: scene["a"]["health"] == 0) == 8
    assert scene.at("a")[0] == pytest.approx(1.5, abs=0.001)


@pytest.mark.parametrize(("distance", "burnt"), [(2.2 + 0.37, True), (2.2 + 0.38, False), (0.5, True)])
def test_a_killed_baneling_bursts_over_2_2_cells_to_the_edge_of_a_body(distance, burnt):
    scene = beside(distance)
    scene["a"]["hurt"] = 30
    scene.loops(2)
    assert scene["a"]["health"] == 0
    assert (scene["A"]["health"] == 1000 - LIGHT) == burnt


@pytest.mark.parametrize(
    ("victim", "loss"),
    [("zergling", LIGHT), ("hydralisk", LIGHT), ("baneling", OTHER), ("marauder", OTHER - 1), ("medivac", 0)],
)
def test_light_units_suffer_more_and_armour_counts(victim, loss):
    scene = beside(1.5, victim)
    scene["a"]["hurt"] = 30
    scene.loops(2)
    # Zerg get 0.2734 / 16 = 0.017 back in every loop that they are not whole; of 1000 they are more than whole.
    assert scene["A"]["health"] == 1000 - loss


def test_shields_absorb_a_burst():
    scene = beside(1.5, "zealot")
    scene["A"]["health"], scene["a"]["hurt"] = 100, 30
    scene.loops(2)
    assert (scene["A"]["shield"], scene["A"]["health"]) == (50 - LIGHT, 100)


def test_it_takes_two_banelings_to_kill_a_marine():
    scene = Scene("a.b..A", a="baneling", b="baneling")
    scene.pacify("A")
    for name in "ab":
        scene.attack(name, "A")
    healths = set()
    scene.until(lambda: healths.add(float(scene["A"]["health"])) or scene["A"]["health"] == 0)
    assert healths == {45, 10, 0}


def test_nobody_of_its_own_side_suffers_and_everybody_else_nearby_does():
    scene = Scene(
        """
        .bB
        AaC""",
        a="baneling",
        b="marine",
    )
    scene.pacify("A", "B", "C")
    scene["a"]["hurt"] = 30
    scene.loops(2)
    assert [scene[name]["health"] for name in "bABC"] == [45, 10, 10, 10]


def test_bursts_set_off_bursts_loop_by_loop():
    # Each takes 20 from the next, which has 15 left; they are two cells apart.
    scene = Scene("a.A.b.B", a="baneling", A="baneling", b="baneling", B="baneling")
    scene.pacify("A", "B")
    for name in "AbB":
        scene[name]["health"] = 15
    scene["a"]["hurt"] = 30
    alive = []
    for _ in range(5):
        scene.loops()
        alive.append("".join(name for name in "aAbB" if scene[name]["health"] > 0))
    assert alive == ["AbB", "bB", "B", "", ""]


def test_two_banelings_that_meet_burst_together():
    scene = Scene("a.A", a="baneling", A="baneling")
    scene.attack("a", "A")
    scene.attack("A", "a")
    scene.until(lambda: scene["a"]["health"] == 0)
    assert scene["A"]["health"] == 0


def test_who_dies_otherwise_does_not_burst():
    scene = Scene("aA", a="marine", A="zergling")
    scene.pacify("A")
    scene["a"]["hurt"] = 45
    scene.loops(3)
    assert (scene["a"]["health"], scene["A"]["health"]) == (0, 35)


def test_a_baneling_hits_nothing_but_by_its_burst():
    scene = beside(1.0, "zealot")
    scene["A"]["health"] = 100
    scene.attack("a", "A")
    scene.loops(3)
    assert (scene["A"]["shield"], scene["A"]["health"]) == (15, 100)


def test_the_enemies_are_paid_for_with_the_health_of_a_baneling_that_bursts():
    # As SMAC sees it, it just died: 30 + 10 of 3 (30 + 10) + 200 = 320, with the two others dead.
    scene = Scene("a.....\n.....A", A="baneling", B="baneling", C="baneling")
    scene["B"]["health"] = 30
    scene.put("B", 1.5, 4.0)
    scene.put("A", 0.5, 2.0)
    scene.pacify("B")
    scene.attack("A", "a")
    assert scene.play(a="stop")["reward"].item() == pytest.approx(40 * 20 / 320)
    assert scene["a"]["health"] == 10
