import time

import pytest
from lightning.pytorch import Callback

from tests.callbacks.boards import fitted, points
from tests.training import LIGHTNINGS_OWN_WARNING

pytestmark = pytest.mark.filterwarnings(LIGHTNINGS_OWN_WARNING)

STAGES = ("collect", "sample", "update", "evaluate", "log", "rest")


class Slow(Callback):
    """Takes its time in one hook."""

    def __init__(self, hook, seconds):
        setattr(self, hook, lambda *args, **kwargs: time.sleep(seconds))


def shares(folder):
    return {stage: [value for _, value in points(folder, f"speed/{stage}_share")] for stage in STAGES}


def test_the_shares_add_up_to_one(tmp_path):
    trainer, *_ = fitted(tmp_path, "matrix/two_step")
    for at_one in zip(*shares(trainer.log_dir).values(), strict=True):
        assert sum(at_one) == pytest.approx(1, abs=1e-6)
        assert min(at_one) >= 0


@pytest.mark.parametrize(
    ("hook", "stage"),
    [("on_before_backward", "update"), ("on_validation_epoch_start", "evaluate"), ("on_train_batch_end", "rest")],
)
def test_time_is_charged_to_who_spends_it(tmp_path, hook, stage):
    trainer, *_ = fitted(tmp_path, "matrix/two_step", callbacks=[Slow(hook, 0.4)])
    last = {name: values[-1] for name, values in shares(trainer.log_dir).items()}
    assert max(last, key=last.get) == stage


def test_rates_are_over_the_stages_own_time(tmp_path):
    class Playing(Callback):
        def on_train_end(self, trainer, pl_module):
            self.seconds = dict(trainer.datamodule.seconds)

    playing = Playing()
    trainer, _, data = fitted(tmp_path, "matrix/two_step", 4, val_check_interval=4, callbacks=[playing])
    ((_, rate),) = points(trainer.log_dir, "speed/collect_env_steps_per_second")
    assert rate == pytest.approx(data.env_steps / playing.seconds["collect"], rel=1e-5)
    ((_, rate),) = points(trainer.log_dir, "speed/sample_batches_per_second")
    assert rate == pytest.approx(4 / playing.seconds["sample"], rel=1e-5)
    ((_, rate),) = points(trainer.log_dir, "speed/evaluate_battles_per_second")
    assert 0 < rate <= data.val_episodes / playing.seconds["evaluate"]


def test_without_evaluations_they_come_at_logging_steps(tmp_path):
    trainer, *_ = fitted(tmp_path, "matrix/two_step", limit_val_batches=0)
    assert len(points(trainer.log_dir, "speed/update_share")) == 3
    assert [value for _, value in points(trainer.log_dir, "speed/evaluate_share")] == [0, 0, 0]
