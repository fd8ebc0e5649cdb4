import io
import os
import signal
import subprocess
import sys

import pytest
import torch

from qmix_lightning.replay.archive import ReplayArchive
from qmix_lightning.replay.buffer import ReplayBuffer
from qmix_lightning.replay.samplers.prioritised import PrioritisedSampler
from qmix_lightning.replay.samplers.uniform import UniformSampler
from qmix_lightning.spec import STATE
from tests.replay.numbered import assert_alike, episodes, numbers_of
from tests.replay.small_disk import run_on_a_small_disk
from tests.replay.test_options import OPTIONS

CAPACITY = 20


@pytest.fixture(params=["memory", "all"])
def options(request, tmp_path):
    return OPTIONS[request.param](tmp_path)


@pytest.fixture
def archive(tmp_path):
    return ReplayArchive(tmp_path / "rank0")


def empty(prioritised=False, seed=0, capacity=CAPACITY, **options):
    sampler = PrioritisedSampler(capacity, seed, alpha=1.0) if prioritised else UniformSampler(seed)
    return ReplayBuffer(capacity, 6, sampler, **options)


def add(buffer, first, end):
    buffer.extend(episodes(*range(first, end)))


def filled(count=33, **options):
    buffer = empty(**options)
    add(buffer, 0, count)
    return buffer


