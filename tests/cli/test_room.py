"""What there is no room for, or no device, is said in a line."""

import resource
import subprocess
import sys

import pytest
import torch

from tests.training import LIGHTNINGS_OWN_WARNING, ROOT, SMALL, qmix

pytestmark = pytest.mark.filterwarnings(LIGHTNINGS_OWN_WARNING)

BATTLE = ROOT / "recipes/battle/3m.yaml"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--data.env_options.device=cuda", "Battles on device 'cuda' need an NVIDIA GPU, but torch"),
        ("--data.replay_device=cuda", "Expected a device for replayed episodes that is there, such as 'cuda', got"),
        ("--data.replay_device=gpu", "that is there, such as 'cuda', got 'gpu'. Choose another, or leave it out"),
    ],
)
def test_a_device_that_is_not_there_is_refused_in_a_line(tmp_path, monkeypatch, capsys, option, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_:
        qmix("fit", "--config", BATTLE, *SMALL, option)
    said = capsys.readouterr().err.strip()
    assert exit_.value.code == 2
    assert said.startswith("qmix: ")
    assert words in said
    assert len(said.splitlines()) == 1


def test_a_folder_for_the_replay_that_cannot_be_made_is_refused_in_a_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "disk").write_text("not a folder")
    with pytest.raises(SystemExit) as exit_:
        qmix("fit", "--config", BATTLE, *SMALL, "--data.replay_folder=disk")
    said = capsys.readouterr().err.strip()
    assert exit_.value.code == 2
    assert len(said.splitlines()) == 1
    assert "Expected a file for replayed episodes, got: " in said
    assert "name another folder for the replay" in said


@pytest.mark.parametrize(
    ("evaluated_at", "largest", "words"),
    [
        (9, 100_000, "Expected to write {run}/checkpoints/last.ckpt, but it broke off"),
        (4, 10_000, "File too large: {run}. Make room, and go on from the last checkpoint."),
    ],
    ids=["the checkpoint at the end", "the curves"],
)
def test_what_cannot_be_written_is_named_in_a_line(tmp_path, evaluated_at, largest, words):
    command = [sys.executable, "-m", "qmix_lightning", "fit", "--config", str(BATTLE), *SMALL]
    more = ["--trainer.max_steps=5", f"--trainer.val_check_interval={evaluated_at}"]
    done = subprocess.run(
        [*command, *more],
        cwd=tmp_path,
        text=True,
        capture_output=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest)),
    )
    assert done.returncode == 2, done.stderr
    assert words.format(run="logs/battle-3m/version_0") in done.stderr.splitlines()[-1]
