"""Nine health a second of 16 loops, 0.5625 a loop, for 0.33 energy each, of which 0.5625 a second comes back."""

import pytest

from qmix_lightning.envs.battle.state import ATTACK, HEAL, IDLE, MOVE
from tests.envs.battle.scenes import UNITS, Scene

RATE = 9 / 16
COST = 0.33 * RATE - 0.5625 / 16  # of a loop, less what comes back in it: 0.15046875


def agents(drawing="a..b", **kwargs):
    """A medivac a of the agents, and others."""
    return Scene(drawing, **{"a": "medivac", **kwargs})


def enemies(drawing="B..A", **kwargs):
    """A medivac A of the enemies, and others who never shoot."""
    scene = Scene(drawing, **{"A": "medivac", **kwargs})
    scene.pacify("B", "C")
    return scene


def target(scene, name="A"):
    return UNITS[int(scene[name]["target"])] if scene[name]["target"] >= 0 else None


def test_a_medivac_heals_nine_a_second_for_a_third_of_its_energy():
    scene = agents()
    scene["b"]["health"] = 20
    scene.play(a="b")
    assert scene["b"]["health"] == 20 + 8 * RATE
    assert scene["a"]["energy"] == pytest.approx(50 - 8 * COST)


def test_it_reaches_four_cells_from_edge_to_edge():
    # Bodies of 0.75 and 0.375: 5.125 between the centres.
    for far, start in ((5.125, 0.5), (5.1875, 0.5625)):
        scene = agents()
        scene.put("b", 0.5 + far, 0.5)
        scene["b"]["health"] = 20
        scene.play(3, a="b")
        assert scene.at("a")[0] == pytest.approx(start, abs=0.001)
        assert scene["b"]["health"] > 20 + 4


def test_nobody_is_healed_beyond_full_health_nor_paid_for():
    scene = agents()
    scene["b"]["health"] = 44.75
    scene.play(a="b")
    assert scene["b"]["health"] == 45
    assert scene["a"]["energy"] == pytest.approx(50 - 0.25 * 0.33 + 8 * 0.5625 / 16, abs=1e-4)
    assert scene["a"]["order"] == IDLE


def test_a_medivac_that_is_ordered_to_heal_spends_its_last_energy():
    scene = agents()
    scene["b"]["health"], scene["a"]["energy"] = 20, 0.1
    scene.play(a="b")
    # 0.1 / 0.33 = 0.303 in the first loop, and then what comes back in each: 0.03515625 / 0.33 = 0.1065.
    assert scene["b"]["health"] == pytest.approx(20 + 0.1 / 0.33 + 7 * 0.03515625 / 0.33, abs=1e-4)
    assert scene["a"]["energy"] == pytest.approx(0.03515625)


def test_energy_comes_back_up_to_two_hundred():
    scene = agents()
    scene["a"]["energy"] = 199.9
    scene.loops(2)
    assert scene["a"]["energy"] == pytest.approx(199.9 + 2 * 0.03515625)
    scene.loops(4)
    assert scene["a"]["energy"] == 200


@pytest.mark.parametrize("who", ["b", "c"])
def test_to_heal_the_whole_or_a_machine_is_refused_and_the_old_order_stands(who):
    scene = agents("a..b\n...c", c="stalker")
    scene["c"]["health"] = 20
    scene.play(a="east")
    before = scene.units["goal_x"].copy()
    scene.play(a=who)
    assert (scene["a"]["order"], target(scene, "a")) == (MOVE, None)
    assert scene["a"]["goal_x"] == before[0]
    assert scene["c"]["health"] == 20


def test_the_agents_medivac_heals_nobody_by_itself():
    scene = agents()
    scene["b"]["health"] = 20
    scene.play(2)
    assert scene["b"]["health"] == 20


def test_healing_ends_with_the_patients_death():
    scene = agents()
    scene["b"]["health"] = 20
    scene.play(a="b")
    scene["b"]["hurt"] = 100
    scene.loops(2)
    assert (scene["a"]["order"], target(scene, "a"), scene["b"]["health"]) == (IDLE, None, 0)


def test_healing_saves_nobody_who_is_killed_in_the_same_loop():
    scene = agents()
    scene["b"]["health"] = 6
    scene.attack("a", "b")
    scene.loops()
    scene["b"]["hurt"] = 6 + RATE
    scene.loops()
    assert scene["b"]["health"] == RATE  # 6 + 2 rates, less a shot and a rate
    scene["b"]["hurt"] = 3 * RATE
    scene.loops()
    assert scene["b"]["health"] == 0


