import pytest
import torch
from lightning.pytorch import Callback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from qmix_lightning.callbacks.priorities import ReplayPriorities
from qmix_lightning.logger import EnvStepLogger
from qmix_lightning.spec import EPISODE, MASK, PRIORITY_WEIGHT, STATE, TD_ERROR
from tests.training import LIGHTNINGS_OWN_WARNING, Mute, quiet_trainer, small_data, small_learner

pytestmark = pytest.mark.filterwarnings(LIGHTNINGS_OWN_WARNING)


class Watch(Callback):
    """Notes β and the losses before each update, and the batch and what the replay makes of it after."""

    def __init__(self):
        self.betas, self.losses, self.batches, self.rates = [], [], [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.betas.append(trainer.datamodule.buffer.sampler.beta)
        weighted = pl_module.loss(batch.clone())["loss"]
        pl_module.loss.set_keys(priority_weight=None)
        self.losses.append((weighted.detach(), pl_module.loss(batch.clone())["loss"].detach()))
        pl_module.loss.set_keys(priority_weight=PRIORITY_WEIGHT)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        sampler = trainer.datamodule.buffer.sampler
        self.batches.append(batch)
        self.rates.append(sampler._rates[torch.arange(sampler._rates.capacity)])


def prioritised(**options):
    """Many more episodes than a batch has."""
    return small_data(
        "battle/3m", **{"prioritised": True, "compact": False, "capacity": 40, "replay_ratio": 0.5, **options}
    )


def fit(updates, data=None, *, eta=0.9, **options):
    """Train for some updates; return the data, and what was watched."""
    data, watch = data or prioritised(), Watch()
    trainer = quiet_trainer(updates, callbacks=[ReplayPriorities(eta), watch], **options)
    trainer.fit(small_learner(data), data)
    return data, watch


@pytest.mark.parametrize("accumulated", [1, 2])
@pytest.mark.parametrize("eta", [0.9, 0.0])
def test_what_was_replayed_gets_the_priority_that_its_errors_say(eta, accumulated):
    data, watch = fit(6, prioritised(priority_exponent=1.0), eta=eta, accumulate_grad_batches=accumulated)
    assert len(watch.batches) == 6 * accumulated
    for batch, rates in zip(watch.batches, watch.rates, strict=True):
        for row in batch.unbind(0):
            played = row[MASK][:, 0]
            errors = [abs(each) ** 0.5 for each in row[TD_ERROR][played, 0].tolist()]
            expected = eta * max(errors) + (1 - eta) * sum(errors) / len(errors)
            place = int(row[EPISODE][0]) % 40
            assert float(rates[place]) == pytest.approx(expected + data.buffer.sampler.epsilon, rel=1e-5)
    # The batch's episodes are the ones that are stored under their numbers.
    last = watch.batches[-1]
    stored = data.buffer.storage.read(last[EPISODE][:, 0, 0] % 40)
    assert torch.equal(stored[STATE], last[STATE])


def test_what_was_not_replayed_keeps_its_priority():
    _, watch = fit(6, prioritised(priority_exponent=1.0, capacity=5_000, replay_ratio=0.25))
    for before, after, batch in zip(watch.rates[:-1], watch.rates[1:], watch.batches[1:], strict=True):
        replayed = torch.zeros(5_000, dtype=torch.bool)
        replayed[batch[EPISODE][:, 0, 0]] = True
        others = (before > 0) & ~replayed
        assert others.any()
        assert torch.equal(before[others], after[others])


def test_beta_goes_to_1_in_a_straight_line_which_it_reaches_at_the_last_update():
    data, watch = fit(5, prioritised(importance_exponent=0.5))
    assert watch.betas == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9])
    assert data.buffer.sampler.beta == 1.0


def test_a_run_that_goes_on_takes_beta_up_where_it_stands(tmp_path):
    data = prioritised(importance_exponent=0.5)
    trainer = quiet_trainer(2, callbacks=[ReplayPriorities()])
    trainer.fit(small_learner(data), data)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    again, watch = prioritised(importance_exponent=0.5), Watch()
    trainer = quiet_trainer(5, callbacks=[ReplayPriorities(), watch])
    trainer.fit(small_learner(again), again, ckpt_path=tmp_path / "last.ckpt")
    assert watch.betas == pytest.approx([0.7, 0.8, 0.9])


