"""Battles on a GPU, or under numba's CUDA simulator; test_simulated_gpu.py runs this file under it."""

import re
from pathlib import Path

import pytest
import torch
from numba import config
from tensordict import TensorDict

from qmix_lightning.envs.battle.env import BattleEnvironment
from qmix_lightning.envs.checking import check_env
from qmix_lightning.envs.registry import make
from qmix_lightning.spec import ACTION, ACTION_MASK, MASK, UNITS
from tests.envs.battle.policies import random_legal

SIMULATED = bool(config.ENABLE_CUDASIM)
GPU = torch.cuda.is_available()

pytestmark = pytest.mark.skipif(
    not (SIMULATED or GPU), reason="torch sees no CUDA device; test_simulated_gpu.py runs these without one"
)
needs_gpu = pytest.mark.skipif(SIMULATED or not GPU, reason="numba's CUDA simulator knows no streams and graphs")


def assert_same(one, two, atol=0.0):
    assert set(one.keys(True, True)) == set(two.keys(True, True))
    for key in one.keys(True, True):
        told = {"msg": lambda m, key=key: f"{key}: {m}"}
        torch.testing.assert_close(one[key].cpu(), two[key].cpu(), rtol=0, atol=atol, **told)


def play(envs, steps, seed=0, atol=0.0):
    """Play the same random actions in several environments, with restarts, and compare what they show."""
    generator = torch.Generator().manual_seed(seed)
    views = [env.reset() for env in envs]
    ended = 0
    for _ in range(steps):
        assert_same(*views, atol)
        action = random_legal(views[0], generator, fierce=0.7)
        outcomes = [env.step(action.to(view[UNITS].device)) for env, view in zip(envs, views, strict=True)]
        assert_same(*outcomes, atol)
        done = outcomes[0]["done"][:, 0].cpu() | (torch.rand(envs[0].num_envs, generator=generator) < 0.05)
        ended += int(done.sum())
        views = [env.reset(done.to(outcome[UNITS].device)) for env, outcome in zip(envs, outcomes, strict=True)]
    return ended


@pytest.mark.parametrize(
    ("name", "steps", "options"),
    [
        ("3m", 40, {}),
        ("3s_vs_3z", 20, {"physics": "random", "enemy_order": "sorted"}),
        ("MMM", 20, {}),
        ("bane_vs_bane", 10, {}),
        ("protoss_5_vs_5", 20, {"conic_fov": True}),
    ],
)
def test_the_same_seed_plays_the_same_battles_as_on_the_cpu(name, steps, options):
    envs = [make(f"battle/{name}", num_envs=3, seed=4, device=device, **options) for device in ("cpu", "cuda")]
    # Cones compare arc tangents, whose last bits differ on a GPU; the simulator calls the CPU's own code.
    assert play(envs, steps, atol=1e-4 if "conic_fov" in options and not SIMULATED else 0.0) > 0


def test_it_keeps_the_contract_of_environments():
    check_env(make("battle/3m", num_envs=2, device="cuda"), steps=65)


def test_saved_battles_go_on_on_the_other_processor():
    for there, here in (("cuda", "cpu"), ("cpu", "cuda")):
        one = make("battle/3m", num_envs=2, seed=1, device=there)
        play([one, make("battle/3m", num_envs=2, seed=1)], 10)
        two = make("battle/3m", num_envs=2, seed=2, device=here)
        state = one.state_dict()
        assert {value.device.type for value in state.values() if isinstance(value, torch.Tensor)} == {"cpu"}
        two.load_state_dict(state)
        nobody = torch.zeros(2, dtype=torch.bool)
        assert_same(one.reset(nobody), two.reset(nobody))
        action = one.reset(nobody)[ACTION_MASK].int().argmax(-1)
        assert_same(one.step(action), two.step(action))


def test_nothing_is_copied_between_the_views_and_the_battles():
    env = make("battle/3m", num_envs=2, device="cuda")
    assert env.reset()[ACTION_MASK].device == env._arena.device
    health = env._scene[UNITS][0, 0, 2].clone()
    env._arena.tensors["battles"].view(torch.float32)[0, 2] = 7.0  # whoever writes there wounds the unit
    env.step(torch.ones(2, 3, dtype=torch.int64))
    assert health == 45
    assert env._scene["agents", "observation"][0, 0, -1].item() == pytest.approx(7 / 45)


