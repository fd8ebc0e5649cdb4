import io

import pytest
import torch

from qmix_lightning.replay.storage import EpisodeStorage
from qmix_lightning.spec import MASK, STATE
from tests.replay.numbered import episodes, numbers_of


def test_what_is_read_is_what_was_stored():
    storage = EpisodeStorage(8)
    storage.extend(episodes(4, 1, 9))
    assert (storage.read(torch.tensor([2, 0, 1])) == episodes(9, 4, 1)).all()


def test_reading_cuts_behind_the_step_after_the_last_and_is_contiguous():
    storage = EpisodeStorage(8)
    storage.extend(episodes(0, 1, 2, 3))
    batch = storage.read(torch.tensor([0, 2]))
    assert batch.batch_size == (2, 4)
    assert all(entry.is_contiguous() and entry.shape[:2] == (2, 4) for entry in batch.values(True, True))
    assert (batch == episodes(0, 2)[:, :4]).all()


def test_a_batch_is_a_copy():
    storage = EpisodeStorage(8)
    storage.extend(episodes(0, 1))
    storage.read(torch.tensor([0]))[STATE].zero_().sub_(7)
    assert (storage.read(torch.tensor([0, 1])) == episodes(0, 1)[:, :3]).all()


def test_of_the_padding_one_step_is_kept_whatever_it_holds():
    storage, strange = EpisodeStorage(8), episodes(0, 1, 4)
    padding = torch.arange(6) > torch.tensor([[1], [2], [5]])
    strange[STATE][padding] = -7.0
    storage.extend(strange)
    assert (storage.read(torch.arange(3)) == strange).all()


def test_padding_is_known_though_the_first_episodes_had_none():
    storage = EpisodeStorage(8)
    for number in (4, 9, 1, 14):
        storage.extend(episodes(number))
    assert (storage.read(torch.tensor([2, 0, 3])) == episodes(1, 4, 14)).all()


def test_episodes_without_a_step_to_bootstrap_from_are_kept_whole():
    storage, whole = EpisodeStorage(4), episodes(4, 9)
    whole[MASK].fill_(True)
    storage.extend(whole)
    assert (storage.read(torch.tensor([1, 0])) == whole[[1, 0]]).all()


def test_it_says_what_an_episode_takes_before_and_after_it_has_one():
    storage, like = EpisodeStorage(8), episodes(0)
    plain = sum(entry[0].nbytes for entry in like.values(True, True))
    assert (storage.episode_bytes(), storage.episode_bytes(like)) == (0, plain)
    storage.extend(like)
    assert storage.episode_bytes() == plain
    half, packed = EpisodeStorage(8, precision="float16"), EpisodeStorage(8, pack=True)
    assert half.episode_bytes(like) == plain - 6 * (2 * 2 + 3 * 2 * 2)
    assert packed.episode_bytes(like) == plain - 6 * (12 - 2), "a truth value alone takes a byte either way"


def test_the_newest_overwrites_the_oldest():
    storage = EpisodeStorage(4)
    for first in range(0, 9, 3):
        storage.extend(episodes(first, first + 1, first + 2))
    assert len(storage) == 4
    assert sorted(numbers_of(storage.read(torch.arange(4)))) == [5, 6, 7, 8]


@pytest.mark.parametrize("before", [(), (100,), (100, 101, 102)])
def test_of_more_episodes_than_fit_the_last_stay(before):
    storage = EpisodeStorage(4)
    if before:
        storage.extend(episodes(*before))
    storage.extend(episodes(*range(9)))
    assert sorted(numbers_of(storage.read(torch.arange(4)))) == [5, 6, 7, 8]
    storage.extend(episodes(9))
    assert sorted(numbers_of(storage.read(torch.arange(4)))) == [6, 7, 8, 9]


@pytest.mark.parametrize("batches", [[3], [3, 3], [4, 4], [9], [3, 9], [1] * 11])
def test_an_episode_is_found_by_its_number_until_it_is_overwritten(batches):
    storage, count = EpisodeStorage(4), 0
    for size in batches:
        placed = storage.extend(episodes(*range(count, count + size)))
        count += size
        kept = torch.arange(max(0, count - min(size, 4)), count)
        assert numbers_of(storage.read(placed)) == kept.tolist()
        assert torch.equal(storage.number(placed), kept)
    number = torch.arange(count + 2)
    place, there = storage.place(number)
    assert number[there].tolist() == list(range(max(0, count - 4), count))
    assert numbers_of(storage.read(place[there])) == number[there].tolist()


