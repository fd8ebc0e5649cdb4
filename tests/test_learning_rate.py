import pytest
import torch
from lightning.pytorch import Callback

from qmix_lightning.module import QLearner
from tests.training import (
    LIGHTNINGS_OWN_WARNING,
    quiet_trainer,
    small_agent,
    small_data,
    small_learner,
    small_mixer,
)

pytestmark = pytest.mark.filterwarnings(LIGHTNINGS_OWN_WARNING)


class Rates(Callback):
    """Those that updates are made with."""

    def __init__(self):
        self.seen = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.seen.append(optimizer.param_groups[0]["lr"])


def rates(folder, updates, goes_on=False, **options):
    data, watch = small_data(), Rates()
    trainer = quiet_trainer(updates, callbacks=[watch])
    trainer.fit(small_learner(data, **options), data, ckpt_path=folder / "saved.ckpt" if goes_on else None)
    trainer.save_checkpoint(folder / "saved.ckpt")
    return watch.seen


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ((0.01, None), (0.01, None), [0.01] * 4),
        ((0.01, None), (0.02, None), [0.02] * 4),
        ((0.01, 0.002), (0.02, None), [0.02] * 4),
        ((0.01, 0.002), (0.01, None), [0.01] * 4),
        ((0.01, None), (0.08, 0.0), [0.04, 0.03, 0.02, 0.01]),
        ((0.01, 0.002), (0.08, 0.0), [0.04, 0.03, 0.02, 0.01]),
        ((0.08, 0.04), (0.08, 0.0), [0.04, 0.03, 0.02, 0.01]),
    ],
    ids=str,
)
def test_a_run_that_goes_on_learns_at_the_rate_that_it_is_told(tmp_path, optimizer, before, now, expected):
    names = ("learning_rate", "final_learning_rate")
    rates(tmp_path, 4, optimizer=optimizer, **dict(zip(names, before, strict=True)))
    seen = rates(tmp_path, 8, goes_on=True, optimizer=optimizer, **dict(zip(names, now, strict=True)))
    assert seen == pytest.approx(expected)


def test_training_does_not_go_on_with_another_optimizer_but_an_evaluation_needs_none(tmp_path):
    rates(tmp_path, 2, optimizer="adam")
    with pytest.raises(ValueError, match="Expected a checkpoint of a training by rmsprop, got one by adam"):
        rates(tmp_path, 4, goes_on=True, optimizer="rmsprop")
    data = small_data()
    trainer = quiet_trainer(1, limit_val_batches=1)
    trainer.validate(
        small_learner(data, optimizer="rmsprop"), data, ckpt_path=tmp_path / "saved.ckpt", weights_only=True
    )


class Other(QLearner):
    """Trains by an optimizer of its own."""

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.loss.parameters(), 0.005)
        self.target_update.follow(optimizer)
        return optimizer


def test_an_optimizer_of_ones_own_is_left_alone(tmp_path):
    for updates, options in ((2, {}), (4, {"learning_rate": 0.1, "optimizer": "rmsprop"})):
        data, watch = small_data(), Rates()
        trainer = quiet_trainer(updates, callbacks=[watch])
        learner = Other(data.spec, small_agent, small_mixer, **options)
        trainer.fit(learner, data, ckpt_path=tmp_path / "saved.ckpt" if options else None)
        trainer.save_checkpoint(tmp_path / "saved.ckpt")
        assert watch.seen == [0.005] * 2
