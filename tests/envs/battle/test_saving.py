import io
import re

import numpy as np
import pytest
import torch

from qmix_lightning.envs.battle.env import BattleEnvironment
from qmix_lightning.envs.battle.saving import as_tensor, layout
from qmix_lightning.envs.battle.state import CLOCK, UNIT
from qmix_lightning.spec import OBSERVATION, STATE, UNITS
from tests.envs.battle.policies import random_legal
from tests.envs.battle.recordings import SIGHT, bits, same
from tests.envs.battle.scenes import Scene


def play(env, view, steps, seed):
    """All that some random steps show, with restarts of battles that ended."""
    generator, shown = torch.Generator().manual_seed(seed), []
    for _ in range(steps):
        outcome = env.step(random_legal(view, generator, fierce=0.5))
        shown.append(outcome.clone())
        view = env.reset(outcome["done"][:, 0].clone())
        shown.append(view.clone())
    return shown


def look(env):
    return env.reset(torch.zeros(env.num_envs, dtype=torch.bool))


def equal(one, two):
    keys = set(one.keys(True, True))
    return keys == set(two.keys(True, True)) and same(one, two, keys)


@pytest.mark.parametrize(("name", "steps"), [("3m", 150), ("5m_vs_6m", 150), ("27m_vs_30m", 90)])
@pytest.mark.parametrize("options", [{}, {"seed": 7, "first": 3, "threads": 2}])
def test_loaded_battles_go_on_bit_for_bit(name, steps, options):
    env = BattleEnvironment(name, num_envs=3, seed=1)
    play(env, env.reset(), 25, seed=1)
    state = env.state_dict()
    unbroken = play(env, look(env), steps, seed=2)
    assert sum(view["done"].sum() for view in unbroken[::2]) > 3  # battles end, and others of the same clocks begin
    loaded = BattleEnvironment(name, num_envs=3, **options)
    loaded.load_state_dict(state)
    assert all(equal(one, two) for one, two in zip(unbroken, play(loaded, look(loaded), steps, seed=2), strict=True))
    loaded.close()


def test_an_environment_can_be_rewound_again_and_again():
    env = BattleEnvironment("3m", num_envs=4, seed=1)
    play(env, env.reset(), 5, seed=1)
    state = env.state_dict()
    first = play(env, look(env), 20, seed=2)
    for _ in range(2):
        env.load_state_dict(state)
        assert all(equal(one, two) for one, two in zip(first, play(env, look(env), 20, seed=2), strict=True))


def test_what_was_handed_out_shows_the_loaded_battles_at_once():
    env, loaded = BattleEnvironment("3m", num_envs=2, seed=1), BattleEnvironment("3m", num_envs=2, seed=2)
    outcomes = []
    for each, steps in ((env, 20), (loaded, 3)):
        view, generator = each.reset(), torch.Generator().manual_seed(5)
        for _ in range(steps):
            view = each.step(random_legal(view, generator, fierce=1.0))
        outcomes.append((view, look(each)))
    assert not same(outcomes[0][0], outcomes[1][0])
    loaded.load_state_dict(env.state_dict())
    for one, two in zip(*outcomes, strict=True):  # what step and what reset returned, before the state was loaded
        assert equal(one, two)


def test_a_seed_that_awaits_the_next_full_restart_is_saved_too():
    env, loaded = (BattleEnvironment("3m", num_envs=2, seed=seed) for seed in (1, 2))
    env.reset()
    env.seed(5)
    loaded.load_state_dict(env.state_dict())
    assert same(look(env), look(loaded))
    assert same(env.reset(), loaded.reset())


def test_battles_that_never_began_are_saved_as_such():
    env, loaded = (BattleEnvironment("3m", num_envs=2, seed=seed) for seed in (1, 2))
    play(loaded, loaded.reset(), 5, seed=1)
    loaded.load_state_dict(env.state_dict())
    assert not any(look(loaded)[key].any() for key in SIGHT)
    which = torch.tensor([False, True])
    assert same(env.reset(which), loaded.reset(which))


def test_a_drawn_battle_is_loaded_as_it_was_drawn():
    scene, other = Scene("a..A"), Scene("b.\n.C")
    scene["A"]["wind_up"], scene["A"]["target"] = 0.5, 0
    other.env.load_state_dict(scene.env.state_dict())
    assert other.units.tobytes() == scene.units.tobytes()
    assert equal(scene.play(3, a="west"), other.play(3, a="west"))


