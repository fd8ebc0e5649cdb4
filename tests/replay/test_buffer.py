import pytest
import torch

from qmix_lightning.replay.buffer import ReplayBuffer
from qmix_lightning.replay.samplers.prioritised import PrioritisedSampler
from qmix_lightning.replay.samplers.uniform import UniformSampler
from qmix_lightning.rollout.batched import BatchedRollout
from qmix_lightning.spec import DONE, EPISODE, MASK, OBSERVATION, PRIORITY_WEIGHT, REWARD, STATE
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


def prioritised(played, *, capacity=500, seed=0, beta=1.0, **options):
    sampler = PrioritisedSampler(capacity, seed, alpha=1.0, beta=beta)
    return filled(played, capacity=capacity, sampler=sampler, **options)


def origin(row):
    """Which episode of which battle a row holds."""
    return tuple(row[STATE][0, :2].tolist())


def surprise(buffer, number, by=1e9):
    """Make one episode's priority so large that every batch has it."""
    buffer.update_priorities(torch.tensor([number]), torch.tensor([by]))


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
    first, second, other = (filled(played, sampler=UniformSampler(seed)) for seed in (1, 1, 2))
    assert (first.sample() == second.sample()).all()
    assert not torch.equal(first.sample()[STATE][:, 0], other.sample()[STATE][:, 0])


def test_a_saved_buffer_replays_on_as_it_would_have(played):
    buffer, restored = filled(played, capacity=20), filled(played[:9], capacity=20, sampler=UniformSampler(5))
    buffer.sample()
    restored.load_state_dict(buffer.state_dict())
    for each in (buffer, restored):
        each.extend(played[:3])
    for _ in range(3):
        assert (restored.sample() == buffer.sample()).all()


def test_a_uniform_batch_carries_nothing_that_it_has_no_use_for(played):
    assert not {EPISODE, PRIORITY_WEIGHT} & set(filled(played).sample().keys(True, True))


def test_a_prioritised_batch_says_which_episode_each_step_is_of_and_how_much_it_counts(played):
    buffer = prioritised(played)
    buffer.update_priorities(torch.arange(len(played)), torch.rand(len(played)))
    batch = buffer.sample()
    assert batch[EPISODE].shape == batch[PRIORITY_WEIGHT].shape == (*batch.shape, 1)
    assert (batch[EPISODE].dtype, batch[PRIORITY_WEIGHT].dtype) == (torch.int64, torch.float32)
    for row in batch.unbind(0):
        number, weight = row[EPISODE].unique(), row[PRIORITY_WEIGHT].unique()
        assert origin(row) == origin(played[int(number)])
        assert 0 < float(weight) <= 1
    assert batch[PRIORITY_WEIGHT].max() == 1
    assert batch[EPISODE].untyped_storage().nbytes() == 8 * len(batch), "one number an episode"


def test_priorities_find_the_episodes_that_they_are_of(played):
    buffer = prioritised(played)
    for number in (0, 17, len(played) - 1):
        buffer.update_priorities(torch.arange(len(played)), torch.ones(len(played)))
        surprise(buffer, number)
        assert origin(played[number]) in {origin(row) for row in buffer.sample().unbind(0)}


def test_priorities_find_their_episodes_after_the_ring_has_gone_round(played):
    buffer = prioritised(played[:25], capacity=10, batch_size=2)
    for number in range(15, 25):
        buffer.update_priorities(torch.arange(15, 25), torch.ones(10))
        surprise(buffer, number)
        batch = buffer.sample()
        assert int(batch[EPISODE].min()) >= 15
        assert origin(played[number]) in {origin(row) for row in batch.unbind(0)}


def test_the_priority_of_an_episode_that_was_overwritten_meanwhile_is_dropped(played):
    buffer = prioritised(played[:10], capacity=10)
    numbers = buffer.sample()[EPISODE][:, 0, 0]
    buffer.extend(played[10:14])
    buffer.update_priorities(numbers, 1.0 + numbers)
    rates, late = buffer.sampler._rates[torch.arange(10)] - buffer.sampler.epsilon, set(numbers.tolist()) & {0, 1, 2, 3}
    assert late, "the batch had some of those overwritten"
    for number in numbers.tolist():
        assert float(rates[number]) == pytest.approx(1.0 if number in late else 1.0 + number)


def test_a_new_episode_does_not_inherit_the_priority_of_the_one_it_overwrites(played):
    buffer = prioritised(played[:10], capacity=10)
    buffer.update_priorities(torch.arange(10), torch.tensor([1e-9, *[1.0] * 9]))
    buffer.extend(played[10:11])
    assert float(buffer.sampler._rates[torch.tensor([0])]) == pytest.approx(1.0)


def test_a_saved_prioritised_buffer_replays_on_as_it_would_have(played):
    buffer, restored = prioritised(played, capacity=20), prioritised(played[:9], capacity=20, seed=5, beta=0.1)
    for _ in range(3):
        numbers = buffer.sample()[EPISODE][:, 0, 0]
        buffer.update_priorities(numbers, numbers / 7)
    restored.load_state_dict(buffer.state_dict())
    for _ in range(3):
        one, other = buffer.sample(), restored.sample()
        assert (one == other).all()
        for each in (buffer, restored):
            each.update_priorities(one[EPISODE][:, 0, 0], one[PRIORITY_WEIGHT][:, 0, 0])
            each.extend(played[:3])


def test_after_going_back_to_a_saved_buffer_priorities_of_what_came_later_are_dropped(played):
    buffer = prioritised(played[:9])
    state = buffer.state_dict()
    buffer.extend(played[9:12])
    buffer.load_state_dict(state)
    surprise(buffer, 10)
    assert buffer.sampler._rates.total == pytest.approx(9, rel=1e-4)


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


def test_a_uniform_buffer_has_no_use_for_priorities(played):
    with pytest.raises(TypeError, match="goes by priorities, got a UniformSampler"):
        surprise(filled(played), 0)


def test_episodes_of_another_task_are_refused(played):
    buffer = filled(played)
    with pytest.raises(ValueError, match=r"\[8, 3, 3\] float32 as stored before, got \[8, 2, 3\]"):
        buffer.extend(played.clone().set(OBSERVATION, played[OBSERVATION][:, :, :2]))


def test_it_tells_how_many_steps_were_drawn(played):
    buffer = filled(played)
    assert buffer.steps_drawn == 0
    for _ in range(3):
        assert int(buffer.sample()[MASK].sum()) == buffer.steps_drawn > 0