def read_again(manifest):
    """A manifest as a checkpoint gives it back."""
    file = io.BytesIO()
    torch.save(manifest, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def files(archive):
    return sorted(path.name for path in archive.folder.iterdir())


def spans(manifest):
    return [(chunk["first"], chunk["last"]) for chunk in manifest["chunks"]]


@pytest.mark.parametrize("prioritised", [False, True], ids=["uniform", "prioritised"])
@pytest.mark.parametrize("saves", [[], [3], [3, 5], [20], [33], [7, 20, 21, 22, 50], [1] * 45], ids=str)
def test_a_resumed_replay_goes_on_as_one_that_was_never_saved(saves, prioritised, options, archive):
    buffer = empty(prioritised, **options)
    manifest, count = archive.save(buffer), 0
    for more in saves:
        add(buffer, count, count + more)
        count += more
        if len(buffer) >= 6:
            batch = buffer.sample()
            if prioritised:
                buffer.update_priorities(batch["index"][:, 0, 0], batch[STATE][:, 0, 0])
        manifest = archive.save(buffer)
    resumed, inline = filled(9, prioritised=prioritised, seed=5, **options), empty(prioritised, seed=6, **options)
    ReplayArchive(archive.folder).load(resumed, read_again(manifest))
    inline.load_state_dict(buffer.state_dict())
    for each in (buffer, resumed, inline):
        add(each, count, count + 6)
    state = buffer.sampler.state_dict()
    assert_alike(buffer, resumed, batches=50 if len(saves) < 5 else 10)
    buffer.load_state_dict(inline.state_dict())
    buffer.sampler.load_state_dict(state)
    assert_alike(buffer, inline, batches=10)


def test_only_what_is_new_is_written(archive):
    buffer, written = empty(), []
    for first in range(0, 60, 6):
        add(buffer, first, first + 6)
        manifest = archive.save(buffer)
        written.append(files(archive))
    assert [len(names) for names in written] == list(range(1, 11))
    assert spans(manifest) == [(36, 41), (42, 47), (48, 53), (54, 59)], "those that hold the last twenty"


def test_saving_twice_writes_nothing(archive):
    buffer = filled(9)
    first = archive.save(buffer)
    before = {path: path.stat().st_mtime_ns for path in archive.folder.iterdir()}
    buffer.sample()
    second = archive.save(buffer)
    assert {path: path.stat().st_mtime_ns for path in archive.folder.iterdir()} == before
    assert second["chunks"] == first["chunks"]
    assert not torch.equal(second["sampler"]["generator"], first["sampler"]["generator"])


def test_nothing_is_saved_of_an_empty_replay(archive):
    manifest = archive.save(empty())
    assert (manifest["chunks"], archive.folder.exists()) == ([], False)
    archive.load(buffer := filled(9), manifest)
    assert len(buffer) == 0


def test_every_earlier_manifest_can_be_resumed_until_it_is_pruned(archive):
    buffer, saved = empty(), []
    for first in range(0, 42, 7):
        add(buffer, first, first + 7)
        saved.append((archive.save(buffer), buffer.state_dict()))
    for manifest, state in saved:
        resumed, again = empty(seed=1), empty(seed=2)
        ReplayArchive(archive.folder).load(resumed, manifest)
        again.load_state_dict(state)
        assert_alike(resumed, again, batches=5)
    archive.prune([saved[-2][0]])
    ReplayArchive(archive.folder).load(empty(), saved[-1][0])
    ReplayArchive(archive.folder).load(empty(), saved[-2][0])
    with pytest.raises(FileNotFoundError, match="Expected episodes 0 to 6 of a saved replay, got no such file"):
        ReplayArchive(archive.folder).load(empty(), saved[0][0])


def test_pruning_removes_what_is_not_named_and_what_was_left_unfinished_and_nothing_else(archive, tmp_path):
    archive.prune([])
    assert not archive.folder.exists()
    buffer = filled(6)
    first = archive.save(buffer)
    add(buffer, 6, 40)
    second = archive.save(buffer)
    others = ["battles-000000001.pt", "notes.txt", ".battles.pt.part7"]
    for name in [*others, "000000040-000000041.pt.tmp"]:
        (archive.folder / name).touch()
    archive.prune([first])
    names = [chunk["name"] for chunk in first["chunks"] + second["chunks"]]
    assert files(archive) == sorted([*names, *others])
    ReplayArchive(archive.folder).prune([second])
    assert files(archive) == sorted([*(chunk["name"] for chunk in second["chunks"]), *others])


def test_a_run_resumed_from_an_older_checkpoint_leaves_those_of_the_newer_one_intact(archive):
    buffer = filled(6)
    older = archive.save(buffer)
    add(buffer, 6, 9)
    newer = archive.save(buffer)
    resumed, again = empty(), ReplayArchive(archive.folder)
    again.load(resumed, older)
    add(resumed, 16, 19)
    other = again.save(resumed)
    for manifest, last in ((newer, [6, 7, 8]), (other, [16, 17, 18])):
        ReplayArchive(archive.folder).load(buffer, manifest)
        assert numbers_of(buffer.storage.read(torch.arange(9))) == [0, 1, 2, 3, 4, 5, *last]


def test_a_run_that_repeats_what_it_did_writes_the_same_files(archive):
    buffer = filled(6)
    older = archive.save(buffer)
    add(buffer, 6, 9)
    newer = archive.save(buffer)
    resumed, again = empty(), ReplayArchive(archive.folder)
    again.load(resumed, older)
    add(resumed, 6, 9)
    (archive.folder / newer["chunks"][-1]["name"]).write_bytes(b"half a fi")
    assert again.save(resumed)["chunks"] == newer["chunks"]
    assert len(files(archive)) == 2
    archive.load(buffer, newer)


def test_a_replay_that_was_replaced_is_saved_anew(archive):
    buffer = filled(9)
    archive.save(buffer)
    buffer.load_state_dict(filled(7).state_dict())
    add(buffer, 17, 19)
    archive.load(resumed := empty(), archive.save(buffer))
    assert numbers_of(resumed.storage.read(torch.arange(9))) == [0, 1, 2, 3, 4, 5, 6, 17, 18]


def test_what_somebody_removed_is_saved_anew(archive):
    buffer = filled(6)
    archive.save(buffer)
    add(buffer, 6, 9)
    manifest = archive.save(buffer)
    (archive.folder / manifest["chunks"][0]["name"]).unlink()
    archive.load(resumed := empty(), archive.save(buffer))
    assert_alike(buffer, resumed, batches=5)


def test_large_replays_are_written_in_pieces_and_small_ones_joined(tmp_path):
    buffer, archive = filled(20), ReplayArchive(tmp_path, chunk_bytes=8_000, most_chunks=6)
    episode = buffer.storage.episode_bytes()
    manifest = archive.save(buffer)
    assert 3 <= 8_000 // episode < 20
    assert [last - first + 1 for first, last in spans(manifest)][:-1] == [8_000 // episode] * (len(spans(manifest)) - 1)
    for number in range(20, 60):
        add(buffer, number, number + 1)
        manifest = archive.save(buffer)
        first, last = zip(*spans(manifest), strict=True)
        assert first[0] <= number - 19
        assert last[-1] == number
        assert list(first[1:]) == [each + 1 for each in last[:-1]], "every episode is in one chunk"
        assert len(first) <= 20
        archive.prune([])
        assert len(files(archive)) == len(first)
        ReplayArchive(tmp_path).load(resumed := empty(seed=number), manifest)
        assert (resumed.storage.read(torch.arange(20)) == buffer.storage.read(torch.arange(20))).all()


def test_thousands_of_saves_leave_no_more_files_than_were_said(tmp_path):
    buffer, archive, most = ReplayBuffer(100, 6), ReplayArchive(tmp_path, most_chunks=10), 0
    for number in range(150):
        add(buffer, number, number + 1)
        manifest = archive.save(buffer)
        archive.prune([])
        most = max(most, len(files(archive)))
    assert 5 < most <= 10
    archive.load(resumed := ReplayBuffer(100, 6), manifest)
    assert_alike(buffer, resumed, batches=5)


@pytest.mark.parametrize(
    "spoil", [lambda data: data[:-1], lambda data: data[:100] + b"\0" + data[101:], lambda data: b""]
)
def test_a_chunk_that_was_cut_off_or_changed_is_refused_by_name_and_changes_nothing(spoil, archive):
    buffer, resumed = filled(6), filled(9)
    archive.save(buffer)
    add(buffer, 6, 9)
    manifest = archive.save(buffer)
    path = archive.folder / manifest["chunks"][1]["name"]
    data = path.read_bytes()
    path.write_bytes(spoiled := spoil(data))
    assert spoiled != data
    words = rf"Expected {path} to be the {len(data):,} bytes of checksum .* that were saved, got {len(spoiled):,} bytes"
    with pytest.raises(ValueError, match=words):
        ReplayArchive(archive.folder).load(resumed, manifest)
    assert_alike(resumed, filled(9), batches=5)


def test_a_chunk_that_is_gone_is_refused_by_name_and_changes_nothing(archive):
    manifest, resumed = archive.save(filled(6)), filled(9)
    path = archive.folder / manifest["chunks"][0]["name"]
    path.unlink()
    with pytest.raises(FileNotFoundError, match="go on from a newer one, or without its replay") as caught:
        ReplayArchive(archive.folder).load(resumed, manifest)
    assert caught.value.filename == str(path)
    assert_alike(resumed, filled(9), batches=5)


def test_a_replay_of_another_capacity_or_form_is_refused(archive):
    manifest = archive.save(filled(9))
    with pytest.raises(ValueError, match=r"capacity 30, got one of 20\. Set the capacity that it was saved with, or"):
        archive.load(empty(capacity=30), manifest)
    with pytest.raises(ValueError, match=r"float32 kept as float16, got \[2\] float32\. Set the precision and the"):
        archive.load(empty(precision="float16"), manifest)
    with pytest.raises(ValueError, match="Expected the state of a PrioritisedSampler"):
        archive.load(empty(prioritised=True), manifest)


SAVING = """
import sys
from qmix_lightning.replay.archive import ReplayArchive
from qmix_lightning.replay.buffer import ReplayBuffer
from tests.replay.numbered import episodes
archive, buffer = ReplayArchive(sys.argv[1]), ReplayBuffer(10_000, 6)
"""


def test_a_full_disk_is_an_error_that_leaves_everything_as_it_was(tmp_path):
    script = (
        SAVING
        + """
import os
buffer.extend(episodes(*range(100)))
manifest = archive.save(buffer)
before = os.listdir(sys.argv[1])
buffer.extend(episodes(*range(100, 4_000)))
for _ in range(2):
    try:
        archive.save(buffer)
    except OSError as error:
        print(error.errno, error)
print(os.listdir(sys.argv[1]) == before)
again = ReplayBuffer(10_000, 6)
ReplayArchive(sys.argv[1]).load(again, manifest)
print(len(again))
buffer.storage.begin(buffer.storage.form(), 0)
buffer.extend(episodes(*range(120)))
archive.save(buffer)
"""
    )
    first, second, untouched, count = run_on_a_small_disk(script, tmp_path)
    assert first == second
    words = (
        "28 [Errno 28] Expected to save episodes 100 to 3999 of the replay, got: No space left on device. Free space"
    )
    assert first.startswith(words)
    assert first.endswith(f"what was saved before is untouched: '{tmp_path}'")
    assert (untouched, count) == ("True", "100")


def test_a_folder_that_cannot_be_written_to_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="Expected to save episodes 0 to 8 of the replay, got: "):
        ReplayArchive(tmp_path / "file").save(filled(9))


def test_a_run_killed_at_any_moment_resumes_from_its_last_manifest(tmp_path):
    script = (
        SAVING
        + """
import os, torch
for number in range(10_000):
    buffer.extend(episodes(*range(3 * number, 3 * number + 3)))
    torch.save(archive.save(buffer), sys.argv[1] + "/part")
    os.replace(sys.argv[1] + "/part", sys.argv[1] + "/manifest")
    print(number, flush=True)
"""
    )
    for wait in (1, 20):
        with subprocess.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE) as run:
            for _ in range(wait):
                run.stdout.readline()
            run.send_signal(signal.SIGKILL)
        manifest, archive = torch.load(tmp_path / "manifest", weights_only=True), ReplayArchive(tmp_path)
        archive.load(buffer := ReplayBuffer(10_000, 6), manifest)
        assert len(buffer) == manifest["written"] >= 3 * wait
        assert numbers_of(buffer.storage.read(torch.arange(len(buffer)))) == list(range(len(buffer)))
        archive.prune([manifest])
        left = set(os.listdir(tmp_path)) - {"manifest", "part"}
        assert left == {chunk["name"] for chunk in manifest["chunks"]}
