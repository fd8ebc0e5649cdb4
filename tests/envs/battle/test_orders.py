import pytest

from qmix_lightning.envs.battle.state import ATTACK, IDLE, MOVE
from tests.envs.battle.scenes import Scene


@pytest.mark.parametrize(
    ("direction", "goal"), [("north", (0.5, 2.5)), ("south", (0.5, -1.5)), ("east", (2.5, 0.5)), ("west", (-1.5, 0.5))]
)
def test_a_move_leads_two_cells_away(direction, goal):
    scene = Scene("a")
    scene.play(a=direction)
    assert scene["a"]["order"] == MOVE
    assert (scene["a"]["goal_x"] - 8, scene["a"]["goal_y"] - 8) == goal


def test_an_attack_names_its_enemy():
    scene = Scene("a..A\n...B")
    scene.pacify("A", "B")
    scene.play(a="B")
    assert (scene["a"]["order"], scene["a"]["target"]) == (ATTACK, 4)
    assert (scene["A"]["health"], scene["B"]["health"]) == (45, 39)


def test_stop_ends_a_walk():
    scene = Scene("a")
    scene.play(a="east")
    scene.play(a="stop")
    assert scene["a"]["order"] == IDLE
    assert scene.at("a") == (1.625, 0.5)


def test_an_attack_on_a_target_that_flees_is_a_pursuit():
    scene = Scene("a.....A", goal=(31.5, 8.5))
    scene["A"]["cooldown"] = 1e6
    scene["A"]["order"], scene["A"]["target"] = 1, -1
    start = scene.at("a")[0]
    scene.put("A", 8.5, 0.5)
    scene.play(a="A")
    assert scene.at("a")[0] == pytest.approx(start + 1.125)


def test_an_order_lasts_for_one_step_of_eight_loops():
    scene = Scene("ab")
    scene.play(a="north", b="south")
    assert (scene.at("a")[1], scene.at("b")[1]) == (1.625, -0.625)
    scene.play(b="south")
    assert (scene.at("a")[1], scene.at("b")[1]) == (1.625, -1.75)
