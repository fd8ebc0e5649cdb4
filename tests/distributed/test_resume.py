"""A run that is killed and goes on is, to the bit, the run that was never killed."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from qmix_lightning.replay.archive import ReplayArchive
from qmix_lightning.replay.buffer import ReplayBuffer
from qmix_lightning.replay.samplers.prioritised import PrioritisedSampler
from tests.distributed.processes import ROOT

FIT = (
    "fit", "--config", str(ROOT / "recipes/battle/3m.yaml"), "--ckpt_path", "last",
    "--data.num_envs=4", "--data.batch_size=4", "--data.capacity=60", "--data.replay_ratio=1",
    "--data.prioritised=true", "--data.val_episodes=5", "--data.test_episodes=2",
    "--model.agent=GRUAgent", "--model.agent.hidden_size=8", "--model.epsilon_steps=2000",
    "--trainer.max_steps=120", "--trainer.val_check_interval=10", "--trainer.log_every_n_steps=5",
    "--trainer.accelerator=cpu",
)  # fmt: skip
LONG = ("--trainer.max_steps=500", "--data.overlap=true")
SEVERAL = ("--trainer.devices=2", "--trainer.strategy=ddp")


def start(folder, *args):
    folder.mkdir(exist_ok=True)
    with (folder / "said.txt").open("ab") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "qmix_lightning", *FIT, *args],
            cwd=folder, stdout=said, stderr=said, start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        )  # fmt: skip


def finish(process, folder):
    assert process.wait(timeout=300) == 0, (folder / "said.txt").read_text()[-3000:]


def points(folder):
    """Every point that TensorBoard shows but those that tell the speed."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    tags = [tag for tag in events.Tags()["scalars"] if not tag.startswith("speed/")]
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}


def the_end(folder):
    """Networks, optimizer, counters, and of every process the battles under way and the replay."""
    path = folder / "checkpoints/last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    data = checkpoint["ReplayDataModule"]
    processes = []
    for rank, ours in enumerate(data["ranks"]):
        beside = path.parent / f"replay/rank{rank}-of-{len(data['ranks'])}"
        buffer = ReplayBuffer(60 // len(data["ranks"]), 1, PrioritisedSampler(60 // len(data["ranks"])))
        ReplayArchive(beside).load(buffer, ours["replay"])
        battles = torch.load(beside / ours["battles"], weights_only=True)
        processes.append({"battles": battles, "replay": buffer.state_dict()})
    return {
        "processes": processes,
        "counts": {name: data[name] for name in ("env_steps", "replayed_steps")},
        **{name: checkpoint[name] for name in ("global_step", "state_dict", "optimizer_states", "loops")},
    }


def same(one, other, where=""):
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for index, (each, its) in enumerate(zip(one, other, strict=True)):
            same(each, its, f"{where}[{index}]")
    else:
        assert one == other, where


def killed(process, folder, draws):
    """Kill all of a run without a word: a moment after a random number of its evaluations, or before the first."""
    said, evaluations, pause = folder / "said.txt", draws.randrange(4), draws.uniform(0, 0.5)
    before = said.read_text().count("env steps")
    while process.poll() is None and said.read_text().count("env steps") - before < evaluations:
        time.sleep(0.01)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=pause if evaluations else draws.uniform(0, 8))
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


@pytest.mark.parametrize(
    ("times", "args"),
    [
        pytest.param(2, (), id="one process"),
        pytest.param(1, SEVERAL, id="two processes"),
        pytest.param(10, LONG, id="one process, one ahead", marks=pytest.mark.slow),
        pytest.param(10, (*SEVERAL, *LONG), id="two processes, one ahead", marks=pytest.mark.slow),
    ],
)
def test_a_run_killed_at_any_moment_goes_on_to_the_bit(tmp_path, times, args):
    whole, broken, draws = tmp_path / "whole", tmp_path / "broken", random.Random(times)
    finish(start(whole, *args), whole)
    landed = [killed(start(broken, *args), broken, draws) for _ in range(times)]
    assert all(landed), "none came to its end before"
    finish(start(broken, *args), broken)
    # A run that is killed before its first checkpoint leaves a folder, and the next begins another.
    (run,) = [path.parent.parent for path in broken.glob("logs/*/*/checkpoints/last.ckpt")]
    same(the_end(whole / "logs/battle-3m/version_0"), the_end(run))
    same(points(whole / "logs/battle-3m/version_0"), points(run))
