from functools import partial
from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint

from qmix_lightning.callbacks.best import BestCheckpoint
from qmix_lightning.loaders import PlayedBattles, ReplayedBatches
from tests.training import LIGHTNINGS_OWN_WARNING, quiet_trainer

pytestmark = [
    pytest.mark.filterwarnings(LIGHTNINGS_OWN_WARNING),
    pytest.mark.filterwarnings("ignore:The dirpath has changed from"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
]


class Told(LightningModule):
    """Has one weight, and finds what it is told: at the k-th update the k-th pair of a win rate and a return."""

    def __init__(self, *pairs):
        super().__init__()
        self.pairs, self.weight = pairs, torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch, batch_idx):
        return self.weight * batch.sum()

    def validation_step(self, batch, batch_idx):
        win_rate, gain = self.pairs[self.global_step - 1]
        self.log_dict({"val/win_rate": float(win_rate), "val/return": float(gain)})

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


# Lightning takes evaluations after every update for one at the end of an epoch, unless it is told.
OPTIONS = {"monitor": "val/win_rate", "mode": "max", "enable_version_counter": False, "save_on_train_epoch_end": False}


def saver(folder, kind=BestCheckpoint, **options):
    return kind(folder, "best-{step}", **{**OPTIONS, **options})


def fit(best, *pairs, updates=None, path=None):
    trainer = quiet_trainer(
        updates or len(pairs), enable_checkpointing=True, callbacks=[best], limit_val_batches=1, val_check_interval=1
    )
    zero = partial(torch.zeros, 1)
    trainer.fit(Told(*pairs), ReplayedBatches(zero), PlayedBattles(zero), ckpt_path=path)
    return Path(best.best_model_path).stem


def names(folder):
    return sorted(path.stem for path in folder.glob("*.ckpt"))


@pytest.mark.parametrize(
    ("pairs", "step"),
    [
        ([(0, 1), (0, 3), (0, 2)], 2),
        ([(0, 3), (0, 3)], 1),
        ([(0, 9), (0.5, 1), (0.25, 9)], 2),
        ([(0.5, 1), (0, 9), (0.5, 2), (0.5, 1)], 3),
        ([(0, 5), (1, 1), (1, 4), (1, 3)], 3),
    ],
)
def test_equals_are_judged_by_return_and_others_by_win_rate_alone(tmp_path, pairs, step):
    best = saver(tmp_path)
    assert fit(best, *pairs) == f"best-step={step}"
    assert names(tmp_path) == [f"best-step={step}"]
    assert best.best_model_score == pairs[step - 1][0]


def test_without_a_second_figure_the_first_stays_as_with_lightning(tmp_path):
    assert fit(saver(tmp_path, tie=None), (0, 1), (0, 3)) == "best-step=1"
    assert fit(saver(tmp_path / "unknown", tie="val/none"), (0, 1), (0, 3)) == "best-step=1"


def test_of_the_least_the_higher_return_is_the_best_too(tmp_path):
    assert fit(saver(tmp_path, mode="min"), (1, 1), (0, 1), (0, 3), (0, 2)) == "best-step=3"


def test_several_are_judged_as_lightning_does(tmp_path):
    pairs = (0, 1), (0, 3), (0, 2), (1, 0)
    for folder, kind in (("ours", BestCheckpoint), ("theirs", ModelCheckpoint)):
        assert fit(saver(tmp_path / folder, kind, save_top_k=2), *pairs) == "best-step=4"
    assert names(tmp_path / "ours") == names(tmp_path / "theirs") == ["best-step=2", "best-step=4"]


@pytest.mark.parametrize("stop", [1, 2, 3, 4])
def test_a_run_that_goes_on_judges_as_one_that_was_never_interrupted(tmp_path, stop):
    pairs = (0, 2), (0, 3), (0, 1), (0, 2.5), (0, 4)
    whole, part, rest = (saver(tmp_path / name) for name in ("whole", "part", "part"))
    assert fit(whole, *pairs) == "best-step=5"
    fit(part, *pairs, updates=stop)
    assert fit(rest, *pairs[:4], path=part.best_model_path) == "best-step=2"
    assert rest.best_model_score == 0
    assert fit(saver(tmp_path / "part"), *pairs, path=rest.best_model_path) == "best-step=5"


def test_in_another_folder_the_best_is_yet_to_be_found(tmp_path):
    before, after = saver(tmp_path / "before"), saver(tmp_path / "after")
    fit(before, (0, 9))
    assert fit(after, (0, 9), (0, 1), path=before.best_model_path) == "best-step=2"


def test_lightnings_own_checkpoints_are_read_and_ours_by_it(tmp_path):
    ours, theirs = saver(tmp_path), saver(tmp_path, ModelCheckpoint)
    assert ours.state_key == theirs.state_key
    fit(theirs, (0.5, 1))
    # Of a best whose return nobody noted none of the same win rate is known to be better.
    assert fit(ours, (0.5, 1), (0.5, 2), path=theirs.best_model_path) == "best-step=1"
    again = saver(tmp_path, ModelCheckpoint)
    assert fit(again, (0.5, 1), (0.25, 3), path=ours.best_model_path) == "best-step=1"


def test_it_saves_between_evaluations_if_it_is_told_to(tmp_path):
    fit(BestCheckpoint(tmp_path, "{step}", every_n_train_steps=2, save_top_k=-1), *[(0, 0)] * 5)
    assert names(tmp_path) == ["step=2", "step=4"]
