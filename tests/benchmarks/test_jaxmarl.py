"""The comparison with JaxMARL's QMIX counts right, and says what is missing.

JaxMARL's side runs here on a stand-in for jax and for its script, which lie in the folder that ``--source`` names: a
run of that jax takes as long as it has rounds, and nothing is learned.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.jaxmarl_training import change, ours, peer_speed, theirs, unsettled

JAX = '''
"""Compiled runs that sleep a hundredth of a second for every round."""

import time
from types import SimpleNamespace

__version__ = "of the stand-in"
random = SimpleNamespace(PRNGKey=lambda seed: seed, split=lambda key, count: [key] * count)
vmap = block_until_ready = lambda run: run
devices = lambda: ["stand-in:0"]


def jit(run):
    return SimpleNamespace(lower=lambda keys: SimpleNamespace(compile=lambda: run))
'''

SCRIPT = """
import time
import hydra, omegaconf, wandb


@hydra.main(version_base=None, config_path="./config", config_name="config")
def main(config):
    raise AssertionError("a benchmark calls make_train itself")


def env_from_config(config):
    return config["MAP_NAME"], None


def make_train(config, env):
    assert not config["TEST_DURING_TRAINING"] and config["WANDB_MODE"] == "disabled"
    rounds = config["TOTAL_TIMESTEPS"] // config["NUM_STEPS"] // config["NUM_ENVS"]
    return lambda keys: time.sleep(rounds / 100)
"""

CONFIG = {
    "TOTAL_TIMESTEPS": 10000000, "NUM_ENVS": 2, "NUM_STEPS": 8, "BUFFER_BATCH_SIZE": 3, "NUM_EPOCHS": 4,
    "LEARNING_STARTS": 20, "HIDDEN_SIZE": 512,
}  # fmt: skip
"""Rounds of 16 steps, of which two are before 20 steps and three before a batch; 4 x 3 x 8 steps learned in each."""

TOLD = {"compiling": 9.0, "steps": 2048, "epochs": 8, "batch": 4096, "device": "cuda:0", "jax": "0.11.2"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder laid out as JaxMARL's baselines/QLearning."""
    (tmp_path / "jax.py").write_text(JAX)
    (tmp_path / "qmix_rnn.py").write_text(SCRIPT)
    config = tmp_path / "config" / "alg"
    config.mkdir(parents=True)
    (config / "ql_rnn_smax.yaml").write_text("\n".join(f'"{name}": {value}' for name, value in CONFIG.items()))
    return tmp_path


def test_speeds_are_those_of_the_rounds_by_which_the_runs_differ():
    speed = peer_speed({"seconds": [[5.0], [8.0]], **TOLD}, (40, 100))
    assert (speed.env_steps, speed.updates, speed.replayed) == (20 * 2048, 20 * 8, 20 * 8 * 4096)


def test_sixteen_steps_are_replayed_for_one_played_at_the_default_setting():
    assert peer_speed({"seconds": [[5.0], [8.0]], **TOLD}, (40, 100)).replay_ratio == 16


def test_what_only_the_first_run_of_a_process_does_does_not_count():
    slow_start = peer_speed({"seconds": [[7.0, 5.0], [8.0, 8.0]], **TOLD}, (40, 100))
    assert slow_start == peer_speed({"seconds": [[5.0], [8.0]], **TOLD}, (40, 100))


def test_runs_of_no_difference_have_no_speed():
    with pytest.raises(RuntimeError, match=r"Expected 100 rounds to take longer than 40, .* by --rounds"):
        peer_speed({"seconds": [[8.0], [8.0]], **TOLD}, (40, 100))


def test_their_process_tells_the_sizes_of_its_own_setting(source):
    speed = theirs(sys.executable, source, "3m", (3, 23), {})
    assert speed.where == "stand-in:0, jax of the stand-in"
    assert speed.updates / speed.env_steps == pytest.approx(4 / 16)
    assert speed.replay_ratio == pytest.approx(4 * 3 * 8 / 16)


def test_other_values_change_theirs(source):
    speed = theirs(sys.executable, source, "3m", (5, 25), {"BUFFER_BATCH_SIZE": 5})
    assert speed.replay_ratio == pytest.approx(4 * 5 * 8 / 16)


