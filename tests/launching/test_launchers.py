"""Every launcher trains one model with all of its processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.training import ROOT

BIN = Path(sys.executable).parent
SCRIPT = str(ROOT / "recipes" / "train.py")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run")
SMALL = (
    "--config", str(ROOT / "recipes" / "matrix" / "two_step_qmix.yaml"),
    "--data.num_envs=4", "--data.batch_size=4", "--data.val_episodes=4", "--data.test_episodes=4",
    "--trainer.max_steps=2", "--trainer.val_check_interval=2", "--trainer.log_every_n_steps=1",
    "--trainer.accelerator=cpu", "--trainer.callbacks=diary.Diary", "--trainer.callbacks.folder=.",
)  # fmt: skip

Entries = list[dict[str, Any]]


def free_port() -> str:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return str(server.getsockname()[1])


def start(folder: Path, *command: str, **variables: str | None) -> subprocess.Popen[str]:
    """Start a command as a shell would, where no launcher has left anything; None takes a variable away."""
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PL_", "LT_", "SLURM_"))}
    wanted = {**inherited, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **variables}
    environment = {name: value for name, value in wanted.items() if value is not None}
    output: Mapping[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=folder, env=environment, **output)


def finish(*running: subprocess.Popen[str]) -> str:
    """Wait for all, and show what they wrote should one of them have failed."""
    try:
        written = "\n".join(process.communicate(timeout=300)[0] for process in running)
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0] * len(running), written
    return written


def python(folder: Path) -> None:
    finish(start(folder, sys.executable, SCRIPT, *SMALL, "--trainer.devices=2"))


def qmix_fit(folder: Path) -> None:
    finish(start(folder, str(BIN / "qmix"), "fit", *SMALL, "--trainer.devices=2"))


def torchrun(folder: Path) -> None:
    finish(start(folder, *TORCHRUN, "--standalone", "--nproc-per-node=2", SCRIPT, "fit", *SMALL))


def fabric_run(folder: Path) -> None:
    port = f"--main-port={free_port()}"
    finish(start(folder, str(BIN / "fabric"), "run", "--devices=2", port, "--precision=bf16-mixed", SCRIPT, *SMALL))


def qmix_run(folder: Path) -> None:
    run = (sys.executable, "-m", "qmix_lightning", "run", "--devices=2", "--precision=bf16-mixed", "--strategy=ddp")
    recipe, *rest = SMALL[1:]
    finish(start(folder, *run, recipe, *rest, OMP_NUM_THREADS=None))


def qmix_run_with_a_script(folder: Path) -> None:
    finish(start(folder, sys.executable, "-m", "qmix_lightning", "run", "--devices=2", SCRIPT, *SMALL))


def srun(folder: Path, nodes: int, tasks: int, *more: str) -> list[subprocess.Popen[str]]:
    """Start the tasks of job 17 with what SLURM would tell them."""
    here = tasks // nodes
    job = {"SLURM_JOB_ID": "17", "SLURM_JOB_NAME": "train", "SLURM_NODELIST": "127.0.0.1", "MASTER_PORT": free_port()}
    shape = {"SLURM_NTASKS": str(tasks), "SLURM_NNODES": str(nodes), "SLURM_NTASKS_PER_NODE": str(here)}
    running = []
    for rank in range(tasks):
        place = {"SLURM_PROCID": rank, "SLURM_NODEID": rank // here, "SLURM_LOCALID": rank % here}
        told = {**job, **shape, **{name: str(number) for name, number in place.items()}}
        running.append(start(folder, sys.executable, SCRIPT, *SMALL, *more, **told))
    return running


def srun_on_one_node(folder: Path) -> None:
    finish(*srun(folder, 1, 2))


def srun_on_two_nodes(folder: Path) -> None:
    finish(*srun(folder, 2, 2))


def torchrun_on_two_nodes(folder: Path) -> None:
    meeting = ("--nnodes=2", "--nproc-per-node=1", "--master-addr=127.0.0.1", f"--master-port={free_port()}")
    finish(*(start(folder, *TORCHRUN, *meeting, f"--node-rank={node}", SCRIPT, *SMALL) for node in (0, 1)))


LAUNCHES: dict[Callable[[Path], None], dict[str, Any]] = {
    python: {},
    qmix_fit: {},
    torchrun: {},
    fabric_run: {"precision": "bf16-mixed"},
    qmix_run: {"precision": "bf16-mixed", "threads": str(max(1, len(os.sched_getaffinity(0)) // 2))},
    qmix_run_with_a_script: {},
    srun_on_one_node: {},
    srun_on_two_nodes: {"num_nodes": 2},
    torchrun_on_two_nodes: {"num_nodes": 2},
}
"""The launchers, and what the Trainer should know about each beside the usual."""

COVERED_BY_ANOTHER = (python, qmix_run_with_a_script, srun_on_one_node)


@pytest.mark.parametrize(
    "launch",
    [pytest.param(way, marks=pytest.mark.slow if way in COVERED_BY_ANOTHER else ()) for way in LAUNCHES],
    ids=lambda way: way.__name__,
)
def test_all_processes_of_a_launcher_train_one_model(launch: Callable[[Path], None], tmp_path: Path) -> None:
    launch(tmp_path)

    known = LAUNCHES[launch]
    num_nodes = known.get("num_nodes", 1)
    assert sorted(path.name for path in tmp_path.glob("*.json")) == ["0.json", "1.json"]
    entries: Entries = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    for rank, entry in enumerate(entries):
        assert entry["world_size"] == 2
        assert entry["num_nodes"] == num_nodes
        assert entry["node"] == (rank if num_nodes == 2 else 0)
        assert entry["strategy"] == "DDPStrategy"
        assert entry["precision"] == known.get("precision", "32-true")
        assert entry["threads"] == known.get("threads", "1")
        assert entry["updates"] == 2
        assert entry["weights"] == entries[0]["weights"]
    run = tmp_path / "logs" / "matrix-two_step" / "version_0"
    assert {tmp_path / entry["folder"] for entry in entries} == {run}
    assert [path.name for path in run.parent.iterdir()] == ["version_0"]
    assert [path.name for path in run.glob("**/best*.ckpt")] == ["best-step=2.ckpt"]


def test_a_trainer_that_contradicts_its_launcher_ends_in_a_line(tmp_path: Path) -> None:
    run = (sys.executable, "-m", "qmix_lightning", "run", "--devices=2")
    running = start(tmp_path, *run, *SMALL, "--trainer.devices=1")
    written = running.communicate(timeout=300)[0]
    assert running.returncode == 2
    assert "trainer.devices is 1, but the launcher, fabric run, was told --devices 2." in written
    assert "Traceback" not in written
    assert not os.listdir(tmp_path)


@pytest.mark.slow
def test_a_job_that_slurm_ends_goes_on_from_its_last_checkpoint(tmp_path: Path) -> None:
    often = ("--trainer.val_check_interval=5", "--ckpt_path=last")
    job = srun(tmp_path, 1, 2, *often, "--trainer.max_steps=100_000")
    try:
        wait_for(tmp_path / "begun", job[0])
        for task in job:
            task.send_signal(signal.SIGUSR1)
        assert [task.wait(timeout=60) for task in job] == [-signal.SIGUSR1] * 2
    finally:
        for task in job:
            task.kill()
            task.communicate()

    finish(*srun(tmp_path, 1, 2, *often, "--trainer.max_steps=100"))

    for rank in (0, 1):
        entry = json.loads((tmp_path / f"{rank}.json").read_text())
        assert 5 <= entry["first_update"] < 100
        assert entry["updates"] == 100


def wait_for(path: Path, running: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 120
    while not path.exists():
        assert running.poll() is None, running.communicate()[0]
        assert time.monotonic() < end, f"{path} was never written"
        time.sleep(0.05)
