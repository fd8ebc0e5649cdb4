import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from rich.console import Console
from torch.utils.tensorboard import SummaryWriter

from qmix_lightning.cli.seeds import interrupted_by
from qmix_lightning.cli.side_by_side import Job, side_by_side
from qmix_lightning.cli.sweep import Sweep
from qmix_lightning.curves import find_runs, read_scalars
from qmix_lightning.module import QLearner
from tests.training import LIGHTNINGS_OWN_WARNING, ROOT, SMALL, qmix

pytestmark = pytest.mark.filterwarnings(LIGHTNINGS_OWN_WARNING)

GAME = ROOT / "recipes/matrix/two_step_vdn.yaml"
SWEEP = "logs/matrix-two_step/version_0"

FAILS_FOR_SEED_2 = """
import os, sys
if "--seed_everything=2" in sys.orig_argv:
    print("the machine went away", file=sys.stderr, flush=True)
    os._exit(3)
"""


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def environment():
    """What processes need to find this package, whatever folder they start in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("COLUMNS", "120")
        yield patch


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, environment):
    """A folder with a sweep over the seeds 1 and 2, in which 2 failed, and gone on with when it no longer did."""
    folder = tmp_path_factory.mktemp("workplace")
    (folder / "trap").mkdir()
    (folder / "trap/sitecustomize.py").write_text(FAILS_FOR_SEED_2)
    (folder / "sound.yaml").write_text(GAME.read_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PYTHONPATH", os.pathsep.join((str(folder / "trap"), str(ROOT))))
        status, said = run("--seeds", "1,2", "--jobs=2", "--config", GAME, *SMALL)
        (folder / "first").write_text(f"{status}\n{said}")
        (folder / "first.json").write_bytes((folder / SWEEP / "sweep.json").read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        status, said = run("--seeds=1,2", "--config", GAME, *SMALL, "--ckpt_path", "last")
        (folder / "second").write_text(f"{status}\n{said}")
    return folder


def run(*words):
    """Run ``qmix fit`` in this process; its status and what it said."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", said := io.StringIO())
        try:
            qmix("fit", *words)
        except SystemExit as exit_:
            return exit_.code, said.getvalue()
        return 0, said.getvalue()


def values(folder):
    scalars = read_scalars(folder)
    return {
        tag: list(zip(steps.tolist(), values.tolist(), strict=True))
        for tag, (steps, values) in scalars.items()
        if not tag.startswith("speed/")
    }


def test_every_seed_has_a_folder_of_its_own_below_that_of_the_sweep(workplace):
    assert sorted(path.name for path in (workplace / SWEEP).iterdir() if path.is_dir()) == [
        "seed_1", "seed_2", "seed_2.broken_off_0",
    ]  # fmt: skip
    for seed in (1, 2):
        folder = workplace / SWEEP / f"seed_{seed}"
        assert {"config.yaml", "checkpoints", "output.txt"} <= {path.name for path in folder.iterdir()}
    found = {run for runs in find_runs(workplace / "logs").values() for run in runs}
    assert found == {"seed_1", "seed_2"}


def test_runs_differ_by_their_seed_alone(workplace):
    configs = [yaml.safe_load((workplace / SWEEP / f"seed_{seed}/config.yaml").read_text()) for seed in (1, 2)]
    assert [config.pop("seed_everything") for config in configs] == [1, 2]
    loggers = [config["trainer"].pop("logger")["init_args"] for config in configs]
    assert [logger.pop("version") for logger in loggers] == ["seed_1", "seed_2"]
    assert loggers[0] == loggers[1]
    for config in configs:
        config.pop("ckpt_path")
    assert configs[0] == configs[1]
    one, other = (values(workplace / SWEEP / f"seed_{seed}") for seed in (1, 2))
    assert one["train/loss"] != other["train/loss"]


