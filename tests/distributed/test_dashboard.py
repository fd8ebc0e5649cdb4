"""Of several processes one writes, and what it writes is of all."""

import os

import pytest
from lightning.pytorch import Callback

from tests.callbacks.boards import events, fitted
from tests.distributed.processes import in_processes
from tests.distributed.test_training import DDPStrategy
from tests.training import LIGHTNINGS_OWN_WARNING

pytestmark = pytest.mark.filterwarnings(LIGHTNINGS_OWN_WARNING)


class Counts(Callback):
    """Notes what each process has."""

    def on_train_end(self, trainer, pl_module):
        data = trainer.datamodule
        self.own = (data.rollout.episodes, len(data.buffer), data.env_steps)


def trained(folder):
    counts = Counts()
    own = folder / f"logs{os.environ['RANK']}"
    _, learner, _ = fitted(
        own, callbacks=[counts], devices=2, strategy=DDPStrategy(process_group_backend="gloo"),
        data={"val_episodes": 1},
    )  # fmt: skip
    return counts.own, [str(path) for path in own.rglob("events*")], learner.evaluation


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    return folder, in_processes(2, trained, folder)


def test_only_the_first_process_writes(two):
    _, ((_, first, _), (_, second, _)) = two
    assert len(first) == 1
    assert second == []


def test_counts_are_of_all_processes(two):
    folder, ((ours, _, _), (theirs, _, _)) = two
    written = events(folder / "logs0/run/one")
    assert written.Scalars("train/episodes")[-1].value == ours[0] + theirs[0]
    assert written.Scalars("train/replay_episodes")[-1].value == ours[1] + theirs[1]
    assert written.Scalars("train/env_steps")[-1].value == ours[2] == theirs[2]


def test_a_process_that_evaluated_no_battle_is_no_trouble(two):
    folder, ((_, _, evaluation), _) = two
    written = events(folder / "logs0/run/one")
    assert written.Scalars("val/return")[-1].value == pytest.approx(evaluation["return"][0])
    assert len(written.Scalars("val/overestimation")) == 2
