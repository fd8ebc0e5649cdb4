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
