import numpy as np
import pytest
import torch

from qmix_lightning.envs.battle.env import BattleEnvironment
from tests.envs.battle import oracle
from tests.envs.battle.policies import nearest, random_legal
from tests.envs.battle.scenes import UNITS, Scene


def check_views(env, b, view, last_action):
    n_agents, units, walkable = env.spec.n_agents, oracle.raw(env._battles[b]), env.world.ground > 0
    for i in range(n_agents):
        legal = oracle.mask(units, n_agents, walkable, i)
        assert view["agents", "action_mask"][b, i].tolist() == legal
        np.testing.assert_array_equal(
            view["agents", "observation"][b, i].numpy(), oracle.observation(units, n_agents, walkable, i)
        )
    np.testing.assert_array_equal(view["state"][b].numpy(), oracle.state(units, n_agents, last_action))


@pytest.mark.parametrize("name", ["3m", "8m", "25m", "5m_vs_6m", "8m_vs_9m", "10m_vs_11m", "27m_vs_30m"])
def test_everything_shown_is_what_smac_shows(name):
    env = BattleEnvironment(name, num_envs=2, seed=3)
    generator, view = torch.Generator().manual_seed(3), env.reset()
    steps = np.zeros(2, dtype=int)
    action = torch.full((2, env.spec.n_agents), -1)
    for step in range(40 if env.spec.n_agents < 20 else 15):
        for b in range(2):
            check_views(env, b, view, action[b].tolist())
        # Both teams fight, then scatter over the field and its edges.
        action = nearest(view) if step % 30 < 20 else random_legal(view, generator)
        before = [oracle.raw(units) for units in env._battles]
        view = env.step(action)
        steps += 1
        for b in range(2):
            after = oracle.raw(env._battles[b])
            assert view["reward"][b, 0] == oracle.reward(before[b], after, env.spec.n_agents)
            ended = oracle.done(after, env.spec.n_agents, steps[b], env.spec.episode_limit)
            assert (view["done"][b, 0], view["terminated"][b, 0]) == ended
        over = view["done"][:, 0].clone()
        steps[over] = 0
        action[over] = -1
        view = env.reset(over)


def enemy(scene, name, agent="a"):
    at = 4 + 5 * (UNITS.index(name) - 3)
    return scene.env._scene["agents", "observation"][0, UNITS.index(agent), at : at + 5].tolist()


def test_sight_ends_before_nine_cells_and_shooting_at_six():
    scene = Scene("a........ABC")
    scene.pacify("A", "B", "C")
    scene.play()
    assert enemy(scene, "A") == [0.0] * 5  # exactly 9 cells away
    scene.put("A", 9.49, 0.5)
    scene.put("B", 6.5, 0.5)
    scene.put("C", 6.51, 1.5)
    scene["a"]["health"] = 30
    scene.play()
    assert enemy(scene, "A") == pytest.approx([0, 8.99 / 9, 8.99 / 9, 0, 1])
    assert enemy(scene, "B") == pytest.approx([1, 6 / 9, 6 / 9, 0, 1])
    assert enemy(scene, "C")[0] == 0
    assert scene.legal("a") == {"stop", "north", "south", "east", "west", "B"}
    assert scene.env._scene["agents", "observation"][0, 0, -1] == pytest.approx(30 / 45)


def test_allies_are_listed_without_oneself():
    scene = Scene("""
        .b.
        a..
        ..c""")
    scene.play()
    allies = [scene.env._scene["agents", "observation"][0, i, 19:29].unflatten(0, (2, 5))[:, 2:4] * 9 for i in range(3)]
    torch.testing.assert_close(allies[0], torch.tensor([[1.0, 1.0], [2.0, -1.0]]))
    torch.testing.assert_close(allies[1], torch.tensor([[-1.0, -1.0], [1.0, -2.0]]))
    torch.testing.assert_close(allies[2], torch.tensor([[-2.0, 1.0], [-1.0, 2.0]]))


def test_the_dead_see_nothing_and_are_not_seen_and_may_only_do_nothing():
    scene = Scene("""
        .a.
        b.A""")
    scene.pacify("A")
    scene.play()
    assert scene.legal("c") == {"no-op"}
    view = scene.env._scene
    assert not view["agents", "observation"][0, 2].any()
    assert not view["agents", "observation"][0, 0, 24:29].any()  # agent 2 as agent 0 sees it
    assert not view["state"][0, 8:12].any()
    assert view["state"][0, 12 + 9 + 18 : 12 + 9 + 27].tolist() == [1] + [0] * 8  # its last action is no-op


def test_moves_are_legal_where_the_cell_one_step_away_can_be_walked_on():
    scene = Scene("""
        ...#...
        ..#a...
        ...#...""")
    scene.env.world.ground[8 + 3, 8 + 2] = 0
    scene.play()
    assert scene.legal("a") == {"stop", "east"}
    assert scene.env._scene["agents", "observation"][0, 0, :4].tolist() == [0, 0, 1, 0]


def test_moves_across_the_edge_of_the_map_are_illegal_but_for_smacs_rounding_towards_zero():
    scene = Scene("a")
    scene.put("a", 1.0 - 8, 0.5 - 8)
    scene.play()
    assert scene.legal("a") == {"stop", "north", "south", "east", "west"}  # y - 1 = -0.5 is still cell 0
    scene.put("a", 31.2 - 8, 31.5 - 8)
    scene.play()
    assert scene.legal("a") == {"stop", "south", "west"}


def test_the_state_shows_place_health_and_cooldown_of_allies():
    scene = Scene("a")
    scene["a"]["cooldown"], scene["a"]["health"] = 18.0, 9.0
    scene.play()
    assert scene.env._scene["state"][0, :4].tolist() == pytest.approx([0.2, 10 / 15, -7.5 / 32, -7.5 / 32])
