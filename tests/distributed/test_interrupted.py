"""Runs that go on under other circumstances than they were broken off: told, and as exact as can be."""

import shutil
import subprocess
import sys

import pytest
import torch

from tests.distributed.processes import ROOT
from tests.distributed.test_resume import SEVERAL, finish, start

SHORT = ("--trainer.max_steps=20", "--data.prioritised=false")


def run_of(folder):
    return folder / "logs/battle-3m/version_0"


def goes_on(folder, *args):
    """Start again in a copy of a folder; what the process said, and its exit status."""
    process = start(folder, *args)
    code = process.wait(timeout=300)
    return code, " ".join((folder / "said.txt").read_text().split())


@pytest.fixture(scope="module")
def broken_off(tmp_path_factory):
    """A run of two processes after 20 updates."""
    folder = tmp_path_factory.mktemp("broken_off")
    finish(start(folder, *SHORT, *SEVERAL), folder)
    (run_of(folder) / "checkpoints/last.ckpt").unlink()
    (folder / "said.txt").unlink()
    return folder


@pytest.fixture
def copy(broken_off, tmp_path):
    return shutil.copytree(broken_off, tmp_path / "copy")


def test_the_last_two_checkpoints_are_there(broken_off):
    found = sorted(path.name for path in (run_of(broken_off) / "checkpoints").glob("last*"))
    assert found == ["last-step=10.ckpt", "last-step=20.ckpt"]
    assert len(list((run_of(broken_off) / "checkpoints/replay").glob("rank*/battles-*.pt"))) == 4


def test_another_number_of_processes_divides_the_replay_anew_and_says_so(copy):
    code, said = goes_on(copy, *SHORT, "--trainer.max_steps=40")
    assert code == 0, said[-3000:]
    words = "not exactly: it was written by 2 and is read by 1 processes: battles begin anew, and the episodes of the"
    assert words in said
    before = torch.load(run_of(copy) / "checkpoints/last-step=40.ckpt", weights_only=True)["ReplayDataModule"]
    assert len(before["ranks"]) == 1
    assert sum(chunk["last"] + 1 - chunk["first"] for chunk in before["ranks"][0]["replay"]["chunks"]) >= 60
    assert {path.name for path in (run_of(copy) / "checkpoints/replay").iterdir()} == {"rank0-of-1"}, (
        "no more is needed"
    )


def test_a_checkpoint_that_was_cut_off_is_passed_over_for_the_one_before(copy):
    path = run_of(copy) / "checkpoints/last-step=20.ckpt"
    path.write_bytes(path.read_bytes()[:5000])
    code, said = goes_on(copy, *SHORT, *SEVERAL)
    assert code == 0, said[-3000:]
    assert "not exactly" not in said
    assert torch.load(path, weights_only=True)["global_step"] == 20, "written again"


def test_a_part_of_the_replay_that_was_cut_off_is_refused_by_its_name(copy):
    chunk = max((run_of(copy) / "checkpoints/replay/rank0-of-2").glob("0*.pt"))
    chunk.write_bytes(chunk.read_bytes()[:-100])
    code, said = goes_on(copy, *SHORT, *SEVERAL, "--trainer.max_steps=40")
    assert code != 0
    assert chunk.name in said


def test_battles_that_cannot_be_read_are_refused_by_their_name(copy):
    for battles in (run_of(copy) / "checkpoints/replay").glob("rank*/battles-*.pt"):
        battles.write_text("hello there")
    code, said = goes_on(copy, *SHORT, *SEVERAL, "--trainer.max_steps=40")
    assert code != 0
    assert "Expected the battles of a checkpoint in" in said
    assert "Was it cut off, or overwritten? Go on from another checkpoint." in said


def test_without_its_replay_a_run_goes_on_and_says_so(copy):
    shutil.rmtree(run_of(copy) / "checkpoints/replay")
    code, said = goes_on(copy, *SHORT, *SEVERAL, "--trainer.max_steps=30")
    assert code == 0, said[-3000:]
    assert "not exactly: its replay is gone" in said


FULL = """
import resource, signal, sys, torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from qmix_lightning.checkpointing import AtomicCheckpointIO
from tests.training import quiet_trainer, small_data, small_learner

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

class Full(Callback):
    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == 8:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

saver = ModelCheckpoint(sys.argv[1], "last-{step}", monitor="step", mode="max", save_top_k=2, every_n_train_steps=5)
data = small_data("battle/3m", replay_ratio=1.0)
try:
    quiet_trainer(
        20, callbacks=[Full(), saver], enable_checkpointing=True, plugins=[AtomicCheckpointIO()]
    ).fit(small_learner(data), data)
except OSError as error:
    print("stopped:", error)
"""


def test_when_the_disk_is_full_the_run_stops_and_its_last_checkpoint_is_whole(tmp_path):
    script = [sys.executable, "-W", "ignore", "-c", FULL, str(tmp_path)]
    said = subprocess.run(script, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert "stopped:" in said
    assert str(tmp_path) in said
    (left,) = tmp_path.glob("*.ckpt")
    assert torch.load(left, weights_only=True)["global_step"] == 5
    assert not [path for path in tmp_path.rglob("*") if "part" in path.name or path.suffix == ".tmp"]
    fit = ").fit(small_learner(data), data"
    whole = FULL.replace("== 8", "== 0").replace(fit, f"{fit}, ckpt_path=sys.argv[1] + '/last-step=5.ckpt'")
    script[4] = f"{whole}print('went on', data.trainer.global_step)\n"
    ended = subprocess.run(script, capture_output=True, text=True, cwd=ROOT, check=True)
    assert "went on 20" in ended.stdout
    assert "not exactly" not in ended.stderr