def test_the_lengths_are_those_of_the_episodes_that_overwrote():
    storage = EpisodeStorage(1)
    for number in (4, 0, 2):
        storage.extend(episodes(number))
        assert storage.read(torch.tensor([0])).batch_size == (1, number + 2)


@pytest.mark.parametrize("count", [0, 3, 9])
def test_a_saved_storage_goes_on_as_it_would_have(count):
    storage, restored = EpisodeStorage(4), EpisodeStorage(4)
    for number in range(count):
        storage.extend(episodes(number))
    file = io.BytesIO()
    torch.save(storage.state_dict(), file)
    file.seek(0)
    restored.load_state_dict(torch.load(file, weights_only=True))
    assert len(restored) == len(storage)
    for each in (storage, restored):
        each.extend(episodes(20, 21))
    index = torch.arange(len(storage))
    assert (restored.read(index) == storage.read(index)).all()


def test_a_saved_storage_takes_no_more_room_than_its_episodes():
    storage, file = EpisodeStorage(100_000), io.BytesIO()
    storage.extend(episodes(1))
    torch.save(storage.state_dict(), file)
    assert len(file.getvalue()) < 20_000


def test_loading_replaces_what_was_there():
    empty, storage = EpisodeStorage(4), EpisodeStorage(4)
    storage.extend(episodes(1))
    storage.load_state_dict(empty.state_dict())
    assert len(storage) == 0


def test_another_capacity_than_the_saved_one_is_refused():
    storage = EpisodeStorage(4)
    storage.extend(episodes(*range(9)))
    with pytest.raises(ValueError, match="storage of capacity 8, got one with 4 of 9 episodes kept"):
        EpisodeStorage(8).load_state_dict(storage.state_dict())


def test_episodes_of_another_task_are_refused_by_entry_and_shape():
    storage = EpisodeStorage(8)
    storage.extend(episodes(0))
    with pytest.raises(
        ValueError, match=r"\('agents', 'observation'\) \[6, 3, 2\] float32 as stored before, got \[6, 2,"
    ):
        storage.extend(episodes(1, n_agents=2))
    with pytest.raises(ValueError, match=r"\[6, 2\] float32 as stored before, got \[8, 2\] float32"):
        storage.extend(episodes(1, limit=7))
    with pytest.raises(ValueError, match=r"'state' \[6, 2\] float32 as stored before, got absent"):
        storage.extend(episodes(1).exclude(STATE))
    with pytest.raises(ValueError, match=r"'state' \[6, 2\] float32 as stored before, got \[6, 2\] float64"):
        storage.extend(episodes(1).set(STATE, episodes(1)[STATE].double()))
    assert len(storage) == 1


def test_the_state_of_another_form_is_refused_and_changes_nothing():
    half, storage = EpisodeStorage(4, precision="float16"), EpisodeStorage(4)
    half.extend(episodes(1))
    storage.extend(episodes(2, 3))
    words = r"saved episodes with 'state' \[2\] float32, got \[2\] float32 kept as float16\. Set the precision and the"
    with pytest.raises(ValueError, match=words):
        storage.load_state_dict(half.state_dict())
    assert numbers_of(storage.read(torch.arange(2))) == [2, 3]


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="float32 or float16, got precision 'bfloat16'"):
        EpisodeStorage(4, precision="bfloat16")


def test_files_are_refused_on_a_gpu(tmp_path):
    with pytest.raises(ValueError, match=r"files to be on the CPU, got folder .* and device cuda\. Leave one"):
        EpisodeStorage(4, "cuda", folder=tmp_path)


@pytest.mark.parametrize("device", ["gpu", "cuda"])
def test_a_device_that_is_not_there_is_refused(device):
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(ValueError, match=rf"that is there, such as 'cuda', got '{device}'\. Choose another, or leave"):
        EpisodeStorage(4, device).extend(episodes(1))


def test_where_there_is_less_memory_than_asked_for_it_says_how_much_and_what_to_do():
    wide = episodes(1)
    wide[STATE] = torch.zeros(1, 6, 1).expand(-1, -1, 1 << 30)
    words = r"on cpu for [\d,]{21} bytes, 100,000 episodes, got: .*\. Lower the capacity, or keep episodes"
    with pytest.raises(MemoryError, match=words):
        EpisodeStorage(100_000).extend(wide)


def test_no_capacity_is_refused():
    with pytest.raises(ValueError, match="capacity >= 1, got 0"):
        EpisodeStorage(0)


def test_reading_from_nothing_is_refused():
    with pytest.raises(RuntimeError, match="holds no episode yet"):
        EpisodeStorage(4).read(torch.tensor([0]))
