import pytest
import torch

from qmix_lightning.rollout.episodes import EpisodeRecorder
from qmix_lightning.spec import ACTION, ACTION_MASK, DONE, INFO, MASK, OBSERVATION, REWARD, STATE, TERMINATED
from tests.fakes import CountingEnv


def first_legal(view):
    return view[ACTION_MASK].int().argmax(-1)


def play(env, steps, each=lambda step, view: view):
    """Record with a plain loop of the documented calls; returns the episodes in the order in which they ended."""
    recorder, view, rows = EpisodeRecorder(env.spec, env.num_envs), env.reset(), []
    recorder.begin(view)
    for step in range(steps):
        action = first_legal(view) + 0
        view = each(step, env.step(action))
        if (which := recorder.record(action, view)) is not None:
            rows.extend(recorder.take()[1].unbind(0))
            view = env.reset(torch.zeros(env.num_envs, dtype=torch.bool).index_fill(0, which, True))
            recorder.begin(view, which)
    return rows


def lookup(env, battle, episode):
    return int(env.length(torch.tensor(battle), torch.tensor(episode)))


def test_an_episode_holds_every_step_of_its_battle_once():
    env = CountingEnv(num_envs=4, limit=5)
    for row in play(env, 40):
        battle, episode = row[STATE][0, :2].tolist()
        length = lookup(env, battle, episode)
        steps = torch.arange(length + 1.0)
        assert torch.equal(row[STATE][: length + 1, 2], steps)
        assert (row[STATE][: length + 1, :2] == torch.tensor([battle, episode])).all()
        assert (row[OBSERVATION][: length + 1, :, 0] == episode).all()
        assert torch.equal(row[OBSERVATION][: length + 1, :, 1], steps[:, None].expand(-1, 3))
        assert torch.equal(row[OBSERVATION][0, :, 2], torch.arange(3.0))
        assert torch.equal(row[REWARD][:length, 0], steps[:-1])
        assert torch.equal(row[MASK][:, 0], torch.arange(6) < length)


def test_every_episode_of_every_battle_is_handed_out_once():
    env = CountingEnv(num_envs=4, limit=5)
    seen = sorted(tuple(row[STATE][0, :2].int().tolist()) for row in play(env, 60))
    expected = []
    for battle in range(4):
        episode = steps = 0
        while (steps := steps + lookup(env, battle, episode)) <= 60:
            expected.append((battle, episode))
            episode += 1
    assert seen == expected


def test_the_actions_recorded_are_those_that_were_legal_then():
    for row in play(CountingEnv(num_envs=4, limit=5), 40):
        length = int(row[MASK].sum())
        assert torch.equal(row[ACTION][:length], first_legal(row)[:length])
        assert row[ACTION_MASK].gather(-1, row[ACTION][..., None]).all()


def test_only_the_last_step_is_done_and_only_a_decided_one_terminated():
    env = CountingEnv(num_envs=4, limit=5)
    for row in play(env, 40):
        length = int(row[MASK].sum())
        assert row[DONE][:, 0].nonzero().flatten().tolist() == [length - 1]
        assert row[TERMINATED].any() == (length < 5)
        assert row[(*INFO, "battle_won")][length - 1, 0] == (row[STATE][0, 1] % 2 == 1)
        assert torch.equal(row[(*INFO, "dead_allies")][:length, 0], 1 + torch.arange(float(length)))


def test_padding_is_zero_with_the_first_action_legal():
    for row in play(CountingEnv(num_envs=4, limit=5), 40):
        length = int(row[MASK].sum())
        for key in (REWARD, DONE, TERMINATED, ACTION, (*INFO, "battle_won"), (*INFO, "dead_allies"), MASK):
            assert not row[key][length:].any()
        assert not row[OBSERVATION][length + 1 :].any()
        assert not row[STATE][length + 1 :].any()
        assert torch.equal(
            row[ACTION_MASK][length + 1 :], torch.tensor([True, False, False, False]).expand(5 - length, 3, 4)
        )


def test_episodes_own_their_memory():
    env = CountingEnv(num_envs=1, limit=5)
    first, *later = play(env, 30)
    assert later
    assert first[STATE][0, 1] == 0


def test_dtypes_are_those_of_the_contract():
    row, *_ = play(CountingEnv(), 10)
    dtypes = {
        key: row[key].dtype for key in (OBSERVATION, ACTION_MASK, ACTION, REWARD, DONE, (*INFO, "battle_won"), MASK)
    }
    assert list(dtypes.values()) == [torch.float32, torch.bool, torch.int64, torch.float32, *[torch.bool] * 3]