def test_equal_priorities_give_the_loss_of_uniform_replay_exactly():
    _, watch = fit(6, prioritised(priority_exponent=0.0))
    for batch, (weighted, uniform) in zip(watch.batches, watch.losses, strict=True):
        assert (batch[PRIORITY_WEIGHT] == 1).all()
        assert torch.equal(weighted, uniform)


def test_the_loss_is_the_mean_over_played_steps_weighted_as_the_sampler_says():
    _, watch = fit(8, prioritised(importance_exponent=1.0, replay_ratio=1.0))
    for batch, (weighted, _) in zip(watch.batches, watch.losses, strict=True):
        weight = batch[PRIORITY_WEIGHT][batch[MASK]]
        expected = (weight * batch[TD_ERROR][batch[MASK]]).sum() / weight.sum()
        torch.testing.assert_close(weighted, expected)
    assert sum(not torch.equal(weighted, uniform) for weighted, uniform in watch.losses) >= 5


def test_the_same_seed_gives_the_same_run_bit_for_bit():
    (_, first), (_, second), (_, other) = fit(5), fit(5), fit(5, prioritised(seed=2))
    assert all(torch.equal(one, two) for one, two in zip(first.rates, second.rates, strict=True))
    assert not torch.equal(first.rates[-1], other.rates[-1])


def test_afterwards_the_learner_learns_from_uniform_replay_as_if_nothing_had_been():
    data = prioritised()
    learner = small_learner(data)
    quiet_trainer(2, callbacks=[ReplayPriorities()]).fit(learner, data)
    assert learner.loss.tensor_keys.priority_weight is None
    quiet_trainer(2).fit(learner, small_data("battle/3m"))


def test_beta_and_the_largest_priority_are_logged_at_logging_steps(tmp_path):
    data, watch = prioritised(importance_exponent=0.5), Watch()
    callbacks = [ReplayPriorities(eta=1.0), watch]
    trainer = quiet_trainer(5, callbacks=callbacks, log_every_n_steps=2, logger=EnvStepLogger("run", str(tmp_path)))
    trainer.fit(small_learner(data), data)
    events = EventAccumulator(trainer.log_dir)
    events.Reload()
    assert [point.value for point in events.Scalars("train/beta")] == pytest.approx([0.7, 0.9])
    largest = [float(batch[TD_ERROR].max()) ** 0.5 for batch in watch.batches[1::2]]
    assert [point.value for point in events.Scalars("train/priority_max")] == pytest.approx(largest)


def test_an_evaluation_asks_for_nothing():
    data = small_data(val_episodes=2)
    trainer = quiet_trainer(1, callbacks=[ReplayPriorities()], limit_val_batches=1)
    trainer.validate(small_learner(data), data, verbose=False)


def test_prioritised_data_without_it_is_refused():
    data = prioritised()
    words = r"expected a callback that updates the priorities, got none\. Add ReplayPriorities\(\) to the trainer's"
    with pytest.raises(RuntimeError, match=words):
        quiet_trainer(1).fit(small_learner(data), data)


def test_uniform_data_is_refused():
    data = small_data()
    words = r"expected a ReplayDataModule with prioritised=True, got one that replays all episodes alike\. Set it, or"
    with pytest.raises(ValueError, match=words):
        quiet_trainer(1, callbacks=[ReplayPriorities()]).fit(small_learner(data), data)


def test_a_training_without_an_end_is_refused():
    data = prioritised()
    words = r"complete at the trainer's last update, but max_steps is -1\. Set max_steps, or prioritised=False"
    with pytest.raises(ValueError, match=words):
        quiet_trainer(-1, max_epochs=1, callbacks=[ReplayPriorities()]).fit(small_learner(data), data)


def test_a_module_that_it_cannot_ask_is_refused():
    words = "ReplayPriorities expected a QLearner and a ReplayDataModule, got Mute and ReplayDataModule"
    with pytest.raises(TypeError, match=words):
        quiet_trainer(1, callbacks=[ReplayPriorities()]).fit(Mute(), prioritised())


@pytest.mark.parametrize("eta", [-0.1, 1.1])
def test_a_share_out_of_range_is_refused(eta):
    with pytest.raises(ValueError, match=rf"eta must lie in \[0, 1\], got {eta}"):
        ReplayPriorities(eta)
