import re
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from tensordict import TensorDict

from qmix_lightning.envs.battle import arena
from qmix_lightning.envs.battle.env import BattleEnvironment
from qmix_lightning.envs.battle.scenario import map_names
from qmix_lightning.envs.battle.threads import at_most, usable
from qmix_lightning.spec import ACTION, ACTION_MASK, MASK, OBSERVATION, REWARD, STATE, UNITS
from tests.envs.battle.policies import random_legal
from tests.envs.battle.recordings import SIGHT, record, same
from tests.envs.battle.scenes import ACTIONS, Scene


@pytest.fixture(scope="module")
def recorded():
    """Twelve battles of 3m, as they were seen and as units."""
    env = BattleEnvironment("3m", num_envs=4, seed=2)
    return env, *record(env, 12)


@pytest.mark.parametrize("name", map_names())
def test_whole_battles_are_seen_again_bit_for_bit(name):
    small = name in ("3m", "5m_vs_6m")
    seen, units = record(BattleEnvironment(name, num_envs=8 if small else 3, seed=1), 32 if small else 4)
    assert (seen[MASK].sum((1, 2)).unique() < seen.shape[1] - 1).any()  # padding is seen, too
    assert same(seen, BattleEnvironment(name, seed=9).observe(units))


def test_a_battle_that_lasts_to_the_limit_is_seen_again_to_its_end():
    env = BattleEnvironment("3m", num_envs=2, seed=1)
    env.reset()
    env._lineup.x[:, 3:] += 6  # too far away to get there, where the team runs from them
    seen, units = record(env, 8, fierce=0.0)
    assert (seen[MASK].sum((1, 2)) == env.spec.episode_limit).any()
    assert same(seen, env.observe(units))


@pytest.mark.parametrize("option", [{"threads": 2}, {"threads": 3}, {"pathing": "inner", "enemy_order": "sorted"}])
def test_who_sees_again_may_have_other_threads_and_another_lineup(recorded, option):
    env = BattleEnvironment("3m", **option)
    assert same(recorded[1], env.observe(recorded[2]))
    assert env.observe(recorded[2][:0]).shape == (0, 61)
    assert same(recorded[1][:1], env.observe(recorded[2][:1]))
    env.close()


def test_one_battle_has_all_threads_to_see_others_again(recorded, monkeypatch):
    asked = []
    monkeypatch.setattr(arena, "at_most", lambda threads: asked.append(threads) or at_most(threads))
    BattleEnvironment("3m", num_envs=1, threads=2).observe(recorded[2])
    assert set(asked) == ({2} if usable(2) == 2 else set())


def test_b_battles_are_b_times_one_battle(recorded):
    env, seen, units = recorded
    for b in range(3):
        assert same(seen[b : b + 1], env.observe(units[b : b + 1]))


def test_the_first_steps_of_a_battle_are_seen_as_in_the_whole(recorded):
    env, seen, units = recorded
    for steps in (1, 2, 20):
        assert same(seen[:, :steps], env.observe(units[:, :steps]))


def test_memory_layout_does_not_matter(recorded):
    env, seen, units = recorded
    turned = units.apply(lambda entry: entry.transpose(0, 1).contiguous().transpose(0, 1))
    assert not turned[UNITS].is_contiguous()
    assert same(seen, env.observe(turned))
    assert same(seen[::2], env.observe(units[::2]))


def test_battles_under_way_are_left_alone(recorded):
    env, _, units = recorded
    view = env.reset()
    view = env.step(random_legal(view, torch.Generator()))
    before, battles = view.clone(), env._battles.copy()
    env.observe(units)
    assert same(view, before)
    assert (env._battles == battles).all()


@pytest.mark.parametrize("threads", [1, 2])
def test_battles_may_be_seen_again_while_others_are_played(threads):
    env = BattleEnvironment("5m_vs_6m", num_envs=4, seed=3, threads=threads)
    seen, units = record(env, 8)
    env.seed(3)
    with ThreadPoolExecutor(2) as pool:
        looks = [pool.submit(env.observe, units) for _ in range(60)]
        assert same(seen, record(env, 8)[0])
        assert all(same(seen, look.result()) for look in looks)
    env.close()


