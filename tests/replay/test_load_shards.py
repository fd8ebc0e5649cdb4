"""A replay of several processes, divided anew."""

import pytest
import torch

from qmix_lightning.replay.archive import ReplayArchive, load_shards
from qmix_lightning.replay.buffer import ReplayBuffer
from qmix_lightning.replay.samplers.prioritised import PrioritisedSampler
from qmix_lightning.replay.samplers.uniform import UniformSampler
from tests.replay.numbered import assert_alike, episodes, numbers_of

CAPACITY = 20


def saved_by(processes, counts, tmp_path, capacity=CAPACITY, **options):
    """Archives of several processes, of which process p has the episodes 100 p, 100 p + 1, ..."""
    archives, buffers = [], []
    for process, count in zip(range(processes), counts, strict=True):
        buffer, folder = empty(capacity=capacity, seed=process, **options), tmp_path / f"rank{process}"
        for number in range(0, count, 5):
            buffer.extend(episodes(*range(100 * process + number, 100 * process + min(number + 5, count))))
        archives.append((folder, ReplayArchive(folder).save(buffer)))
        buffers.append(buffer)
    return archives, buffers


def empty(prioritised=False, seed=0, capacity=CAPACITY, **options):
    sampler = PrioritisedSampler(capacity, seed, alpha=1.0) if prioritised else UniformSampler(seed)
    return ReplayBuffer(capacity, 6, sampler, **options)


def contents(buffer):
    return numbers_of(buffer.storage.read(torch.arange(len(buffer))))


@pytest.mark.parametrize("shards", [1, 2, 3])
@pytest.mark.parametrize("counts", [[9], [9, 4], [33, 33, 7], [0, 9]], ids=str)
def test_a_divided_replay_is_dealt_out_by_age_and_none_is_lost_or_doubled(counts, shards, tmp_path):
    archives, _ = saved_by(len(counts), counts, tmp_path)
    shares = []
    for shard in range(shards):
        load_shards(buffer := empty(capacity=100), archives, shard, shards)
        read = buffer.storage.read(torch.arange(len(buffer)))
        assert (read == episodes(*contents(buffer))[:, : read.shape[1]]).all()
        shares.append(contents(buffer))
    every = [100 * p + number for p, count in enumerate(counts) for number in range(max(0, count - CAPACITY), count)]
    assert sorted(number for share in shares for number in share) == every
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    for share in shares:
        ages = [counts[number // 100] - number % 100 for number in share]
        assert ages == sorted(ages, reverse=True), "the oldest first"


def test_of_a_share_that_is_too_large_the_newest_stay(tmp_path):
    archives, _ = saved_by(2, [10, 10], tmp_path)
    load_shards(buffer := empty(capacity=7), archives, 0, 1)
    # Of two episodes of one age, that of the first process counts as the newer.
    assert contents(buffer) == [6, 107, 7, 108, 8, 109, 9]
    buffer.extend(episodes(50))
    assert contents(buffer) == [50, 107, 7, 108, 8, 109, 9]


def test_one_process_and_one_share_are_the_replay_as_it_was_but_for_the_draws(tmp_path):
    archives, (buffer,) = saved_by(1, [33], tmp_path)
    load_shards(again := empty(seed=9), archives, 0, 1)
    assert contents(again) == list(range(13, 33))
    for each in (buffer, again):
        each.sampler.load_state_dict(UniformSampler(3).state_dict())
        each.extend(episodes(50, 51, 52))
    assert sorted(contents(again)) == sorted(contents(buffer))


def test_priorities_go_with_their_episodes(tmp_path):
    archives = []
    for process in range(2):
        buffer = empty(prioritised=True)
        buffer.extend(episodes(*range(33)))
        buffer.update_priorities(torch.arange(13, 33), torch.arange(13.0, 33) + 100 * process)
        folder = tmp_path / f"rank{process}"
        archives.append((folder, ReplayArchive(folder).save(buffer)))
    for shard in range(2):
        load_shards(buffer := empty(prioritised=True), archives, shard, 2)
        rates = buffer.sampler._rates[torch.arange(20)] - buffer.sampler.epsilon
        assert (rates.round() % 100).int().tolist() == contents(buffer)
        assert buffer.sampler.highest == 132


def test_a_divided_replay_is_saved_anew_as_a_whole(tmp_path):
    archives, _ = saved_by(2, [9, 9], tmp_path)
    archive = ReplayArchive(tmp_path / "new")
    load_shards(buffer := empty(), archives, 1, 2)
    archive.load(again := empty(seed=1), archive.save(buffer))
    assert_alike(buffer, again, batches=5)


def test_a_share_that_is_none_and_shares_of_different_replays_are_refused(tmp_path):
    archives, _ = saved_by(2, [9, 9], tmp_path)
    with pytest.raises(ValueError, match="Expected a share from 0 to 1 of 2, got 2"):
        load_shards(empty(), archives, 2, 2)
    (half,), _ = saved_by(1, [9], tmp_path / "half", precision="float16")
    with pytest.raises(ValueError, match="shares of one replay, got episodes of different tasks or options"):
        load_shards(empty(), [*archives, half], 0, 2)