def test_a_run_within_the_warm_up_is_refused(source):
    with pytest.raises(RuntimeError, match=r"Expected two runs of at least 3 rounds, .* got 2"):
        theirs(sys.executable, source, "3m", (2, 23), {})


def test_an_unknown_option_of_theirs_is_refused(source):
    with pytest.raises(RuntimeError, match=r"Unknown option 'NUM_ENV' of JaxMARL. Expected one of .*NUM_ENVS"):
        theirs(sys.executable, source, "3m", (3, 23), {"NUM_ENV": 4})


def test_packages_can_lie_in_a_folder(source, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (source / "jax.py").rename(elsewhere / "jax.py")
    monkeypatch.setenv("JAXMARL_PYTHONPATH", str(elsewhere))
    assert theirs(sys.executable, source, "3m", (3, 23), {}).where.startswith("stand-in")


def test_a_missing_source_is_told_with_where_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"Expected qmix_rnn.py in .*Clone https://github.com/FLAIROx/JaxMARL"):
        theirs(sys.executable, tmp_path, "3m", (34, 94), {})


def test_a_missing_python_is_told_by_the_name_of_its_option(source):
    with pytest.raises(FileNotFoundError, match=r"got '/nonesuch/python', which cannot be run. Name one by --python"):
        theirs("/nonesuch/python", source, "3m", (34, 94), {})


def test_the_second_run_must_be_the_longer_one(source):
    with pytest.raises(ValueError, match="a short and a longer run by --rounds, got 94 and 34"):
        theirs(sys.executable, source, "3m", (94, 34), {})


def test_our_speed_is_not_measured_from_before_the_first_update():
    sizes = {"battles": 8, "episodes": 4, "updates": 2, "hidden": 8, "precision": "float32"}
    with pytest.raises(ValueError, match=r"at least one update before speeds are measured, got 0. Choose --warmup"):
        ours("3m", "cpu", warmup=0, **sizes)


@pytest.mark.parametrize("ratio", [16.0, 15.88, 16.06])
def test_a_row_at_their_replay_ratio_needs_no_word(ratio):
    assert unsettled("Ours on 3m", ratio, 16.0) == []


@pytest.mark.parametrize("ratio", [24.3, 12.0])
def test_a_row_at_another_replay_ratio_is_called_not_comparable(ratio):
    (note,) = unsettled("Ours on 3m", ratio, 16.0)
    assert note.startswith(f"Ours on 3m replayed {ratio} steps for each one played, not 16.0: not comparable.")
    assert "--warmup" in note


def test_sizes_stay_integers():
    assert [type(change(text)[1]) for text in ("NUM_ENVS=4", "LR=5e-4")] == [int, float]


@pytest.mark.parametrize("text", ["NUM_ENVS", "NUM_ENVS=", "NUM_ENVS=few"])
def test_a_change_without_a_number_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match=f"Expected NAME=NUMBER, .* got '{text}'"):
        change(text)


def test_every_map_has_a_row_of_theirs_one_of_ours_and_a_verdict(source, capsys):
    tiny = "--hidden 8 --battles 4 --episodes 4 --updates 2 --warmup 1 --rounds 3 23"
    main(["jaxmarl", "--python", sys.executable, "--source", str(source), "--maps", "3m", "8m", *tiny.split()])
    printed = capsys.readouterr().out
    rows = [line.split("|")[1:] for line in printed.splitlines() if line.startswith("| ")][2:]
    assert [(row[0].strip(), row[1].strip()) for row in rows] == [
        (name, battle) for battle in ("3m", "8m") for name in ("JaxMARL's QMIX", "qmix-lightning, float32")
    ]
    for peer, own in zip(rows[::2], rows[1::2], strict=True):
        their_steps, our_steps = (float(row[3].replace(",", "")) for row in (peer, own))
        assert float(own[6].strip().rstrip("x")) == pytest.approx(our_steps / their_steps, rel=0.02, abs=0.051)
    assert [line.split(", came")[0] for line in printed.splitlines() if line.startswith("Bar")] == [
        f"Bar: 5 times JaxMARL's env steps/s on {name}" for name in ("3m", "8m")
    ]
    # Two updates are over before anything is played again.
    assert printed.count("not comparable. Give it more --warmup.") == 2
    assert "at JaxMARL's setting with {'HIDDEN_SIZE': 8}" in printed