def test_a_state_is_of_numbers_strings_and_tensors_alone_and_goes_through_a_file():
    env = BattleEnvironment("3m", num_envs=2, seed=1)
    play(env, env.reset(), 5, seed=1)
    file = io.BytesIO()
    torch.save(env.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    assert {type(entry) for entry in state.values()} == {str, int, torch.Tensor}
    assert {len(entry) for entry in state.values() if isinstance(entry, torch.Tensor)} == {2}
    loaded = BattleEnvironment("3m", num_envs=2)
    loaded.load_state_dict(state)
    assert same(look(env), look(loaded))


def test_playing_on_does_not_change_a_saved_state():
    env = BattleEnvironment("3m", num_envs=2, seed=1)
    play(env, env.reset(), 5, seed=1)
    state = env.state_dict()
    kept = {name: entry.clone() for name, entry in state.items() if isinstance(entry, torch.Tensor)}
    play(env, look(env), 5, seed=1)
    assert all(torch.equal(state[name], entry) for name, entry in kept.items())


def test_a_state_holds_nothing_that_can_be_seen_from_the_rest():
    env = BattleEnvironment("27m_vs_30m", num_envs=2)
    state, view = env.state_dict(), env.reset()
    seen = sum(view[key].nbytes for key in (OBSERVATION, STATE))
    assert not {"observation", "state"} & state.keys()
    assert sum(entry.nbytes for entry in state.values() if isinstance(entry, torch.Tensor)) < 0.25 * seen


LAYOUT = {"clock_layout": "random uint64 0, key uint64 8, size 16"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda state: BattleEnvironment("8m", num_envs=2).state_dict(),
            "Expected battles saved with task 'battle/3m', got 'battle/8m'. Make the environment as the one that was "
            "saved, by the same version of qmix-lightning, or start new battles with reset().",
        ),
        (lambda state: BattleEnvironment("3m", num_envs=3).state_dict(), "saved with num_envs 2, got 3. Make"),
        (
            lambda state: BattleEnvironment("3m", num_envs=2, spawn_jitter=0.5).state_dict(),
            "saved with physics \"fixed Physics(formation='rings', spawn_jitter=0.25,",
        ),
        (lambda state: {**state, "enemy_order": "sorted"}, "saved with enemy_order 'random', got 'sorted'."),
        (lambda state: BattleEnvironment("3m", num_envs=2, reward_win=1).state_dict(), "saved with options 'SmacOpt"),
        (
            lambda state: {**state, **LAYOUT},
            f"saved with clock_layout '{layout(CLOCK)}', got 'random uint64 0, key uint64 8, size 16'.",
        ),
        (lambda state: {**state, "unit_layout": "x float32 0, size 4"}, "got 'x float32 0, size 4'."),
        (lambda state: {}, "saved with task 'battle/3m', got None."),
        (
            lambda state: {**state, "clocks": None},
            f"Expected 'clocks' of torch.uint8 [2, {CLOCK.itemsize}] in saved battles, got None. Load what "
            "state_dict() of a battle environment returned.",
        ),
        (
            lambda state: {**state, "battles": state["battles"][:, :-1]},
            f"Expected 'battles' of torch.uint8 [2, {6 * UNIT.itemsize}] in saved battles, got torch.uint8 [2, ",
        ),
        (lambda state: {**state, "reward": state["reward"].double()}, "of torch.float32 [2, 1] in saved battles, got"),
    ],
)
def test_other_battles_are_refused_and_those_under_way_are_kept(change, words):
    env = BattleEnvironment("3m", num_envs=2, seed=1)
    play(env, env.reset(), 5, seed=1)
    before = env.state_dict()
    with pytest.raises(ValueError, match=re.escape(words)):
        env.load_state_dict(change(env.state_dict()))
    assert all(
        torch.equal(one, two) if isinstance(one, torch.Tensor) else one == two
        for one, two in zip(before.values(), env.state_dict().values(), strict=True)
    )


def test_records_as_bytes_share_their_memory():
    units = np.zeros((2, 3), UNIT)
    tensor = as_tensor(units)
    units["x"][1, 2] = 1.5
    assert tensor.shape == (2, 3 * UNIT.itemsize)
    assert tensor[1, 2 * UNIT.itemsize :].view(torch.float32)[0] == 1.5
    assert as_tensor(np.ones((2, 1))).tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize("dtype", [UNIT, CLOCK])
def test_another_order_of_the_same_fields_is_another_layout(dtype):
    names = list(dtype.names)
    turned = np.dtype([(name, dtype[name]) for name in names[::-1]], align=True)
    assert layout(turned) != layout(dtype)
    assert layout(np.dtype([(name, dtype[name]) for name in names], align=True)) == layout(dtype)


def test_the_snapshot_is_what_shows_of_the_memory_of_the_battles():
    env = BattleEnvironment("3m", num_envs=2, seed=1)
    view = env.reset()
    play(env, view, 10, seed=1)
    assert env.snapshot_keys == (UNITS,)
    assert view[UNITS].shape == (2, 6, 4)
    assert view[UNITS].is_contiguous()  # recorders copy it at every step
    for field, name in enumerate(("x", "y", "health", "cooldown")):
        assert torch.equal(bits(view[UNITS][..., field]), bits(torch.from_numpy(env._battles[name].copy())))
    assert view[STATE][:, 0].equal(view[UNITS][:, 0, 2] / 45)
