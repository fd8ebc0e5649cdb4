import numpy as np
import torch

from qmix_lightning.envs.battle.engine import first_illegal
from tests.envs.battle.scenes import Scene


def test_a_step_is_eight_game_loops():
    step, loops = Scene("a..A", seed=4), Scene("a..A", seed=4)
    step.play()
    loops.loops(8)
    for name in ("x", "y", "health", "cooldown", "wind_up", "target"):
        assert (step.units[name] == loops.units[name]).all(), name


def test_the_last_actions_are_those_of_the_step_and_none_after_a_restart():
    scene = Scene("ab.\n...")
    scene.pacify("A")
    scene["A"]["health"] = 45
    scene.put("A", 6.0, 0.5)
    state = scene.play(a="north", b="A")["state"][0, 12 + 9 :].unflatten(0, (3, 9))
    assert state.argmax(-1).tolist() == [2, 6, 0]
    assert (state.sum(-1) == 1).all()
    assert not scene.env.reset()["state"][0, 21:].any()


def test_who_dies_in_a_loop_still_shoots_in_it_but_not_after():
    scene = Scene("a..A")
    scene["a"]["health"], scene["a"]["wind_up"] = 6, 2.5
    scene["a"]["order"], scene["a"]["target"] = 2, 3
    scene["A"]["wind_up"], scene["A"]["target"] = 0.5, 0
    scene.loops(4)
    assert (scene["a"]["health"], scene["A"]["health"]) == (0, 45)


def test_the_dead_neither_walk_nor_take_orders():
    scene = Scene("a..A")
    scene["a"]["health"] = 6
    scene["a"]["order"], scene["a"]["goal_x"], scene["a"]["goal_y"] = 1, 8.5, 20.0
    scene["A"]["wind_up"], scene["A"]["target"] = 0.5, 0
    scene.loops(2)
    place = scene.at("a")
    scene.loops(5)
    assert scene.at("a") == place
    scene.look()
    scene.play()
    assert scene.at("a") == place


def test_the_first_illegal_action_is_counted_through_all_battles():
    mask = np.ones((2, 3, 4), dtype=bool)
    mask[1, 0, 2] = False
    for actions, index in (([[0, 1, 2], [3, 2, 2]], -1), ([[0, 1, 2], [2, 9, 0]], 3), ([[0, 1, -1], [2, 0, 0]], 2)):
        assert first_illegal(mask, torch.tensor(actions).numpy()) == index
