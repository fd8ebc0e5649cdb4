"""Short trainings, in Python and by the command line."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer

from qmix_lightning.agents.gru import GRUAgent
from qmix_lightning.cli.main import main
from qmix_lightning.datamodule import ReplayDataModule
from qmix_lightning.mixers.qmix import QMixer
from qmix_lightning.module import QLearner

ROOT = Path(__file__).parents[1]
PRESETS = sorted(ROOT.glob("recipes/presets/*.yaml"))
RECIPES = sorted({*ROOT.glob("recipes/**/*.yaml")} - {*PRESETS})

LIGHTNINGS_OWN_WARNING = r"ignore:.*isinstance\(treespec, LeafSpec\).*:FutureWarning"
"""Lightning 2.6 itself calls what torch 2.13 has deprecated."""

SMALL = (
    "--data.num_envs=2", "--data.batch_size=2", "--data.val_episodes=2", "--data.test_episodes=2",
    "--trainer.max_steps=2", "--trainer.val_check_interval=2", "--trainer.log_every_n_steps=1",
    "--trainer.accelerator=cpu",
)  # fmt: skip
"""Arguments that make two updates of any recipe."""

small_agent = partial(GRUAgent, hidden_size=8)
small_mixer = partial(QMixer, mixing_embed_dim=4)


def small_data(env: str = "matrix/two_step", **options: Any) -> ReplayDataModule:
    counts = {"num_envs": 4, "batch_size": 4, "val_episodes": 4, "test_episodes": 4}
    return ReplayDataModule(env, **{"seed": 1, **counts, **options})


def small_learner(data: ReplayDataModule, **options: Any) -> QLearner:
    torch.manual_seed(1)
    return QLearner(data.spec, **{"agent": small_agent, "mixer": small_mixer, **options})


def quiet_trainer(updates: int, **options: Any) -> Trainer:
    """Neither logs nor saves nor validates, unless it is told to."""
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    defaults = {"accelerator": "cpu", "max_steps": updates, "limit_val_batches": 0, "num_sanity_val_steps": 0}
    return Trainer(**{**quiet, **defaults, "log_every_n_steps": 1, **options})


def qmix(*args: str | Path) -> None:
    """Run the command line as a shell would, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PL_GLOBAL_SEED", "0")  # So that the seed that it sets does not stay.
        # Lightning 2.6 calls what jsonargparse has deprecated; outside of tests nobody sees it.
        patch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
        patch.setattr(sys, "argv", ["qmix", *map(str, args)])
        main()


class Mute(LightningModule):
    """A module that could train, but not play."""

    def training_step(self, batch: Any, batch_idx: int) -> None:
        raise AssertionError("nothing was ever played")

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        raise AssertionError("nothing was ever played")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])
