"""Evaluations that would not come, or where no checkpoint can be written."""

import pytest
import torch

from tests.training import LIGHTNINGS_OWN_WARNING, ROOT, SMALL, qmix

pytestmark = pytest.mark.filterwarnings(LIGHTNINGS_OWN_WARNING)

GAME = ROOT / "recipes/matrix/two_step_vdn.yaml"
ENDLESS = "Training is one epoch without an end"


def fit(*options):
    qmix("fit", "--config", GAME, *SMALL, *(f"--trainer.{option}" for option in options))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["val_check_interval=0.5"], f"{ENDLESS}, of which trainer.val_check_interval 0.5 is no part that comes"),
        (["val_check_interval=null"], f"{ENDLESS}, of which trainer.val_check_interval None"),
        (["check_val_every_n_epoch=2"], f"{ENDLESS}, so that evaluations every 2 epochs never come"),
        (
            ["val_check_interval=00:00:00:01", "accumulate_grad_batches=2"],
            "Evaluations by the clock (trainer.val_check_interval 00:00:00:01) would come",
        ),
        (["val_check_interval=00:00:00:01", "devices=2"], "processes, of which there are 2, and"),
        (
            ["val_check_interval=0.5", "limit_val_batches=0"],
            "checkpoints come every trainer.val_check_interval updates, but that is 0.5. Give a number",
        ),
        (["limit_train_batches=1"], "after 2 batches (trainer.val_check_interval), but an epoch has only 1"),
        (["overfit_batches=1"], "Take an interval of 1 at most."),
        (["accumulate_grad_batches=4"], "the 4 batches of an update, but trainer.val_check_interval is 2."),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else "",
)
def test_evaluations_that_would_not_come_are_refused_before_anything_is_written(
    tmp_path, monkeypatch, capsys, options, words
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_:
        fit(*options)
    assert exit_.value.code == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize(
    ("options", "updates"),
    [
        (["limit_train_batches=1", "val_check_interval=1.0", "max_steps=3"], {2, 3}),
        (["limit_train_batches=1", "check_val_every_n_epoch=null", "max_steps=4"], {2, 4}),
        (["limit_val_batches=0", "accumulate_grad_batches=3", "max_steps=4"], {2, 4}),
        (["val_check_interval=00:00:00:00"], {1, 2}),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else "",
)
def test_other_ways_to_say_when_leave_the_last_two_checkpoints(tmp_path, monkeypatch, options, updates):
    monkeypatch.chdir(tmp_path)
    fit("log_every_n_steps=0", *options)
    assert {torch.load(path, weights_only=True)["global_step"] for path in tmp_path.rglob("last-step=*")} == updates
