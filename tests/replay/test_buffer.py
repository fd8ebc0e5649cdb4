import pytest
import torch

from qmix_lightning.replay.buffer import ReplayBuffer
from qmix_lightning.rollout.batched import BatchedRollout
from qmix_lightning.spec import DONE, MASK, OBSERVATION, REWARD, STATE
from tests.fakes import CountingEnv, CountingPolicy


@pytest.fixture
def played():
    rollout = BatchedRollout(CountingEnv(num_envs=4, limit=7))
    return torch.cat(
        [
            episodes
            for _ in range(60)
            if (episodes := rollout.step(CountingPolicy(rollout.spec), explore=True)) is not None
        ]
    )


def filled(played, **options):
    buffer = ReplayBuffer(**{"capacity": 500, "batch_size": 8, **options})
    buffer.extend(played)
    return buffer


def test_a_batch_consists_of_episodes_that_were_put_in_cut_to_the_longest(played):
    buffer = filled(played)
    by_origin = {tuple(row[STATE][0].tolist()): row for row in played.unbind(0)}
    for _ in range(20):
        batch = buffer.sample()
        assert batch.batch_size == (8, int(batch[MASK].sum((1, 2)).max()) + 1)
        assert len({tuple(row[STATE][0].tolist()) for row in batch.unbind(0)}) == 8
        for row in batch.unbind(0):
            origin = by_origin[tuple(row[STATE][0].tolist())]
            assert (row == origin[: len(row)]).all()
            assert not origin[MASK][len(row) :].any()


def test_no_padded_step_is_replayed_as_a_real_one(played):
    buffer = filled(played)
    for _ in range(20):
        batch = buffer.sample()
        real = batch[MASK][..., 0]
        # The world's own clock runs through the real steps and has stopped on the others.
        assert torch.equal(batch[REWARD][..., 0], torch.where(real, torch.arange(real.shape[1]), 0).float())
        assert torch.equal(batch[DONE].sum((1, 2)), torch.ones(8, dtype=torch.int64))
        bootstrap = real.sum(1)
        assert torch.equal(
            batch[OBSERVATION][torch.arange(8), bootstrap, :, 1], bootstrap[:, None].expand(-1, 3).float()
        )


def test_the_same_seed_draws_the_same_batches(played):
    first, second, other = (filled(played, seed=seed) for seed in (1, 1, 2))
    assert (first.sample() == second.sample()).all()
    assert not torch.equal(first.sample()[STATE][:, 0], other.sample()[STATE][:, 0])


def test_a_saved_buffer_replays_on_as_it_would_have(played):
    buffer, restored = filled(played, capacity=20), filled(played[:9], capacity=20, seed=5)
    buffer.sample()
    restored.load_state_dict(buffer.state_dict())
    for each in (buffer, restored):
        each.extend(played[:3])
    for _ in range(3):
        assert (restored.sample() == buffer.sample()).all()


def test_its_length_is_the_number_of_episodes_up_to_the_capacity(played):
    assert len(ReplayBuffer(10, 2)) == 0
    assert len(filled(played)) == len(played)
    assert len(filled(played, capacity=10)) == 10


def test_sampling_from_too_few_episodes_is_refused(played):
    with pytest.raises(RuntimeError, match=r"A batch takes 8 episodes, the buffer holds 5\. Play more before sampling"):
        filled(played[:5]).sample()


@pytest.mark.parametrize("batch_size", [0, 11])
def test_a_batch_size_that_can_never_be_met_is_refused(batch_size):
    with pytest.raises(ValueError, match=f"batch_size <= capacity, got batch_size {batch_size}, capacity 10"):
        ReplayBuffer(10, batch_size)


def test_episodes_of_another_task_are_refused(played):
    buffer = filled(played)
    with pytest.raises(ValueError, match=r"\[8, 3, 3\] float32 as stored before, got \[8, 2, 3\]"):
        buffer.extend(played.clone().set(OBSERVATION, played[OBSERVATION][:, :, :2]))
