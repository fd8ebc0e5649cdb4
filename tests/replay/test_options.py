"""However episodes are kept, batches are the same."""

import io

import pytest
import torch

from qmix_lightning.replay.buffer import ReplayBuffer
from qmix_lightning.replay.samplers.prioritised import PrioritisedSampler
from qmix_lightning.spec import ACTION, ACTION_MASK, MASK, OBSERVATION, STATE
from tests.replay.numbered import assert_alike, episodes, numbers_of

OPTIONS = {
    "memory": lambda folder: {},
    "disk": lambda folder: {"folder": folder / "replay"},
    "packed": lambda folder: {"pack": True},
    "half": lambda folder: {"precision": "float16"},
    "all": lambda folder: {"folder": folder / "replay", "pack": True, "precision": "float16"},
    "pinned": lambda folder: {"pin_memory": True},
}


@pytest.fixture(params=OPTIONS)
def options(request, tmp_path):
    return OPTIONS[request.param](tmp_path)


@pytest.fixture(params=["uniform", "prioritised"])
def sampler(request):
    return lambda: None if request.param == "uniform" else PrioritisedSampler(20)


def filled(count=33, capacity=20, batch_size=6, **options):
    buffer = ReplayBuffer(capacity, batch_size, **options)
    for number in range(0, count, 3):
        buffer.extend(episodes(*range(number, number + 3)))
    return buffer


def test_batches_are_those_of_a_replay_in_memory(options, sampler):
    # Numbers of these episodes are exact in half precision, except for observations, which are sevenths.
    if options.pop("precision", None):
        ours, plain = filled(**options, sampler=sampler(), precision="float16"), filled(sampler=sampler())
        one, two = ours.sample(), plain.sample()
        torch.testing.assert_close(one[OBSERVATION], two[OBSERVATION], rtol=2.0**-11, atol=0)
        assert (one.exclude(OBSERVATION) == two.exclude(OBSERVATION)).all()
        assert one[OBSERVATION].dtype == torch.float32
    else:
        assert_alike(filled(**options, sampler=sampler()), filled(sampler=sampler()))


def test_a_saved_replay_goes_on_as_if_never_saved(options, sampler):
    buffer, again, file = filled(**options, sampler=sampler()), ReplayBuffer(20, 6, sampler(), **options), io.BytesIO()
    buffer.sample()
    torch.save(buffer.state_dict(), file)
    file.seek(0)
    again.load_state_dict(torch.load(file, weights_only=True))
    assert_alike(buffer, again)


def test_where_episodes_are_may_change_between_saving_and_loading(tmp_path):
    buffer, again = filled(), ReplayBuffer(20, 6, folder=tmp_path, device="cpu")
    again.load_state_dict(buffer.state_dict())
    assert_alike(buffer, again)


def test_a_batch_that_somebody_keeps_stays_as_it_is(options):
    buffer = filled(**options)
    kept = [buffer.sample() for _ in range(10)]
    before = [batch.clone() for batch in kept]
    for _ in range(20):
        buffer.sample()
        buffer.extend(episodes(50, 51))
    assert all((one == two).all() for one, two in zip(kept, before, strict=True))


def test_a_part_of_a_batch_that_somebody_keeps_stays_as_it_is():
    buffer = filled()
    kept = [buffer.sample()[OBSERVATION][2:, 1:3, :, 0] for _ in range(10)]
    before = [part.clone() for part in kept]
    for _ in range(20):
        buffer.sample()
    assert all(torch.equal(one, two) for one, two in zip(kept, before, strict=True))


def test_what_is_done_to_a_batch_is_not_done_to_a_later_one():
    buffer, other = filled(), filled()
    for _ in range(20):
        batch = buffer.sample()
        assert (batch == other.sample()).all()
        batch[STATE].fill_(torch.nan)
        batch[ACTION_MASK].logical_not_()


def observed(batch):
    """See again what follows from the state, as an environment with snapshots does."""
    whole = episodes(*numbers_of(batch))[:, : batch.shape[1]]
    assert set(batch.keys(True, True)) >= {STATE, ACTION, MASK}
    return batch.copy().update(whole.select(OBSERVATION, ACTION_MASK))


def test_compact_episodes_make_the_batches_of_whole_ones(sampler):
    whole, compact = filled(sampler=sampler()), ReplayBuffer(20, 6, sampler(), observe=observed)
    for number in range(0, 33, 3):
        compact.extend(episodes(*range(number, number + 3)).exclude(OBSERVATION, ACTION_MASK))
    for _ in range(20):
        assert (whole.sample() == compact.sample()).all()
    seen = compact.storage.episode_bytes(episodes(0).select(OBSERVATION, ACTION_MASK))
    assert whole.storage.episode_bytes() - compact.storage.episode_bytes() == seen


def test_what_was_saved_compact_is_loaded_compact():
    compact, again = (ReplayBuffer(20, 6, observe=observed) for _ in range(2))
    compact.extend(episodes(*range(25)).exclude(OBSERVATION, ACTION_MASK))
    again.load_state_dict(compact.state_dict())
    for _ in range(20):
        assert (compact.sample() == again.sample()).all()


def test_episodes_take_up_room_for_what_was_played_only(tmp_path):
    buffer = ReplayBuffer(1_000_000, 2, folder=tmp_path)
    buffer.extend(episodes(0, 1, limit=200, n_agents=50))
    rows = {key: buffer.storage._table._rows[key] for key in (STATE, OBSERVATION)}
    assert rows[OBSERVATION].nbytes > 1 << 36
    assert len(buffer.sample()) == 2
    for key in rows:
        assert not rows[key][3:201].any()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
@pytest.mark.parametrize("options", [{}, {"precision": "float16", "pack": True}], ids=str)
def test_a_replay_on_a_gpu_makes_the_same_batches_and_waits_for_nothing(options):
    ours, plain = filled(**options, device="cuda"), filled(**options)
    ours.sample()
    torch.cuda.set_sync_debug_mode("error")
    try:
        batches = [ours.sample() for _ in range(5)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    plain.sample()
    for batch in batches:
        assert batch[STATE].is_cuda
        assert (batch.cpu() == plain.sample()).all()
