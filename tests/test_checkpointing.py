import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from qmix_lightning.checkpointing import AtomicCheckpointIO, newest_checkpoint, write_whole


def test_a_checkpoint_is_read_as_it_was_written(tmp_path):
    saver = AtomicCheckpointIO()
    saver.save_checkpoint({"global_step": 3, "weights": torch.arange(4)}, tmp_path / "new/a.ckpt")
    loaded = saver.load_checkpoint(tmp_path / "new/a.ckpt", weights_only=True)
    assert loaded["global_step"] == 3
    assert torch.equal(loaded["weights"], torch.arange(4))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.ckpt"], "nothing is left beside it"


def test_nothing_is_written_but_beside_the_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "not there"))
    AtomicCheckpointIO().save_checkpoint({"global_step": 3}, tmp_path / "a.ckpt")
    assert newest_checkpoint(tmp_path) == tmp_path / "a.ckpt"


FULL = """
import resource, signal, sys, torch
from pathlib import Path
from qmix_lightning.checkpointing import write_whole
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path(sys.argv[1])
write_whole({"global_step": 1}, path)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    write_whole({"global_step": 2, "weights": torch.zeros(100_000)}, path)
except OSError as error:
    print(error)
print(torch.load(path)["global_step"], [each.name for each in path.parent.iterdir()])
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit of a file's size here")
def test_when_the_disk_is_full_the_checkpoint_before_is_untouched(tmp_path):
    script = [sys.executable, "-c", FULL, str(tmp_path / "a.ckpt")]
    ended = subprocess.run(script, capture_output=True, text=True, cwd=Path(__file__).parents[1], check=True)
    said, left = ended.stdout.strip().splitlines()
    assert f"Expected to write {tmp_path / 'a.ckpt'}, but it broke off" in said
    assert "What was saved before is untouched: make room, and go on from it" in said
    assert left == "1 ['a.ckpt']"


class Unwilling:
    def __init__(self, error):
        self.error = error

    def __reduce__(self):
        raise self.error("not to be saved")


@pytest.mark.parametrize("error", [RuntimeError, TypeError, KeyboardInterrupt])
def test_what_cannot_be_saved_is_no_full_disk_and_leaves_nothing_behind(error, tmp_path):
    write_whole({"global_step": 1}, tmp_path / "a.ckpt")
    with pytest.raises(error, match="not to be saved"):
        write_whole({"global_step": 2, "extra": Unwilling(error)}, tmp_path / "a.ckpt")
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]
    assert torch.load(tmp_path / "a.ckpt") == {"global_step": 1}


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        write_whole({}, tmp_path / "file" / "a.ckpt")


def test_the_newest_checkpoint_is_the_one_furthest_in_training_that_can_be_read(tmp_path):
    assert newest_checkpoint(tmp_path) is None
    for update in (9, 100, 20):
        write_whole({"global_step": update}, tmp_path / f"last-step={update}.ckpt")
    assert newest_checkpoint(tmp_path) == tmp_path / "last-step=100.ckpt"
    whole = (tmp_path / "last-step=100.ckpt").read_bytes()
    (tmp_path / "last-step=100.ckpt").write_bytes(whole[: len(whole) // 2])
    assert newest_checkpoint(tmp_path) == tmp_path / "last-step=20.ckpt"
    assert newest_checkpoint(tmp_path, "best*.ckpt") is None


def test_of_two_with_as_many_updates_the_one_written_last_is_the_newest(tmp_path):
    for name in ("b", "a"):
        write_whole({"global_step": 5}, tmp_path / f"{name}.ckpt")
        os.utime(tmp_path / f"{name}.ckpt", ns=(0, {"b": 1, "a": 2}[name]))
    assert newest_checkpoint(tmp_path) == tmp_path / "a.ckpt"