@pytest.mark.parametrize("wrong", [-1, 6, 99])  # 6 attacks an enemy, and nobody is in range at the start
def test_an_illegal_action_is_replaced_and_raised_later(wrong):
    env, twin = (make("battle/3m", num_envs=2, seed=1, device="cuda") for _ in range(2))
    view = env.reset()
    twin.reset()
    stop = view[ACTION_MASK].int().argmax(-1)
    action = stop.clone()
    action[1, 2] = wrong
    assert_same(env.step(action), twin.step(stop))
    told = re.escape(f"Agent 2 of battle 1 could not take action {wrong} in an earlier step")
    with pytest.raises(ValueError, match=told):
        env.state_dict()
    env.state_dict()  # said once
    env.step(action)
    with pytest.raises(ValueError, match=told):
        env.reset()


def test_what_it_cannot_be_made_with():
    with pytest.raises(ValueError, match=re.escape("with device 'cuda' expected 1, got 2.")):
        BattleEnvironment("3m", device="cuda", threads=2)


def test_no_recorded_battles_are_observed_as_such():
    env = make("battle/3m", num_envs=2, device="cuda")
    nothing = {
        UNITS: torch.zeros(0, 1, 6, 4),
        ACTION: torch.zeros(0, 1, 3, dtype=torch.int64),
        MASK: torch.zeros(0, 1, 1, dtype=torch.bool),
    }
    episodes = TensorDict({}, batch_size=[0, 1]).update(nothing)
    assert env.observe(episodes)["state"].shape == (0, 1, 48)


@needs_gpu
def test_a_step_is_captured_in_a_graph_and_plays_what_it_plays_outside():
    envs = [make("battle/3m", num_envs=64, seed=3, device="cuda") for _ in range(2)]
    masks = [env.reset()[ACTION_MASK] for env in envs]  # overwritten in place by every step

    def step(env, mask):
        env.reset(env.step(mask.int().argmax(-1))["done"][:, 0])

    for env, mask in zip(envs, masks, strict=True):  # compiles what is captured
        step(env, mask)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step(envs[1], masks[1])
    for _ in range(30):
        graph.replay()
        step(envs[0], masks[0])
    assert_same(envs[0]._outcome, envs[1]._outcome)


@needs_gpu
def test_machine_code_is_kept_on_disk():
    from qmix_lightning.envs.battle import gpu

    make("battle/3m", device="cuda").reset()
    ready = [special for (kernel, *_), special in gpu._READY.items() if kernel is gpu._restart]
    assert ready
    for special in ready:
        assert list(Path(special._cache.cache_path).glob(f"*_restart_{gpu.SOURCES:08x}*.nbi"))


@needs_gpu
def test_steps_run_on_the_current_stream():
    env = make("battle/3m", num_envs=64, seed=3, device="cuda")
    action = env.reset()[ACTION_MASK].int().argmax(-1)
    env.step(action)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(100_000_000)
        env.step(action)
        assert not stream.query()  # nobody waited for the step
    stream.synchronize()


def look_until_all_is_known(env):
    """Look thrice: a GPU may still owe the answer to an earlier look, and is asked anew when that has come."""
    for _ in range(3):
        if not SIMULATED:
            torch.cuda.synchronize()
        env.look()


def test_a_look_raises_an_illegal_action_of_steps_that_nobody_called():
    env = make("battle/3m", num_envs=2, device="cuda")
    action = env.reset()[ACTION_MASK].int().argmax(-1)
    env.look()
    action[1, 2] = 99
    env.step(action)
    with pytest.raises(ValueError, match="Agent 2 of battle 1 could not take action 99 in an earlier step"):
        look_until_all_is_known(env)
    env.state_dict()  # said once


def test_only_battles_on_a_gpu_are_replayable():
    assert make("battle/3m", device="cuda").replayable == (not SIMULATED)
    assert not make("battle/3m").replayable
