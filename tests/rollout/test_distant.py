import pytest
import torch

from qmix_lightning.envs.battle.env import BattleEnvironment
from qmix_lightning.rollout.distant import STEPS_UNSEEN, DistantRecorder
from qmix_lightning.rollout.episodes import EpisodeRecorder
from qmix_lightning.spec import ACTION_MASK, MASK, STATE, UNITS
from tests.envs.battle.policies import random_legal
from tests.fakes import CountingEnv


def counting():
    return CountingEnv(num_envs=4, limit=5)


def battles():
    return BattleEnvironment("3m", num_envs=3, seed=4)


def play(env, recorder, steps, taken_every, seed=0):
    """Record random play, and take what ended every so many steps; the battles and their episodes, in this order."""
    generator, view = torch.Generator().manual_seed(seed), env.reset()
    recorder.begin(view)
    taken = []
    for step in range(steps):
        action = random_legal(view, generator)
        view = env.step(action)
        if isinstance(recorder, DistantRecorder):
            recorder.make_room()
        ended = recorder.record(action, view)
        over = view["done"].flatten().clone()
        if isinstance(recorder, DistantRecorder):
            view = env.reset(over)
            recorder.begin(view, over)
        elif ended is not None:
            view = env.reset(over)
            recorder.begin(view, ended)
        if (step + 1) % taken_every == 0 and (ended := recorder.take()) is not None:
            taken.append(ended)
    which, episodes = zip(*taken, strict=True)
    return torch.cat(which), torch.cat(episodes)


@pytest.mark.parametrize("taken_every", [1, 3, STEPS_UNSEEN, 2 * STEPS_UNSEEN + 8])
@pytest.mark.parametrize(("make", "seen"), [(counting, (ACTION_MASK, STATE)), (battles, (UNITS,)), (battles, (STATE,))])
def test_its_episodes_are_those_of_the_recorder_that_looks_at_every_step(make, seen, taken_every):
    sizes = make().spec, make().num_envs, seen
    which, expected = play(make(), EpisodeRecorder(*sizes), 240, 1)
    ours, episodes = play(make(), DistantRecorder(*sizes), 240, taken_every)
    assert len(ours) > 8
    assert torch.equal(ours, which[: len(ours)])
    assert set(episodes.keys(True, True)) == set(expected.keys(True, True))
    for key in episodes.keys(True, True):
        assert torch.equal(episodes[key], expected[key][: len(ours)]), key


@pytest.mark.parametrize("kinds", [(DistantRecorder, EpisodeRecorder), (EpisodeRecorder, DistantRecorder)])
@pytest.mark.parametrize("steps", [0, 1, 4, 17, 40])
def test_either_recorder_goes_on_from_the_state_of_the_other(kinds, steps):
    env = counting()
    first, second = (kind(env.spec, 4) for kind in kinds)
    view = env.reset()
    first.begin(view)
    compared = 0
    for step in range(steps + 15):
        if step == steps:
            second.begin(view)
            second.load_state_dict(first.state_dict())
        recorders = (first, second)[: 1 + (step >= steps)]
        action = view[ACTION_MASK].int().argmax(-1)
        view = env.step(action)
        for recorder in recorders:
            if isinstance(recorder, DistantRecorder):
                recorder.make_room()
            recorder.record(action, view)
        over = view["done"].flatten().clone()
        taken = [recorder.take() for recorder in recorders]
        if len(taken) == 2 and taken[0] is not None:
            assert torch.equal(taken[0][0], taken[1][0])
            assert (taken[0][1] == taken[1][1]).all()
            compared += len(taken[0][0])
        view = env.reset(over)
        for recorder in recorders:
            if isinstance(recorder, DistantRecorder):
                recorder.begin(view, over)
            elif over.any():
                recorder.begin(view, over.nonzero().flatten())
    assert compared > 8


def test_a_new_beginning_forgets_what_was_recorded():
    env = counting()
    recorder = DistantRecorder(env.spec, 4)
    play(env, recorder, 7, 7)
    view = env.reset()
    recorder.begin(view)
    assert recorder.take() is None
    recorder.make_room()
    recorder.record(view[ACTION_MASK].int().argmax(-1), env.step(view[ACTION_MASK].int().argmax(-1)))
    _, episodes = recorder.take() or (None, None)
    assert episodes is None or (episodes[MASK].sum(1) == 1).all()


def test_a_battle_that_outlives_its_limit_is_refused():
    env = counting()
    recorder, view = DistantRecorder(env.spec, 4), env.reset()
    recorder.begin(view)
    for _ in range(6):
        action = view[ACTION_MASK].int().argmax(-1)
        view = env.step(action)
        recorder.make_room()
        recorder.record(action, view.replace({"done": torch.zeros_like(view["done"])}))
    with pytest.raises(RuntimeError, match="Battle 0 goes on after 5 steps, the episode_limit of its spec"):
        recorder.take()
