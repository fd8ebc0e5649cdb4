import pytest
import torch

from qmix_lightning.envs.battle.env import BattleEnvironment
from tests.envs.battle.policies import nearest, play
from tests.envs.battle.scenes import Scene

SCALE = 20 / (3 * 45 + 3 * 10 + 200)  # 20 / 365 on 3m


def test_the_rewards_of_a_won_battle_sum_to_twenty():
    returns, won, _ = play(BattleEnvironment("3m", num_envs=64, seed=2), nearest)
    assert won.any()
    torch.testing.assert_close(returns[won], torch.full_like(returns[won], 20.0), rtol=0, atol=1e-4)


def test_a_hit_is_worth_its_damage():
    scene = Scene("a..A\n...B")
    scene.pacify("A", "B")
    assert scene.play(a="A")["reward"].item() == pytest.approx(6 * SCALE)


def test_a_death_is_worth_the_health_that_was_left_and_ten():
    scene = Scene("a..A\n...B")
    scene.pacify("A", "B")
    scene["A"]["health"] = 3
    assert scene.play(a="A")["reward"].item() == pytest.approx((3 + 10) * SCALE)
    assert scene.play()["reward"].item() == 0


def test_a_victory_is_worth_two_hundred_more():
    scene = Scene("a..A")
    scene.pacify("A")
    scene["A"]["health"] = 3
    outcome = scene.play(a="A")
    assert outcome["reward"].item() == pytest.approx((3 + 10 + 200) * SCALE)
    assert outcome["info", "battle_won"].item()
    assert outcome["terminated"].item()
    assert outcome["info", "dead_enemies"].item() == 3


def test_losing_units_and_the_battle_costs_nothing():
    scene = Scene("a..A")
    scene["a"]["health"] = 3
    outcome = scene.play()
    assert outcome["reward"].item() == 0
    assert outcome["terminated"].item()
    assert outcome["done"].item()
    assert not outcome["info", "battle_won"].item()
    assert outcome["info", "dead_allies"].item() == 3


def test_a_draw_is_terminated_and_not_won():
    scene = Scene("a..A")
    for one, other in (("a", 3), ("A", 0)):
        scene[one]["health"], scene[one]["wind_up"], scene[one]["target"] = 6, 0.5, other
    scene["a"]["order"] = 2
    outcome = scene.play(a="A")
    assert outcome["info", "dead_allies"].item() == outcome["info", "dead_enemies"].item() == 3
    assert outcome["terminated"].item()
    assert not outcome["info", "battle_won"].item()
    assert outcome["reward"].item() == pytest.approx((6 + 10) * SCALE)


MEDIVACS = {"b": "medivac", "B": "medivac"}


@pytest.mark.parametrize(
    ("alive", "won", "decided"),
    [
        ("abAB", False, False),
        ("abA", False, False),
        ("aAB", False, False),
        ("abB", True, True),  # medivacs alone are beaten
        ("aB", True, True),
        ("bAB", False, True),
        ("bA", False, True),
        ("bB", False, True),  # and the agents' first
        ("b", False, True),
        ("B", False, True),
    ],
)
def test_medivacs_alone_lose(alive, won, decided):
    scene = Scene("a...b\n.....\nA...B", **MEDIVACS)
    scene.pacify("A", "B")
    for name in set("abAB") - set(alive):
        scene[name]["health"] = 0
    scene.look()
    outcome = scene.play()
    assert outcome["info", "battle_won"].item() == won
    assert outcome["terminated"].item() == decided


def test_where_there_are_no_medivacs_everybody_counts():
    scene = Scene("a...A", a="baneling", A="baneling")
    scene.pacify("A")
    outcome = scene.play()
    assert not outcome["terminated"].item()
    scene["a"]["hurt"] = scene["A"]["hurt"] = 30
    outcome = scene.play()
    assert outcome["terminated"].item()
    assert not outcome["info", "battle_won"].item()


def test_shields_that_come_back_pay_for_nothing_being_done():
    # SMAC's absolute value: 8 loops of 0.125 in the reward of a step in which nobody is hurt.
    scene = Scene("a.......A", A="stalker", B="stalker", C="stalker")
    scene.pacify("A")
    scene["A"]["shield"], scene["A"]["calm"] = 40, 160
    assert scene.play()["reward"].item() == pytest.approx(1 * 20 / (3 * 170 + 200))
    scene["A"]["shield"] = 79.5
    assert scene.play()["reward"].item() == pytest.approx(0.5 * 20 / (3 * 170 + 200))