def test_everything_else_is_handed_on_and_nothing_is_written_into_what_came(recorded):
    env, seen, units = recorded
    units = units.copy().set(REWARD, seen[REWARD])
    keys = set(units.keys(True, True))
    again = env.observe(units)
    assert set(units.keys(True, True)) == keys
    assert set(again.keys(True, True)) == keys | set(SIGHT)
    assert again[REWARD] is units[REWARD]


def drawn(*scenes):
    """One recorded battle of these scenes, in which everybody moves north between them."""
    for scene in scenes:
        scene.env._arena.show()  # the drawing came after the last look at the field
    units = torch.stack([scene.env._scene[UNITS][0].clone() for scene in scenes])
    mask = torch.arange(len(scenes)) < len(scenes) - 1
    action = torch.full((len(scenes), 3), ACTIONS["north"]) * mask[:, None]
    return TensorDict({UNITS: units, ACTION: action, MASK: mask[:, None]}, [len(scenes)])[None]


def test_the_dead_are_seen_again_as_the_dead():
    scene = Scene("""
        .a.
        b.A""")
    episode = scene.env.observe(drawn(scene, scene))[0]
    assert episode[ACTION_MASK][:, 2].nonzero()[:, 1].tolist() == [0, 0]
    assert not episode[OBSERVATION][:, 2].any()
    assert not episode[OBSERVATION][:, 0, 24:29].any()  # agent 2 as agent 0 sees it
    assert episode[OBSERVATION][0, 0, 24 - 5] == 1  # but agent 1 is there
    assert not episode[STATE][:, 8:12].any()


def test_walls_are_those_of_the_map():
    scene = Scene("""
        .#.
        #a.
        ...""")
    episode = scene.env.observe(drawn(scene))[0]
    assert episode[OBSERVATION][0, 0, :4].tolist() == [0, 1, 1, 0]


def test_the_last_action_is_that_of_the_step_before_and_none_at_the_first():
    scene = Scene("ab.\n..A")
    units = drawn(scene, scene, scene)
    units[ACTION][0, :2] = torch.tensor([[ACTIONS["A"], 2, 0], [3, 4, 5]])
    last_action = scene.env.observe(units)[STATE][0, :, 21:].unflatten(-1, (3, 9))
    assert not last_action[0].any()
    assert last_action[1:].argmax(-1).tolist() == [[6, 2, 0], [3, 4, 5]]
    assert (last_action[1:].sum(-1) == 1).all()


def test_the_step_to_bootstrap_from_is_seen_and_padding_is_not_whatever_stands_there():
    scene = Scene("ab.\n..A")
    units = torch.cat([drawn(scene, scene), drawn(scene, scene)], 1)
    units[MASK][0, 2:] = False
    units[UNITS][0, 2:], units[ACTION][0, 2:] = float("nan"), 8
    episode = scene.env.observe(units)[0]
    assert episode[OBSERVATION][:2].flatten(1).any(1).all()
    assert not episode[OBSERVATION][2:].any()
    assert not episode[STATE][2:].any()
    assert episode[ACTION_MASK][2:].sum(-1).eq(1).all()
    assert episode[ACTION_MASK][2:, :, 0].all()


@pytest.mark.parametrize(
    ("tamper", "words"),
    [
        (
            lambda units: units.exclude(UNITS),
            "Expected 'units' of torch.float32 [b, L + 1, 6, 4] in episodes [b, L + 1], got none in [12, 61]. "
            "Observe episodes that were recorded in battles on the same map.",
        ),
        (
            lambda units: units.set(UNITS, units[UNITS][:, :, :5]),
            "[b, L + 1, 6, 4] in episodes [b, L + 1], got torch.float32 [12, 61, 5, 4]",
        ),
        (lambda units: units.set(UNITS, units[UNITS].half()), "got torch.float16 [12, 61, 6, 4]"),
        (
            lambda units: units.set(ACTION, units[ACTION].int()),
            "Expected ('agents', 'action') of torch.int64 [b, L + 1, 3] in episodes [b, L + 1], got torch.int32",
        ),
        (lambda units: units.set(MASK, units[MASK].float()), "Expected 'mask' of torch.bool [b, L + 1, 1] in"),
        (lambda units: units[0], "got torch.float32 [61, 6, 4] in [61]."),
    ],
)
def test_other_recordings_are_refused(recorded, tamper, words):
    env, _, units = recorded
    with pytest.raises(ValueError, match=re.escape(words)):
        env.observe(tamper(units.copy()))
