"""QMIX end to end beside JaxMARL's, on one machine: the same networks and as many replayed steps for each step played.

    git clone https://github.com/FLAIROx/JaxMARL
    python -m venv peers && peers/bin/pip install 'jaxmarl[algs]==0.2.0'
    python -m benchmarks jaxmarl --python peers/bin/python --source JaxMARL/baselines/QLearning --device cuda

JaxMARL's ``qmix_rnn.py`` runs at its default setting for SMAX, but for evaluations and wandb, which are left out: 16
battles side by side, agents Dense 512 - GRU 512 - Dense, a mixer of 64 with hypernetworks of 256, and 8 gradient steps
on 32 x 128 steps after every 2,048 env steps: 16 steps are replayed for each one played. The speed of its learning
phase is the difference of two compiled runs of different lengths, so that compilation and the first 65,536 env steps,
in which nothing is learned, do not count. Each run is made ``--turns`` times, of which the best counts: what a process
does once, at its first run, would otherwise be taken off the difference. Its process is given 3/4 of a GPU's memory
only if XLA is told so. JAXMARL_PYTHONPATH, if set, is its PYTHONPATH: for packages installed into a folder.

Ours trains by Lightning's Trainer at the same replay ratio, with GRU agents and a mixer of these sizes, on whole
episodes, of which a batch holds about as many steps (``--episodes``). XLA multiplies float32 matrices of a GPU in TF32;
ours are measured that way (tf32), and in full precision (float32).
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import shutil
import subprocess
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from benchmarks.timing import Table, say, verdict
from qmix_lightning.agents.gru import GRUAgent
from qmix_lightning.datamodule import ReplayDataModule
from qmix_lightning.mixers.qmix import QMixer
from qmix_lightning.module import QLearner

BAR = 5.0
TOLERANCE = 0.05
"""By how much our replay ratio may differ while it is measured: ends of episodes and batches leave a few hundredths."""
THEIRS = """
import json, sys, time, types
from concurrent.futures import ThreadPoolExecutor

source, name, options, lengths = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), json.loads(sys.argv[4])
for module in ("wandb", "hydra", "omegaconf"):  # of which a run needs nothing
    try:
        __import__(module)
    except ImportError:
        sys.modules[module] = types.ModuleType(module)
sys.modules["hydra"].main = lambda **_: lambda function: function
sys.modules["omegaconf"].OmegaConf = getattr(sys.modules["omegaconf"], "OmegaConf", None)
sys.path.insert(0, source)
import jax, yaml
import qmix_rnn

def config(updates):
    with open(f"{source}/config/alg/ql_rnn_smax.yaml") as file:
        chosen = yaml.safe_load(file)
    if unknown := sorted(set(options) - set(chosen)):
        sys.exit(f"Unknown option {unknown[0]!r} of JaxMARL. Expected one of {', '.join(chosen)}.")
    chosen |= {"MAP_NAME": name, "TEST_DURING_TRAINING": False, "WANDB_MODE": "disabled", "NUM_SEEDS": 1, "SEED": 0}
    chosen |= options
    chosen["TOTAL_TIMESTEPS"] = updates * chosen["NUM_STEPS"] * chosen["NUM_ENVS"]
    return chosen