def test_a_seeds_run_is_what_a_plain_run_with_that_seed_is(workplace, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    qmix("fit", "--config", GAME, *SMALL, "--seed_everything=2")
    assert values(tmp_path / "logs/matrix-two_step/version_0") == values(workplace / SWEEP / "seed_2")


def test_a_runs_own_config_repeats_it_elsewhere(workplace, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = workplace / SWEEP / "seed_2/config.yaml"
    qmix("fit", "--config", config, "--trainer.logger=null", "--ckpt_path=null")
    assert values(tmp_path / "logs/matrix-two_step/version_0") == values(workplace / SWEEP / "seed_2")


def test_a_seed_that_fails_is_reported_at_the_end_and_the_others_go_on(workplace):
    status, _, said = (workplace / "first").read_text().partition("\n")
    assert status == "1"
    assert "seed_2: failed with status 3" in said
    assert re.search(r"^seed_1: finished in \d+ s$", said, re.MULTILINE)
    assert re.search(r"^  1 +\d+ +\d\.\d\d +\d\.\d\d +\d\.\d\d +0:00:\d\d", said, re.MULTILINE)
    assert re.search(r"^  2 failed +- +- +- +- +0:00:\d\d", said, re.MULTILINE)
    ends = f"seed_2 failed with status 3. {SWEEP}/seed_2/output.txt ends with:\nthe machine went away\n"
    assert said.endswith(ends)
    seeds = json.loads((workplace / "first.json").read_text())["seeds"]
    assert {seed: run["finished"] for seed, run in seeds.items()} == {"1": True, "2": False}


def test_a_sweep_goes_on_with_what_has_not_finished(workplace):
    status, _, said = (workplace / "second").read_text().partition("\n")
    assert status == "0"
    assert said.startswith(f"finished before in {SWEEP}: seed 1\n")
    assert "seed_1:" not in said
    assert re.search(r"^seed_2: finished in \d+ s$", said, re.MULTILINE)
    assert [path.name for path in (workplace / "logs/matrix-two_step").iterdir()] == ["version_0"]
    aside = workplace / SWEEP / "seed_2.broken_off_0/output.txt"
    assert aside.read_text() == "the machine went away\n"


def test_the_summary_has_a_row_a_seed_their_median_and_the_commands_that_show_them(workplace):
    said = (workplace / "second").read_text()
    header, rows = re.search(r"^(  seed .*)\n ─+ *\n((?:.*\n)+?)curves:", said, re.MULTILINE).groups()
    assert re.split(r"\s{2,}", header.strip()) == [
        "seed", "env steps", "return at the end", "at its best", "tested", "time",
    ]  # fmt: skip
    table = [row.split() for row in rows.splitlines() if row.strip()]
    assert [row[0] for row in table] == ["1", "2", "median"]
    for row, seed in zip(table, (1, 2), strict=False):
        scalars = read_scalars(workplace / SWEEP / f"seed_{seed}")
        steps, returns = scalars["val/return"]
        figures = [returns[-1], returns.max(), scalars["test/return"][1][-1]]
        assert row[1:-1] == [str(steps[-1]), *(f"{figure:.2f}" for figure in figures)]
    for column in range(1, 5):
        one, other, median = (float(row[column]) for row in table)
        assert median == pytest.approx((one + other) / 2, abs=0.5 if column == 1 else 0.01)
    assert re.search(rf"^curves: \S+tensorboard --logdir {SWEEP}$", said, re.MULTILINE)
    assert re.search(rf"^figure: qmix plot {SWEEP}$", said, re.MULTILINE)


def test_a_sweep_that_is_finished_is_not_trained_again(workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    before = {path: content for path, content in files(workplace / "logs").items() if path.name != "sweep.json"}
    for where in ("last", SWEEP):
        status, said = run("--seeds", "1-2", "--config", GAME, *SMALL, "--ckpt_path", where)
        assert status == 0
        assert said.startswith(f"finished before in {SWEEP}: seed 1, 2\n")
    after = files(workplace / "logs")
    after.pop(workplace / SWEEP / "sweep.json")
    assert after == before


@pytest.fixture
def refused(workplace, monkeypatch, capsys):
    """Runs a sweep that must be refused with status 2, without a change to any file; what it says on stderr."""
    monkeypatch.chdir(workplace)

    def refuse(*words):
        before = files(workplace)
        with pytest.raises(SystemExit) as exit_:
            qmix("fit", *words)
        assert exit_.value.code == 2
        assert files(workplace) == before
        said = capsys.readouterr().err.strip()
        assert said.startswith("qmix: ")
        assert len(said.splitlines()) <= 2
        return said

    return refuse


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seeds", "1,x"], "Argument --seeds: expected whole numbers as in 1,2,3 or 1-5, got '1,x'. qmix fit"),
        (["--seeds", "1,,2"], "expected whole numbers as in 1,2,3 or 1-5, got '1,,2'"),
        (["--seeds=-1"], "expected whole numbers as in 1,2,3 or 1-5, got '-1'"),
        (["--seeds", "5-1"], "expected rising seeds up to 4294967295, got '5-1'"),
        (["--seeds", "4294967296"], "expected rising seeds up to 4294967295, got '4294967296'"),
        (["--seeds", "1-3,2"], "Argument --seeds: expected every seed once, got 2 again"),
        (["--seeds"], "Argument --seeds: expected one argument."),
        (["--seeds=1", "--jobs=0"], "Argument --jobs: expected how many runs train at a time, from 1, got '0'."),
        (["--seeds=1", "--seed_everything=2"], "The seeds are those of --seeds. Leave out --seed_everything."),
        (["--seeds=1", "--data.seed=3"], "data.seed is 3, with which all seeds would play the same battles."),
        (["--seeds=1", "--checkpoint.dirpath=here"], "checkpoint.dirpath is here, one folder for all seeds."),
        (["--seeds=1", "--trainer.logger=false"], "Seeds are compared by EnvStepLogger's files. Leave out trainer.log"),
        (["--seeds=1", "--trainer.fast_dev_run=true"], "Leave out trainer.logger and trainer.fast_dev_run."),
        (["--seeds=1", "--model.gama=0.9"], "Unknown argument --model.gama. Did you mean --model.gamma?"),
        (["--seeds=1", "--model.gamma=2"], "gamma must lie in [0, 1], got 2.0."),
        (
            ["--seeds=1", "--trainer.logger=EnvStepLogger", "--trainer.logger.name=matrix-two_step",
             "--trainer.logger.version=version_0"],
            f"{SWEEP} holds other runs. Choose an empty folder, or go on with --ckpt_path last.",
        ),
        (["--seeds=1", "--ckpt_path=logs"], "There is no sweep in logs to go on with (no sweep.json). Leave out"),
        (
            ["--seeds=3", "--ckpt_path=last", "--trainer.max_steps=4"],
            f"{SWEEP} was trained with trainer.max_steps 2, and not 4. Give what it was trained with, or leave out",
        ),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else "",
)  # fmt: skip
def test_words_that_are_wrong_are_refused_in_a_line_before_anything_is_trained(refused, words, said):
    assert said in refused("--config", GAME, *SMALL, *words)


def test_a_launched_process_is_refused(refused, monkeypatch):
    for name, value in {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    words = "Launched as one of 2 processes, each of which would train all seeds. Start --seeds once."
    assert words in refused("--config", GAME, "--seeds=1")


def test_a_seed_that_has_a_checkpoint_goes_on_from_its_last_in_its_own_folder(tmp_path):
    (tmp_path / "version_0/seed_7/checkpoints").mkdir(parents=True)
    torch.save({}, tmp_path / "version_0/seed_7/checkpoints/last.ckpt")
    job = Sweep(tmp_path / "version_0", {}, {}).job(7, ["--config", "game.yaml"])
    assert job.words == [
        "fit", "--config", "game.yaml", "--seed_everything=7", "--trainer.logger=EnvStepLogger",
        f"--trainer.logger.save_dir={tmp_path}", "--trainer.logger.name=version_0", "--trainer.logger.version=seed_7",
        "--ckpt_path=last",
    ]  # fmt: skip


def test_a_seed_that_broke_off_goes_on_to_where_it_would_have_come(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--config", str(GAME), *SMALL, "--trainer.max_steps=6"]
    step = QLearner.training_step

    def until_the_fifth(self, batch, batch_idx):
        if batch_idx == 4:
            raise OSError("the machine went away")
        return step(self, batch, batch_idx)

    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    sweep = Sweep.begin(words)
    sweep.write()
    seed_7 = sweep.job(7, words).words
    with monkeypatch.context() as patch:
        patch.setattr(QLearner, "training_step", until_the_fifth)
        with pytest.raises(OSError, match="the machine went away"):
            qmix(*seed_7)
    status, said = run("--seeds=7", *words, "--ckpt_path=last")
    assert (status, "seed_7 failed" in said) == (0, False), said
    qmix("fit", *words, "--seed_everything=7")
    assert values(tmp_path / SWEEP / "seed_7") == values(tmp_path / "logs/matrix-two_step/version_1")


def test_the_best_is_the_least_where_that_is_what_the_checkpoints_go_by(tmp_path):
    writer = SummaryWriter(str(tmp_path / "seed_1"))
    for step, value in ((10, 3.0), (20, 1.0), (30, 2.0)):
        writer.add_scalar("val/episode_length", value, step)
    writer.close()
    config = {"checkpoint": {"monitor": "val/episode_length", "mode": "min"}}
    console = Console(file=io.StringIO(), width=100)
    console.print(Sweep(tmp_path, config, {1: {"finished": True, "seconds": 61.0}}).summary())
    said = console.file.getvalue()
    assert "episode length at the end" in said
    assert re.search(r"  1 +30 +2\.00 +1\.00 +- +0:01:01", said)


def test_on_a_terminal_every_job_keeps_a_line(tmp_path, environment):
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    jobs = [Job("good", ["fit", "--help"], tmp_path / "good.txt"), Job("bad", ["plot"], tmp_path / "bad.txt")]
    assert {job.name: job.status == 0 for job in side_by_side(jobs, 2, console)} == {"good": True, "bad": False}
    drawn = console.file.getvalue()
    assert re.search(r"good +running for \d+ s", drawn)
    assert re.search(r"good +finished in \d+ s +\n.*bad +failed with status 2", drawn)


def children(pid):
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # It has ended meanwhile.
            parent = stat.read_text().rpartition(")")[2].split()[1]
            found += [int(stat.parent.name)] * (int(parent) == pid)
    return found


def hear_interrupts():
    # Whoever starts the tests in the background has a shell that lets them ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_a_sweep_that_is_stopped_leaves_no_run_behind(tmp_path, environment, number):
    (tmp_path / SWEEP).mkdir(parents=True)
    words = ["--config", str(GAME), *SMALL, "--trainer.max_steps=100000"]
    command = [sys.executable, "-m", "qmix_lightning", "fit", "--seeds=1,2,3", "--jobs=2", "--ckpt_path=last", *words]
    sweep = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, preexec_fn=hear_interrupts)
    until = time.monotonic() + 300
    while len(running := children(sweep.pid)) < 2:
        assert time.monotonic() < until
        assert sweep.poll() is None
        time.sleep(0.1)
    sweep.send_signal(number)
    said, _ = sweep.communicate(timeout=60)
    # Everything of the second sweep is in a folder of its own.
    assert not any((tmp_path / SWEEP).iterdir())
    second = "logs/matrix-two_step/version_1"
    assert json.loads((tmp_path / second / "sweep.json").read_text())["seeds"] == {}
    if number == signal.SIGINT:
        assert sweep.returncode == 130
        assert said.startswith("resume: there is no sweep in logs/matrix-two_step yet, training starts anew\n")
        assert said.endswith(f"interrupted: the same words go on with --ckpt_path {second}\n")
    while any(Path(f"/proc/{pid}").exists() for pid in running):
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_machine_that_shuts_down_or_a_terminal_that_is_closed_interrupts(number):
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), interrupted_by(number):
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before
