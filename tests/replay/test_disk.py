import gc
import os
import subprocess
import sys

import pytest
import torch

from qmix_lightning.replay.disk import MappedRows
from tests.replay.small_disk import run_on_a_small_disk


def room_taken(mapped):
    return os.fstat(mapped._file).st_blocks * 512


def test_it_is_a_tensor_of_zeros_like_any_other(tmp_path):
    rows = MappedRows((5, 3), torch.int64, tmp_path).rows
    assert type(rows) is torch.Tensor
    assert torch.equal(rows, torch.zeros(5, 3, dtype=torch.int64))
    rows[2] = 7
    assert rows.index_select(0, torch.tensor([2, 0])).tolist() == [[7] * 3, [0] * 3]


def test_only_reserved_rows_take_up_room(tmp_path):
    mapped = MappedRows((1 << 30, 1_024), torch.uint8, tmp_path)
    assert room_taken(mapped) <= 8_192
    mapped.reserve(1 << 20, 100)
    assert 100 << 10 <= room_taken(mapped) <= 120 << 10
    mapped.reserve(1 << 20, 100)
    assert room_taken(mapped) <= 120 << 10


def test_folders_are_shared_and_left_as_they_were(tmp_path):
    (tmp_path / "replay-of-somebody.pt").write_text("theirs")
    first, second = (MappedRows((4,), torch.float32, tmp_path) for _ in range(2))
    first.rows.fill_(1.0)
    assert not second.rows.any()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("replay-of-somebody.pt", "theirs")]


def test_the_room_is_given_back_with_the_tensor(tmp_path):
    mapped = MappedRows((4,), torch.float32, tmp_path)
    number, rows = mapped._file, mapped.rows
    del mapped
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
    assert rows.fill_(3.0).sum() == 12, "whoever has the tensor may use it"


def test_a_killed_process_leaves_nothing_behind(tmp_path):
    script = (
        "import os, sys, signal, torch; from pathlib import Path; from qmix_lightning.replay.disk import MappedRows\n"
        "mapped = MappedRows((9,), torch.float32, Path(sys.argv[1])); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "made"], check=False)
    assert done.returncode == -9
    assert list((tmp_path / "made").iterdir()) == []


def test_a_folder_that_cannot_be_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"Expected a file for replayed episodes, got: .* Free space there, name another"):
        MappedRows((4,), torch.float32, tmp_path / "file")


def test_a_file_that_no_disk_can_hold_is_refused(tmp_path):
    words = r"Expected a file of up to 9,223,372,036,854,771,712 bytes, got: .*\. Free space there, .* or keep fewer"
    with pytest.raises(OSError, match=words):
        MappedRows(((1 << 51) - 1, 4_096), torch.uint8, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_error_and_not_the_end_of_the_process(tmp_path):
    script = """
import sys, torch
from pathlib import Path
from qmix_lightning.replay.disk import MappedRows
mapped = MappedRows((10_000, 1_024), torch.uint8, Path(sys.argv[1]))
mapped.reserve(0, 100)
mapped.rows[:100] = 1
try:
    mapped.reserve(100, 5_000)
except OSError as error:
    print(error)
print(int(mapped.rows[:100].sum()))
"""
    said, total = run_on_a_small_disk(script, tmp_path)
    assert "Expected room for 5,120,000 bytes, got: No space left on device. Free space there, name another" in said
    assert said.endswith(f"'{tmp_path}'")
    assert total == str(100 << 10)