@pytest.mark.parametrize("fresh", [lambda step: True, lambda step: step % 2, lambda step: step // 7 % 2])
def test_it_makes_no_difference_whether_views_are_the_same_tensors_every_step(fresh):
    def each(step, view):
        return view.clone() if fresh(step) else view

    ours, theirs = (play(CountingEnv(num_envs=4, limit=5), 60, *how) for how in ([each], []))
    assert len(ours) == len(theirs) > 20
    assert all((one == other).all() for one, other in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("change", [torch.Tensor.double, torch.Tensor.long])
def test_views_of_another_type_are_recorded_as_they_are(change):
    def each(step, view):
        return view.replace({STATE: change(view[STATE])})

    env = CountingEnv(num_envs=2, limit=5)
    state = change(env.reset()[STATE])
    recorder = EpisodeRecorder(env.spec, 2)
    recorder.begin(each(0, env.reset()))
    ended = None
    while ended is None:
        action = first_legal(env.reset(torch.zeros(2, dtype=torch.bool)))
        ended = recorder.record(action, each(0, env.step(action)))
    assert recorder.take()[1][STATE].dtype == state.dtype


@pytest.mark.parametrize("steps", [0, 1, 4, 17])
def test_a_recorder_goes_on_from_a_state(steps):
    env = CountingEnv(num_envs=4, limit=5)
    first, second, view = EpisodeRecorder(env.spec, 4), EpisodeRecorder(env.spec, 4), env.reset()
    first.begin(view)
    for step in range(steps + 10):
        if step == steps:
            second.begin(view)
            second.load_state_dict(first.state_dict())
        action = first_legal(view)
        view = env.step(action)
        recorders = (first, second)[: 1 + (step >= steps)]
        ended = [recorder.record(action, view) for recorder in recorders]
        if ended[0] is not None:
            assert all(torch.equal(which, ended[0]) for which in ended)
            taken = [recorder.take() for recorder in recorders]
            assert all(torch.equal(which, ended[0]) for which, _ in taken)
            assert all((episodes == taken[0][1]).all() for _, episodes in taken)
            view = env.reset(view["done"].flatten().clone())
            for recorder in recorders:
                recorder.begin(view, ended[0])


def test_of_a_view_only_what_is_asked_for_is_recorded():
    env = CountingEnv(num_envs=4, limit=5)
    recorder, view = EpisodeRecorder(env.spec, 4, seen=(STATE,)), env.reset()
    recorder.begin(view)
    ended = None
    while ended is None:
        action = first_legal(view)
        view = env.step(action)
        ended = recorder.record(action, view)
    keys = set(recorder.take()[1].keys(True, True))
    assert STATE in keys
    assert not {OBSERVATION, ACTION_MASK} & keys


def test_episodes_wait_to_be_taken_in_the_order_in_which_they_ended():
    env = CountingEnv(num_envs=4, limit=5)
    recorder, view = EpisodeRecorder(env.spec, 4), env.reset()
    recorder.begin(view)
    ended = []
    for _ in range(40):
        action = first_legal(view)
        view = env.step(action)
        if (which := recorder.record(action, view)) is not None:
            ended += which.tolist()
            view = env.reset(view["done"].flatten().clone())
            recorder.begin(view, which)
    which, together = recorder.take()
    assert which.tolist() == together[STATE][:, 0, 0].tolist() == ended
    assert recorder.take() is None
    for one, other in zip(together, play(CountingEnv(num_envs=4, limit=5), 40), strict=True):
        assert (one == other).all()


def test_recording_before_the_beginning_is_refused():
    env = CountingEnv()
    action = first_legal(env.reset())
    with pytest.raises(
        RuntimeError, match=r"No episode began yet: EpisodeRecorder.begin\(env.reset\(\)\) comes before"
    ):
        EpisodeRecorder(env.spec, 4).record(action, env.step(action))


def test_a_battle_that_outlives_its_limit_is_refused():
    env = CountingEnv(num_envs=4, limit=5)
    recorder, view = EpisodeRecorder(env.spec, 4), env.reset()
    recorder.begin(view)
    for _ in range(5):
        action = first_legal(view)
        view = env.step(action)
        recorder.record(action, view)
    with pytest.raises(RuntimeError, match="Battle 0 goes on after 5 steps, the episode_limit of its spec"):
        recorder.record(action, view)
