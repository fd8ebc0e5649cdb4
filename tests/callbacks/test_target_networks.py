from __future__ import annotations

import pytest
import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader

from qmix_lightning.callbacks.target_networks import TargetUpdater
from tests.objectives.target_update.targets import weights
from tests.objectives.worlds import make_episodes, make_loss
from tests.training import LIGHTNINGS_OWN_WARNING, quiet_trainer, small_data, small_learner

pytestmark = [
    pytest.mark.filterwarnings(LIGHTNINGS_OWN_WARNING),
    pytest.mark.filterwarnings("ignore:.*does not have many workers:UserWarning"),
]


class Learner(LightningModule):
    """Somebody's own module around a loss, that leaves the targets to the callback."""

    def __init__(self):
        super().__init__()
        self.loss = make_loss(perturbed=False)
        self.loss.has_target_update = False

    def training_step(self, batch, batch_idx):
        # Of the step, not of the loader, which Lightning begins at another batch after a resume.
        return self.loss(make_episodes(seed=self.global_step))["loss"]

    def configure_optimizers(self):
        return torch.optim.Adam(self.loss.parameters(), lr=0.1)

    def train_dataloader(self):
        return DataLoader(range(5), batch_size=1)


class Watch(Callback):
    """Notes online weights and targets after every batch."""

    def __init__(self):
        self.online, self.targets = [], []

    def on_train_batch_end(self, trainer, pl_module, *args):
        self.online.append(weights(pl_module.loss))
        self.targets.append(weights(pl_module.loss, "target_"))


def fit(updates, updater, learner=None, *, ckpt_path=None, callbacks=(), **options):
    """Train, watched by a callback that runs before the updater's own hooks would."""
    learner, watch = learner or Learner(), Watch()
    trainer = quiet_trainer(updates, callbacks=[watch, updater, *callbacks], **options)
    trainer.fit(learner, ckpt_path=ckpt_path)
    return learner, watch, trainer


def test_targets_follow_by_tau_after_every_update():
    start = weights(make_loss(perturbed=False))
    _, watch, _ = fit(4, TargetUpdater(tau=0.25))
    for online, target in zip(watch.online, watch.targets, strict=True):
        start = start.lerp(online, 0.25)
        torch.testing.assert_close(target, start)


def test_targets_are_copied_at_every_nth_update_and_stay_between():
    _, watch, _ = fit(7, TargetUpdater(interval=3))
    start = weights(make_loss(perturbed=False))
    expected = [start, start, *3 * [watch.online[2]], *2 * [watch.online[5]]]
    assert all(torch.equal(target, copy) for target, copy in zip(watch.targets, expected, strict=True))


def test_a_batch_whose_gradients_are_only_accumulated_moves_nothing():
    updater = TargetUpdater(interval=2)
    _, watch, trainer = fit(2, updater, accumulate_grad_batches=2)
    assert trainer.global_step == updater.target_update.counter == 2
    start = weights(make_loss(perturbed=False))
    assert all(torch.equal(target, start) for target in watch.targets[:3])
    assert torch.equal(watch.targets[3], watch.online[3])


@pytest.mark.parametrize("options", [{"interval": 3}, {"tau": 0.25}], ids=str)
def test_a_run_that_was_interrupted_and_resumed_equals_one_that_was_not_to_the_bit(tmp_path, options):
    whole, _, _ = fit(10, TargetUpdater(**options))
    _, _, trainer = fit(5, TargetUpdater(**options))
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    updater = TargetUpdater(**options)
    resumed, _, trainer = fit(10, updater, ckpt_path=tmp_path / "half.ckpt")
    assert trainer.global_step == 10
    for prefix in ("", "target_"):
        assert torch.equal(weights(resumed.loss, prefix), weights(whole.loss, prefix))
    if "interval" in options:
        assert updater.target_update.counter == 10


def test_checkpoints_that_lightning_saves_hold_the_new_targets(tmp_path):
    saver = ModelCheckpoint(tmp_path, every_n_train_steps=1, save_top_k=-1, filename="{step}")
    _, watch, _ = fit(3, TargetUpdater(tau=0.5), callbacks=[saver], enable_checkpointing=True)
    for step, target in enumerate(watch.targets, 1):
        learner = Learner()
        checkpoint = torch.load(tmp_path / f"step={step}.ckpt", weights_only=True)
        learner.load_state_dict(checkpoint["state_dict"])
        assert torch.equal(weights(learner.loss, "target_"), target)