def test_two_medivacs_heal_at_twice_the_rate():
    scene = Scene("a.c.b", a="medivac", b="medivac")
    scene["c"]["health"] = 20
    scene.play(a="c", b="c")
    assert scene["c"]["health"] == 20 + 16 * RATE


def test_the_enemies_medivac_heals_whoever_has_the_least_of_its_health_left():
    scene = enemies("B.A.C", B="marauder")
    scene["B"]["health"], scene["C"]["health"] = 60, 20  # 0.48 of 125 and 0.44 of 45
    scene.loops()
    assert target(scene) == "C"
    assert scene["C"]["health"] == 20 + RATE


def test_of_two_who_are_hurt_alike_it_heals_the_nearer():
    scene = enemies("B...A..C")
    scene["B"]["health"] = scene["C"]["health"] = 20
    scene.loops()
    assert target(scene) == "C"


def test_it_keeps_a_patient_until_that_is_whole():
    scene = enemies("B..A..C")
    scene["B"]["health"] = 44
    scene.loops()
    scene["C"]["health"] = 5
    scene.loops()
    assert target(scene) == "B"
    scene.loops(2)
    assert scene["B"]["health"] == 45
    assert target(scene) == "C"


def test_it_looks_for_patients_within_six_cells():
    # Bodies of 0.75 and 0.375: 7.125 between the centres. It is close to C, and does not follow B.
    for far, found in ((7.125, "B"), (7.1875, None)):
        scene = enemies("B.......AC")
        scene.put("B", 8.5 - far, 0.5)
        scene["B"]["health"] = 20
        scene.loops()
        assert target(scene) == found


def test_it_heals_neither_machines_nor_itself_nor_the_agents():
    scene = enemies("B..A", B="stalker", a="marine")
    scene["a"]["health"] = 20
    scene.put("a", 3.5, 1.5)
    scene["A"]["health"] = scene["B"]["health"] = 20
    scene.loops(8)
    assert target(scene) is None
    assert [scene[name]["health"] for name in "ABa"] == [20, 20, 20]


def test_it_begins_with_five_energy_and_goes_on_with_less():
    scene = enemies()
    scene["B"]["health"], scene["A"]["energy"] = 20, 5 - 3 * 0.03515625
    scene.loops(3)
    assert (target(scene), scene["B"]["health"]) == (None, 20)
    scene.loops(2)
    assert scene["A"]["energy"] < 5
    assert scene["B"]["health"] == 20 + 2 * RATE


@pytest.mark.parametrize("follows", [True, False])
def test_it_follows_its_army_or_stays(follows):
    scene = enemies("B........A", options={"medivac_follows": follows})
    scene.loops(80)
    if follows:  # up to a cell between the edges, of bodies of 0.75 and 0.375
        assert 1 - 0.171875 <= scene.gap("A", "B") <= 1
    else:
        assert scene.at("A") == (9.5, 0.5)


def test_it_follows_nobody_who_cannot_fight():
    scene = enemies("B........A", B="medivac")
    scene.loops(40)
    assert scene.at("A") == (9.5, 0.5)


def test_a_medivac_takes_nineteen_loops_to_full_speed():
    # 2.3125 cells a second squared are 0.009033 a loop, each loop, up to 2.75 / 16 = 0.171875.
    scene, places = agents("a"), []
    for _ in range(4):
        scene.play(a="east")
        places.append(scene.at("a")[0] - 0.5)
    rate = 2.3125 / 256
    expected = [sum(min(rate * (k + 1), 0.171875) for k in range(8 * step)) for step in range(1, 5)]
    assert places == pytest.approx(expected, abs=1e-4)
    assert expected[3] - expected[2] == 8 * 0.171875
    scene.play()
    scene.play(a="east")
    assert scene.at("a")[0] - 0.5 == pytest.approx(expected[3] + expected[0], abs=1e-4)  # from rest again


def test_a_zealot_cannot_attack_a_medivac_and_a_stalker_can():
    scene = Scene("ab.A", a="zealot", b="stalker", A="medivac")
    scene.play(a="north", b="south")
    scene.play(a="A", b="A")
    assert (scene["a"]["order"], scene["b"]["order"]) == (MOVE, ATTACK)
    scene.play(a="A", b="A")
    assert scene["A"]["health"] == 150 - (14 - 1)  # armour of 1


def test_an_enemy_zealot_leaves_medivacs_alone():
    scene = Scene("a.bA", a="medivac", A="zealot")
    scene.put("a", 3.0, 1.0)
    scene.loops()
    assert target(scene) == "b"


def test_an_order_to_heal_names_its_patient():
    scene = agents()
    scene["b"]["health"] = 20
    scene.play(a="b")
    assert (scene["a"]["order"], target(scene, "a")) == (HEAL, "b")