chosen = config(1)
steps = chosen["NUM_STEPS"] * chosen["NUM_ENVS"]
warmup = max(chosen["BUFFER_BATCH_SIZE"], int(chosen["LEARNING_STARTS"] // steps) + 1)
if lengths[0] < warmup:
    sys.exit(f"Expected two runs of at least {warmup} rounds, before which nothing is learned, got {lengths[0]}.")
keys = jax.random.split(jax.random.PRNGKey(0), 1)

def compiled(updates):
    chosen = config(updates)
    env, _ = qmix_rnn.env_from_config(chosen)
    return jax.jit(jax.vmap(qmix_rnn.make_train(config(updates), env))).lower(keys).compile()

start = time.perf_counter()
with ThreadPoolExecutor() as pool:
    runs = list(pool.map(compiled, lengths))
compiling = time.perf_counter() - start
seconds = [[] for _ in runs]
for _ in range(int(sys.argv[5])):
    for run, taken in zip(runs, seconds):
        start = time.perf_counter()
        jax.block_until_ready(run(keys))
        taken.append(time.perf_counter() - start)
print(json.dumps({
    "seconds": seconds, "compiling": compiling, "steps": steps, "epochs": chosen["NUM_EPOCHS"],
    "batch": chosen["BUFFER_BATCH_SIZE"] * chosen["NUM_STEPS"], "device": str(jax.devices()[0]), "jax": jax.__version__,
}), flush=True)
"""


@dataclass(frozen=True)
class PeerSpeed:
    """What JaxMARL's process tells of its learning phase, a second."""

    env_steps: float
    updates: float
    replayed: float
    compiling: float
    where: str

    @property
    def replay_ratio(self) -> float:
        """Steps replayed for every step played; 16 by default: 8 x 32 x 128 for 16 x 128."""
        return self.replayed / self.env_steps


def peer_speed(told: dict[str, Any], updates: tuple[int, int]) -> PeerSpeed:
    """The speed between the ends of a short and a long run.

    Args:
        told: Seconds of both runs, turn by turn, and the sizes of a round.
        updates: Lengths of the two runs, in rounds.

    Returns:
        Speeds by the best turn of each run.

    Raises:
        RuntimeError: If the longer run took no longer, so that there is no speed.

    Example:
        >>> told = {"seconds": [[1.5, 1.0], [3.5, 3.0]], "compiling": 9.0, "steps": 2048, "epochs": 8, "batch": 4096}
        >>> speed = peer_speed(told | {"device": "cuda:0", "jax": "0.11.2"}, (34, 94))
        >>> speed.env_steps, speed.updates, speed.replay_ratio  # 60 rounds in two seconds
        (61440.0, 240.0, 16.0)
    """
    short, long = map(min, told["seconds"])
    if long <= short:
        raise RuntimeError(
            f"Expected {updates[1]} rounds to take longer than {updates[0]}, got {long:.3f} s and {short:.3f} s."
            " Choose lengths further apart by --rounds."
        )
    rounds = (updates[1] - updates[0]) / (long - short)
    return PeerSpeed(
        rounds * told["steps"], rounds * told["epochs"], rounds * told["epochs"] * told["batch"],
        told["compiling"], f"{told['device']}, jax {told['jax']}",
    )  # fmt: skip


def theirs(
    python: str, source: Path, map_name: str, updates: tuple[int, int], options: dict[str, float], turns: int = 2
) -> PeerSpeed:
    """Run JaxMARL's QMIX in another Python.

    Args:
        python: An interpreter that has jaxmarl and flashbax.
        source: JaxMARL's folder baselines/QLearning.
        map_name: The map, by its name there.
        updates: Lengths of the two runs, in rounds of playing and learning, the first longer than its warm-up of 32.
        options: Other values of its configuration.
        turns: How often each run is made.

    Returns:
        What it does a second while it learns.

    Raises:
        FileNotFoundError: If the interpreter or the source is not there.
        ValueError: If the second run is no longer than the first.
        RuntimeError: If the process failed, with its last words.
    """
    if not (source / "qmix_rnn.py").exists():
        raise FileNotFoundError(
            f"Expected qmix_rnn.py in {source}. Clone https://github.com/FLAIROx/JaxMARL, and name its folder"
            " baselines/QLearning by --source."
        )
    if shutil.which(python) is None:
        raise FileNotFoundError(
            f"Expected an interpreter that has jaxmarl and flashbax, got {python!r}, which cannot be run. Name one by"
            " --python."
        )
    if updates[1] <= updates[0]:
        raise ValueError(f"Expected a short and a longer run by --rounds, got {updates[0]} and {updates[1]}.")
    words = (str(source.absolute()), map_name, json.dumps(options), json.dumps(updates), str(turns))
    environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", **os.environ}
    if "JAXMARL_PYTHONPATH" in os.environ:
        environment["PYTHONPATH"] = os.environ["JAXMARL_PYTHONPATH"]
    done = subprocess.run([python, "-c", THEIRS, *words], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"JaxMARL failed with exit status {done.returncode}: {done.stderr[-2000:]}")
    return peer_speed(json.loads(done.stdout.splitlines()[-1]), updates)


class Speed(Callback):
    """Counts what is played and learned between the end of a warm-up and the end of training.

    Args:
        warmup: Updates before, at least 1.
        wait: What waits for the device.

    Raises:
        ValueError: If there is no warm-up, after which counting would begin.
    """

    def __init__(self, warmup: int, wait: Callable[[], object]) -> None:
        if warmup < 1:
            raise ValueError(f"Expected at least one update before speeds are measured, got {warmup}. Choose --warmup.")
        self._warmup, self._wait = warmup, wait
        self._began = (0.0, 0, 0)
        self.env_steps = self.updates = self.replayed = 0.0

    @property
    def replay_ratio(self) -> float:
        """Steps replayed for every step played, infinite where none was."""
        return self.replayed / self.env_steps if self.env_steps else math.inf

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Begin to count, or read the counts."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        if trainer.global_step not in (self._warmup, trainer.max_steps):
            return
        self._wait()
        now = (time.perf_counter(), data.env_steps, data.replayed_steps)
        if trainer.global_step == self._warmup:
            self._began = now
            return
        seconds, env_steps, replayed = (after - before for after, before in zip(now, self._began, strict=True))
        self.env_steps, self.updates = env_steps / seconds, (trainer.max_steps - self._warmup) / seconds
        self.replayed = replayed / seconds


def ours(
    map_name: str,
    device: str,
    *,
    battles: int,
    episodes: int,
    updates: int,
    warmup: int,
    hidden: int,
    precision: str,
    overlap: bool = False,
    replay_ratio: float = 16.0,
) -> Speed:
    """Train QLearner with networks of JaxMARL's sizes, at its replay ratio.

    Args:
        map_name: A SMAC map.
        device: ``"cpu"``, or ``"cuda"`` for battles, replay and learner.
        battles: Played side by side.
        episodes: In a batch.
        updates: Counted.
        warmup: Updates before.
        hidden: Width of the agents' layers.
        precision: ``"float32"``, or ``"tf32"`` for matrices.
        overlap: Whether battles are played in a thread during updates.
        replay_ratio: Steps replayed for every step played.

    Raises:
        ValueError: If there is no warm-up.
    """
    speed = Speed(warmup, torch.cuda.synchronize if device == "cuda" else lambda: None)
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    there = device == "cuda"
    data = ReplayDataModule(
        f"battle/{map_name}", {"device": device} if there else None, num_envs=battles, batch_size=episodes,
        replay_ratio=replay_ratio, replay_device=device if there else None, overlap=overlap, seed=1,
    )  # fmt: skip
    torch.manual_seed(1)
    learner = QLearner(
        data.spec,
        partial(GRUAgent, hidden_size=hidden),
        lambda spec: QMixer(spec, mixing_embed_dim=64, hypernet_embed=256),
    )
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Trainer(
            max_steps=warmup + updates, accelerator="gpu" if there else "cpu", devices=1, gradient_clip_val=10.0,
            callbacks=[speed], logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, limit_val_batches=0,
        ).fit(learner, data)  # fmt: skip
    data.close()
    return speed


def measure(options: argparse.Namespace) -> Table:
    """Measure theirs, then ours, on every map."""
    rows, notes = [], []
    changes = {"HIDDEN_SIZE": options.hidden, **dict(options.theirs)}
    for name in options.maps:
        say(f"jaxmarl: theirs on {name}")
        peer = theirs(options.python, options.source, name, tuple(options.rounds), changes, options.turns)
        rows.append(
            (
                "JaxMARL's QMIX", name, peer.where, f"{peer.env_steps:,.0f}", f"{peer.updates:.1f}",
                f"{peer.replayed:,.0f}", "1.0x", f"compiled in {peer.compiling:.0f} s",
            )
        )  # fmt: skip
        ratios = []
        for precision in ("float32", "tf32") if options.device == "cuda" else ("float32",):
            say(f"jaxmarl: ours on {name} in {precision}")
            speed = ours(
                name, options.device, battles=options.battles, episodes=options.episodes, updates=options.updates,
                warmup=options.warmup, hidden=int(changes["HIDDEN_SIZE"]), precision=precision,
                overlap=options.overlap, replay_ratio=peer.replay_ratio,
            )  # fmt: skip
            ratios.append(speed.env_steps / peer.env_steps)
            notes += unsettled(f"Ours on {name} in {precision}", speed.replay_ratio, peer.replay_ratio)
            rows.append(
                (
                    f"qmix-lightning, {precision}", name, options.device, f"{speed.env_steps:,.0f}",
                    f"{speed.updates:.1f}", f"{speed.replayed:,.0f}", f"{ratios[-1]:.1f}x",
                    f"{options.battles} battles, {options.episodes} a batch, {torch.get_num_threads()} thread(s)",
                )
            )  # fmt: skip
        what = f"{BAR:.0f} times JaxMARL's env steps/s on {name}, came {max(ratios):.1f}"
        notes.append(verdict(what, max(ratios) >= BAR))
    header = ("QMIX", "map", "on", "env steps/s", "updates/s", "replayed steps/s", "against theirs", "")
    setting = "default setting" if changes == {"HIDDEN_SIZE": 512} else f"setting with {changes}"
    return Table(f"QMIX end to end at JaxMARL's {setting}", header, rows, tuple(notes))


def unsettled(who: str, ratio: float, expected: float) -> list[str]:
    """What to say of a row during which other than the expected steps were replayed for each one played.

    Before the first update more is played than the ratio asks for, and that is replayed by the updates that follow.

    Example:
        >>> unsettled("Ours", 16.1, 16.0), unsettled("Ours", 24.3, 16.0)
        ([], ['Ours replayed 24.3 steps for each one played, not 16.0: not comparable. Give it more --warmup.'])
    """
    if abs(ratio / expected - 1) <= TOLERANCE:
        return []
    return [
        f"{who} replayed {ratio:.1f} steps for each one played, not {expected:.1f}: not comparable."
        " Give it more --warmup."
    ]


def change(text: str) -> tuple[str, float]:
    """Another value of JaxMARL's configuration.

    Example:
        >>> change("NUM_ENVS=4"), change("LR=5e-4")
        (('NUM_ENVS', 4), ('LR', 0.0005))
    """
    name, _, value = text.partition("=")
    try:
        number = float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"Expected NAME=NUMBER, as in NUM_ENVS=16, got {text!r}.") from None
    # Sizes have to be integers there.
    return name, int(value) if value.strip().lstrip("+-").isdecimal() else number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command line."""
    parser.add_argument("--python", required=True, help="interpreter that has jaxmarl and flashbax")
    parser.add_argument("--source", type=Path, required=True, help="JaxMARL's folder baselines/QLearning")
    parser.add_argument("--maps", nargs="+", default=["3m"])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--rounds", nargs=2, type=int, default=[34, 94], help="of their two runs, 32 of them warm-up")
    parser.add_argument("--turns", type=int, default=2, help="how often each of their runs is made; the best counts")
    parser.add_argument(
        "--theirs", nargs="*", type=change, default=[], metavar="NAME=NUMBER", help="other values of their options"
    )
    parser.add_argument("--battles", type=int, default=256)
    parser.add_argument("--episodes", type=int, default=176)
    parser.add_argument("--updates", type=int, default=400)
    parser.add_argument("--warmup", type=int, default=100)
    parser.add_argument("--hidden", type=int, default=512, help="width of agents, ours and theirs")
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count(), help="of our multiplications on a CPU; all cores, as XLA takes"
    )
    parser.add_argument("--overlap", action="store_true", help="play our battles in a thread during updates")


def run(options: argparse.Namespace) -> list[Table]:
    """Measure as the command line says."""
    before = torch.get_num_threads()
    torch.set_num_threads(options.threads if options.device == "cpu" else before)
    try:
        return [measure(options)]
    finally:
        torch.set_num_threads(before)
