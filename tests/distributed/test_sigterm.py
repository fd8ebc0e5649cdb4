"""Two processes that are told to stop end at the same update, and go on from there."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.test_seeds import children, hear_interrupts
from tests.training import ROOT, SMALL

GAME = ROOT / "recipes/matrix/two_step_vdn.yaml"
LONG = (*SMALL, "--trainer.max_steps=100_000", "--trainer.val_check_interval=20", "--trainer.devices=2")


def started(folder, *words):
    command = [sys.executable, "-m", "qmix_lightning", "fit", "--config", GAME, *LONG, *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=folder, preexec_fn=hear_interrupts, **pipes)


def stopped(folder, which, *words):
    """What was said by a run of two processes of which one was told to stop, and its exit status."""
    run = started(folder, *words)
    said = ""
    while "env steps" not in said:
        said += run.stdout.readline()
    time.sleep(0.2)  # In the middle of an update, of an evaluation or between two.
    if which == 0:
        run.send_signal(signal.SIGTERM)
    else:
        (other,) = (child for child in children(run.pid) if "fit" in Path(f"/proc/{child}/cmdline").read_text())
        os.kill(other, signal.SIGTERM)
    try:
        rest, _ = run.communicate(timeout=120)
    finally:
        run.kill()
    return run.returncode, said + rest


@pytest.mark.parametrize("which", [0, 1])
def test_all_processes_end_at_the_same_update_whichever_is_told(tmp_path, which):
    code, said = stopped(tmp_path, which)
    assert code == 143, said[-3000:]
    assert said.splitlines()[-1] == "interrupted: the same words go on with --ckpt_path last"
    code, said = stopped(tmp_path, which, "--ckpt_path", "last")
    assert code == 143, said[-3000:]
    assert len(list(tmp_path.glob("logs/*/version_0/checkpoints/last-step=*.ckpt"))) == 2
