"""A run that is told to stop says how to go on, and does not pass for one that has ended."""

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.cli.test_seeds import children, hear_interrupts
from tests.training import ROOT, SMALL

GAME = ROOT / "recipes/matrix/two_step_vdn.yaml"
LONG = (*SMALL, "--trainer.max_steps=100_000", "--trainer.val_check_interval=20")


def started(folder, *words):
    command = [sys.executable, "-m", "qmix_lightning", "fit", "--config", GAME, *LONG, *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=folder, preexec_fn=hear_interrupts, **pipes)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
def test_a_run_that_is_stopped_says_how_to_go_on(tmp_path, number, status):
    run = started(tmp_path)
    first = run.stdout.readline()
    assert "env steps" in first
    run.send_signal(number)
    rest, _ = run.communicate()
    assert run.returncode == status, first + rest
    assert rest.splitlines()[-1] == "interrupted: the same words go on with --ckpt_path last"


def test_a_seed_that_is_stopped_has_not_finished(tmp_path):
    sweep = started(tmp_path, "--seeds", "1")
    assert "env steps" in sweep.stdout.readline()
    (child,) = children(sweep.pid)
    os.kill(child, signal.SIGTERM)
    said, _ = sweep.communicate()
    assert sweep.returncode == 1
    assert "seed_1 failed with status 143" in said
    (record,) = tmp_path.glob("logs/*/version_0/sweep.json")
    assert not json.loads(record.read_text())["seeds"]["1"]["finished"]
