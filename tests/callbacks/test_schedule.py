import pytest
from lightning.pytorch import Callback

from qmix_lightning.callbacks.schedule import EnvStepSchedule
from tests.training import LIGHTNINGS_OWN_WARNING, quiet_trainer, small_data, small_learner

pytestmark = pytest.mark.filterwarnings(LIGHTNINGS_OWN_WARNING)


class Diary(Callback):
    def __init__(self):
        self.evaluated, self.updates = [], []

    def on_validation_end(self, trainer, pl_module):
        self.evaluated.append(trainer.datamodule.env_steps)
        self.updates.append(trainer.global_step)


def fit(schedule, updates=-1, **options):
    diary, data = Diary(), small_data("battle/3m", replay_ratio=2.0)
    trainer = quiet_trainer(updates, callbacks=[schedule, diary], limit_val_batches=1, max_epochs=-1, **options)
    trainer.fit(small_learner(data), data)
    return diary, trainer, data


def test_evaluations_come_by_environment_steps_and_training_ends_by_them():
    diary, _, data = fit(EnvStepSchedule(200, stop_at=1_500))
    assert data.env_steps >= 1_500
    assert diary.evaluated[-1] == data.env_steps, "the end is evaluated"
    passed = [steps // 200 for steps in diary.evaluated[:-1]]
    assert passed == sorted(set(passed)), "once for each two hundred"
    assert len(passed) >= 5


def test_they_wait_for_the_end_of_an_update():
    diary, *_ = fit(EnvStepSchedule(100, stop_at=1_000), accumulate_grad_batches=3)
    assert len(diary.evaluated) > 3
    assert len(diary.updates) == len(set(diary.updates)), "none between two batches of an update"


def test_without_an_end_of_its_own_the_trainer_decides():
    _, trainer, _ = fit(EnvStepSchedule(10_000), updates=7)
    assert trainer.global_step == 7


def test_a_resumed_schedule_goes_on_where_it_was():
    first, second = EnvStepSchedule(200), EnvStepSchedule(200)
    fit(first, updates=10)
    second.load_state_dict(first.state_dict())
    assert second.state_dict() == first.state_dict() != EnvStepSchedule().state_dict()


@pytest.mark.parametrize("options", [{"evaluate_every": 0}, {"stop_at": -1}])
def test_numbers_that_are_not_positive_are_refused(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} counts environment steps and must be positive"):
        EnvStepSchedule(**options)
