import time

import pytest
from lightning.pytorch import Callback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from qmix_lightning.callbacks.monitor import TrainingMonitor
from qmix_lightning.logger import EnvStepLogger
from tests.callbacks.boards import points
from tests.training import LIGHTNINGS_OWN_WARNING, Mute, quiet_trainer, small_data, small_learner

pytestmark = pytest.mark.filterwarnings(LIGHTNINGS_OWN_WARNING)


class Steps(Callback):
    """Notes the environment steps after each update."""

    def __init__(self):
        self.after = []

    def on_train_batch_end(self, trainer, pl_module, *args):
        self.after.append(trainer.datamodule.env_steps)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Six updates on 3m, logged at every second and validated at every third: the event file, and the steps."""
    folder, data, steps = tmp_path_factory.mktemp("logs"), small_data("battle/3m", replay_ratio=1.0), Steps()
    learner = small_learner(data, epsilon_start=0.8, epsilon_end=0.0, epsilon_steps=1_000_000)
    trainer = quiet_trainer(
        6, logger=EnvStepLogger("run", str(folder)), callbacks=[TrainingMonitor(), steps],
        log_every_n_steps=2, val_check_interval=3, limit_val_batches=1,
    )  # fmt: skip
    trainer.fit(learner, data)
    events = EventAccumulator(trainer.log_dir)
    events.Reload()
    return events, steps.after, data


def test_every_curve_is_drawn_over_environment_steps(run):
    events, steps, _ = run
    for tag in ("train/loss", "train/epsilon", "speed/updates_per_second"):
        assert [point.step for point in events.Scalars(tag)] == [steps[1], steps[3], steps[5]], tag
    assert [point.step for point in events.Scalars("val/return")] == [steps[2], steps[5]]
    assert [point.value for point in events.Scalars("train/env_steps")] == [steps[1], steps[3], steps[5]]


def test_all_that_was_promised_is_logged(run):
    promised = {
        "val": {"win_rate", "return", "episode_length", "dead_allies", "dead_enemies"},
        "train": {
            "loss",
            "td_error",
            "value",
            "target",
            "grad_norm",
            "epsilon",
            "env_steps",
            "episodes",
            "replay_episodes",
        },
        "speed": {"env_steps_per_second", "updates_per_second"},
    }
    tags = set(run[0].Tags()["scalars"])
    assert tags >= {f"{group}/{name}" for group, names in promised.items() for name in names}


def test_epsilon_is_the_one_that_battles_are_played_with(run):
    events, steps, _ = run
    expected = [0.8 * (1 - steps[update] / 1_000_000) for update in (1, 3, 5)]
    assert [point.value for point in events.Scalars("train/epsilon")] == pytest.approx(expected)


def test_episodes_are_counted(run):
    events, _, data = run
    assert events.Scalars("train/episodes")[-1].value == data.rollout.episodes
    assert events.Scalars("train/replay_episodes")[-1].value == len(data.buffer)


def test_rates_leave_evaluations_out(tmp_path):
    class Slow(Callback):
        def on_validation_epoch_start(self, trainer, pl_module):
            time.sleep(0.3)

    data = small_data()
    trainer = quiet_trainer(
        20, logger=EnvStepLogger("run", str(tmp_path)), callbacks=[TrainingMonitor(), Slow()],
        log_every_n_steps=20, val_check_interval=4, limit_val_batches=1,
    )  # fmt: skip
    begin = time.perf_counter()
    trainer.fit(small_learner(data), data)
    seconds = time.perf_counter() - begin
    ((_, rate),) = points(trainer.log_dir, "speed/updates_per_second")
    # Of the five validations four come before the rate is taken, and sleep 1.2 s.
    assert rate > 20 / (seconds - 1.0)


def test_it_refuses_a_module_or_data_that_it_cannot_ask():
    words = "TrainingMonitor expected a QLearner and a ReplayDataModule, got Mute and ReplayDataModule"
    with pytest.raises(TypeError, match=words):
        quiet_trainer(1, callbacks=[TrainingMonitor()]).fit(Mute(), small_data())


class Asked(Callback):
    """Notes of which updates, counted from 0, Lightning's logger is told a number."""

    def __init__(self):
        self.updates = []

    def on_train_start(self, trainer, pl_module):
        log = trainer.logger.log_metrics

        def counted(metrics, step=None):
            self.updates.append(step)
            log(metrics, step)

        trainer.logger.log_metrics = counted


def test_between_logging_steps_no_logger_is_asked(tmp_path):
    data, asked = small_data(), Asked()
    logger = EnvStepLogger("run", str(tmp_path))
    trainer = quiet_trainer(10, logger=logger, callbacks=[TrainingMonitor(), asked], log_every_n_steps=4)
    trainer.fit(small_learner(data), data)
    assert set(asked.updates) == {3, 7}


def test_episodes_that_are_played_ahead_are_not_counted_before_they_are_replayed(tmp_path):
    data = small_data(overlap=True)
    trainer = quiet_trainer(
        6, logger=EnvStepLogger("run", str(tmp_path)), callbacks=[TrainingMonitor()], log_every_n_steps=1
    )
    trainer.fit(small_learner(data), data)
    counted = [value for _, value in points(trainer.log_dir, "train/episodes")]
    # Two steps are an episode, and all battles begin and end together.
    assert counted == [value // 2 for _, value in points(trainer.log_dir, "train/env_steps")]
