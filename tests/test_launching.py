from __future__ import annotations

import os
import subprocess
import sys

import pytest

from qmix_lightning.launching import launched_processes
from tests.training import ROOT, quiet_trainer, small_data


@pytest.mark.parametrize(
    ("environment", "processes"),
    [
        ({}, 1),
        ({"WORLD_SIZE": "4"}, 1),  # a variable that anything may leave behind
        ({"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "1"}, 1),
        ({"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "4"}, 4),
        ({"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "train"}, 2),
        ({"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "interactive"}, 1),
    ],
    ids=str,
)
def test_launchers_say_how_many_processes_there_are(environment: dict[str, str], processes: int) -> None:
    assert launched_processes(environment) == processes


def test_trainings_that_would_know_nothing_of_each_other_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = small_data()
    data.trainer = quiet_trainer(1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    with pytest.raises(ValueError, match=r"Launched as one of 2 processes, but battles are played by one so far"):
        data.setup("fit")


def test_torchrun_of_two_processes_ends_in_a_line(tmp_path: os.PathLike[str]) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--no-python", "--standalone"]
    fit = [sys.executable, "-m", "qmix_lightning", "fit", "--config", str(ROOT / "recipes" / "battle" / "3m.yaml")]
    done = subprocess.run([*command, *fit], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0
    assert "Launched as one of 2 processes, but battles are played by one so far" in done.stderr
    assert not os.listdir(tmp_path)