class Alternating(Learner):
    """Optimizers for agents, mixer, and something else, stepped in turn."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.other = nn.Linear(1, 1)

    def configure_optimizers(self):
        parts = self.loss.local_value_network_params, self.loss.mixer_network_params, self.other
        return [torch.optim.SGD(part.parameters(), lr=0.01) for part in parts]

    def training_step(self, batch, batch_idx):
        self.manual_backward(self.loss(make_episodes())["loss"] + self.other(torch.ones(1)).sum())
        for optimizer in self.optimizers():
            optimizer.step()
            optimizer.zero_grad()


def test_each_step_of_an_optimizer_that_trains_the_loss_counts_and_no_other():
    updater = TargetUpdater(interval=100)
    _, _, trainer = fit(9, updater, Alternating())
    assert trainer.global_step == 9
    assert updater.target_update.counter == 6


def test_a_fit_that_goes_on_goes_on_counting_and_one_of_another_module_starts_anew():
    learner, updater = Learner(), TargetUpdater(interval=100)
    fit(2, updater, learner)
    fit(3, updater, learner)
    assert updater.target_update.counter == 5
    fit(4, updater)
    assert updater.target_update.counter == 4


def test_after_training_or_a_failure_an_optimizer_moves_nothing():
    class Failing(Learner):
        def training_step(self, batch, batch_idx):
            if self.global_step == 2:
                raise FloatingPointError("the user's")
            return super().training_step(batch, batch_idx)

    for learner in (Learner(), Failing()):
        updater = TargetUpdater(interval=100)
        trainer = quiet_trainer(2 if type(learner) is Learner else 3, callbacks=[updater])
        try:
            trainer.fit(learner)
        except FloatingPointError:
            assert isinstance(learner, Failing)
        trainer.optimizers[0].step()
        assert updater.target_update.counter == 2


def test_two_losses_may_have_an_updater_each():
    class Team(Learner):
        def __init__(self):
            super().__init__()
            self.groups = nn.ModuleDict({"red": make_loss(), "blue": make_loss()})
            del self.loss

        def training_step(self, batch, batch_idx):
            return sum(loss(make_episodes())["loss"] for loss in self.groups.values())

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.01)

    red, blue = TargetUpdater(interval=1, loss="groups.red"), TargetUpdater(tau=0.0, loss="groups.blue")
    learner, trainer = Team(), quiet_trainer(2, callbacks=[red, blue])
    before = weights(learner.groups["blue"], "target_")
    trainer.fit(learner)
    assert torch.equal(weights(learner.groups["red"], "target_"), weights(learner.groups["red"]))
    assert torch.equal(weights(learner.groups["blue"], "target_"), before)


def test_a_validation_alone_needs_no_updater():
    updater = TargetUpdater(tau=0.1)
    updater.setup(quiet_trainer(1), Learner(), "validate")
    assert updater.target_update is None


def test_targets_that_are_updated_already_are_refused():
    data = small_data()
    words = (
        r"QLearner already updates the targets of 'loss', by its 'target_update', and TargetUpdater would do so twice"
    )
    with pytest.raises(ValueError, match=words):
        quiet_trainer(1, callbacks=[TargetUpdater(tau=0.1)]).fit(small_learner(data), data)


def test_a_module_without_such_a_loss_is_refused_with_those_it_has():
    with pytest.raises(
        AttributeError, match=r"Learner to keep its loss as 'criterion', .* it has 'loss': name the one"
    ):
        fit(1, TargetUpdater(tau=0.1, loss="criterion"))
    learner = Learner()
    learner.loss = nn.MSELoss()
    with pytest.raises(AttributeError, match=r"With target networks it has nothing"):
        fit(1, TargetUpdater(tau=0.1, loss="criterion"), learner)
    with pytest.raises(ValueError, match=r"^The loss_module must be a LossModule instance"):
        fit(1, TargetUpdater(tau=0.1), learner)
    learner.loss = make_loss(delay_value=False)
    with pytest.raises(RuntimeError, match=r"^Did not find any target parameters"):
        fit(1, TargetUpdater(tau=0.1), learner)


def test_targets_that_no_optimizer_would_ever_move_are_refused():
    class Elsewhere(Alternating):
        def configure_optimizers(self):
            return torch.optim.SGD(self.other.parameters(), lr=0.01)

    with pytest.raises(
        ValueError, match=r"expected an optimizer with parameters of 'loss', but none of 1 .* loss.param"
    ):
        fit(1, TargetUpdater(tau=0.1), Elsewhere())


def test_options_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="expected either tau or interval, got tau=None and interval=None"):
        TargetUpdater()
    with pytest.raises(ValueError, match=r"expected either tau or interval, got tau=0.1 and interval=2"):
        TargetUpdater(tau=0.1, interval=2)
    with pytest.raises(ValueError, match=r"tau must lie in \[0, 1\], got 1.5"):
        TargetUpdater(tau=1.5)
    for interval in (0, 2.5):
        with pytest.raises(ValueError, match=f"interval must be a positive integer, got {interval}"):
            TargetUpdater(interval=interval)
