import pytest
import torch
from lightning.pytorch import Callback

from qmix_lightning.callbacks.networks import chosen_values, joint_value
from qmix_lightning.spec import MASK, REWARD, STATE
from tests.callbacks.boards import events, fitted, points
from tests.training import LIGHTNINGS_OWN_WARNING

pytestmark = pytest.mark.filterwarnings(LIGHTNINGS_OWN_WARNING)


class Battles(Callback):
    """Keeps the battles of evaluations."""

    def __init__(self):
        self.played = []

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, *args):
        self.played.append(batch.clone())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    battles = Battles()
    trainer, learner, _ = fitted(
        tmp_path_factory.mktemp("logs"), callbacks=[battles], data={"val_episodes": 40}, learner={"gamma": 0.9}
    )
    return trainer.log_dir, learner, battles.played


@pytest.mark.parametrize("name", ["win_rate", "return"])
def test_the_margin_holds_the_mean(run, name):
    low, mean, high = ([value for _, value in points(run[0], f"val/{name}{end}")] for end in ("_low", "", "_high"))
    assert len(mean) == 2
    for below, value, above in zip(low, mean, high, strict=True):
        assert below <= value <= above
        assert below < above or name == "return", "of battles that all earned the same"


def test_the_margin_is_the_one_that_is_reported(run):
    folder, learner, _ = run
    for name in ("win_rate", "return"):
        _, low, high = learner.evaluation[name]
        assert points(folder, f"val/{name}_low")[-1][1] == pytest.approx(low)
        assert points(folder, f"val/{name}_high")[-1][1] == pytest.approx(high)


def test_overestimation_is_the_mean_over_battles_of_value_minus_what_was_earned_from_there_on(run):
    folder, learner, played = run
    battles = played[-1][:32]
    with torch.no_grad():
        value = joint_value(learner, chosen_values(learner, battles), battles[STATE])
    off = []
    for battle in range(32):
        steps, earned, errors = int(battles[MASK][battle].sum()), 0.0, []
        for step in reversed(range(steps)):
            earned = float(battles[REWARD][battle, step]) + 0.9 * earned
            errors.append(float(value[battle, step]) - earned)
        off.append(sum(errors) / steps)
    assert points(folder, "val/overestimation")[-1][1] == pytest.approx(sum(off) / 32, rel=1e-4)


def test_a_game_without_wins_has_a_margin_of_its_return_only(tmp_path):
    trainer, *_ = fitted(tmp_path, "matrix/two_step")
    tags = events(trainer.log_dir).Tags()["scalars"]
    assert {tag for tag in tags if "_low" in tag} == {"val/return_low"}


def test_of_one_battle_there_is_no_margin(tmp_path):
    trainer, *_ = fitted(tmp_path, data={"val_episodes": 1})
    tags = set(events(trainer.log_dir).Tags()["scalars"])
    assert "val/win_rate_low" in tags, "Wilson's is finite"
    assert not tags & {"val/return_low", "val/return_high"}


def test_what_is_checked_before_training_is_not_logged(tmp_path):
    trainer, *_ = fitted(tmp_path, "matrix/two_step", num_sanity_val_steps=1)
    assert len(points(trainer.log_dir, "val/overestimation")) == 2


def test_an_evaluation_alone_logs_nothing(tmp_path):
    trainer, learner, data = fitted(tmp_path, "matrix/two_step")
    with torch.inference_mode(False):
        trainer.validate(learner, data, verbose=False)
    assert len(points(trainer.log_dir, "val/overestimation")) == 2
