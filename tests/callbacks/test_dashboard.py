import re

import pytest
from lightning.pytorch.loggers import CSVLogger
from tensorboard.plugins.custom_scalar import layout_pb2

from qmix_lightning.callbacks.dashboard import cockpit, layout
from qmix_lightning.logger import EnvStepLogger
from tests.callbacks.boards import Diary, events, fitted, points
from tests.training import LIGHTNINGS_OWN_WARNING, quiet_trainer, small_data, small_learner

pytestmark = pytest.mark.filterwarnings(LIGHTNINGS_OWN_WARNING)

STAGES = ("collect", "sample", "update", "evaluate", "log", "rest")
AT_LOGGING_STEPS = {
    "train/epsilon", "train/env_steps", "train/episodes", "train/replay_episodes", "train/replay_fill",
    "train/replay_age", "train/beta", "train/priority_max", "train/loss", "train/td_error", "train/value",
    "train/target", "train/grad_norm", "speed/env_steps_per_second", "speed/updates_per_second",
    "mixer/slope_agent_0", "mixer/slope_agent_1", "mixer/slope_agent_2",
}  # fmt: skip
AT_EVALUATIONS = {
    "val/win_rate", "val/win_rate_low", "val/win_rate_high", "val/return", "val/return_low", "val/return_high",
    "val/episode_length", "val/dead_allies", "val/dead_enemies", "val/overestimation",
    "speed/collect_env_steps_per_second", "speed/sample_batches_per_second", "speed/update_batches_per_second",
    "speed/evaluate_battles_per_second", *(f"speed/{stage}_share" for stage in STAGES),
}  # fmt: skip
AT_THE_END = {f"final/{name}" for name in ("win_rate", "return", "episode_length", "dead_allies", "dead_enemies")}
HISTOGRAMS = {"q/agent_0", "q/agent_1", "q/agent_2", "mixer/w_1", "mixer/w_final", "replay/priority"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Six updates on 3m, logged at every second and evaluated at every third: the folder, and the steps."""
    diary = Diary()
    trainer, learner, data = fitted(tmp_path_factory.mktemp("logs"), callbacks=[diary])
    return trainer.log_dir, diary.steps, learner, data


def test_all_is_written_and_nothing_else(run):
    tags = events(run[0]).Tags()
    assert set(tags["scalars"]) == AT_LOGGING_STEPS | AT_EVALUATIONS | AT_THE_END | {"final/env_steps"}
    assert set(tags["histograms"]) == HISTOGRAMS


def test_every_point_lies_at_the_environment_steps_of_its_update_and_none_between_logging_steps(run):
    folder, steps, *_ = run
    logged, evaluated = [steps[1], steps[3], steps[5]], [steps[2], steps[5]]
    written = events(folder)
    for tag in AT_LOGGING_STEPS:
        assert [point.step for point in written.Scalars(tag)] == logged, tag
    for tag in HISTOGRAMS:
        assert [point.step for point in written.Histograms(tag)] == logged, tag
    for tag in AT_EVALUATIONS:
        assert [point.step for point in written.Scalars(tag)] == evaluated, tag
    for tag in AT_THE_END:
        assert [point.step for point in written.Scalars(tag)] == [steps[5]], tag


def test_what_is_drawn_seldom_is_drawn_at_every_so_many_logging_steps(tmp_path):
    data, diary = small_data(), Diary()
    logger = EnvStepLogger("run", str(tmp_path), version="one")
    trainer = quiet_trainer(12, callbacks=[*cockpit(every=3), diary], logger=logger, log_every_n_steps=2)
    trainer.fit(small_learner(data), data)
    assert [step for step, _ in points(trainer.log_dir, "mixer/slope_agent_0")] == [diary.steps[5], diary.steps[11]]
    assert len(points(trainer.log_dir, "train/epsilon")) == 6


def test_batches_of_which_gradients_are_accumulated_are_one_update(tmp_path):
    trainer, *_ = fitted(tmp_path, accumulate_grad_batches=3, updates=4, val_check_interval=6)
    assert len(points(trainer.log_dir, "train/epsilon")) == 2


def test_the_layout_shows_all_curves_but_those_of_the_end(run):
    (written,) = events(run[0]).Tensors("custom_scalars__config__")
    shown = layout_pb2.Layout.FromString(written.tensor_proto.string_val[0])
    groups = [group.title for group in shown.category]
    assert groups == ["Outcome", "Greedy play", "Learning", "Exploration and replay", "Speed"]
    charts = [chart for group in shown.category for chart in group.chart]
    margins = {tag for chart in charts for each in chart.margin.series for tag in (each.value, each.lower, each.upper)}
    lines = [pattern for chart in charts for pattern in chart.multiline.tag]
    curves = AT_LOGGING_STEPS | AT_EVALUATIONS
    assert margins <= curves
    for tag in curves - margins - {"train/replay_episodes", "train/env_steps"}:
        assert any(re.search(pattern, tag) for pattern in lines), tag
    for pattern in lines:
        assert any(re.search(pattern, tag) for tag in curves), pattern


def test_the_layout_of_a_game_that_nobody_wins_asks_for_no_wins():
    said = str(layout(battles=False, prioritised=False))
    assert "win_rate" not in said
    assert "dead" not in said
    assert "priority" not in said
    assert "val/return" in said


def test_without_a_logger_nothing_happens(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fitted(tmp_path / "logs", logger=False)
    assert list(tmp_path.rglob("*")) == []


def test_other_loggers_get_the_numbers_by_updates(tmp_path):
    fitted(tmp_path, logger=CSVLogger(str(tmp_path), version="one"))
    rows = [line.split(",") for line in (tmp_path / "lightning_logs/one/metrics.csv").read_text().splitlines()]
    names = rows[0]
    assert set(names) >= AT_LOGGING_STEPS | AT_EVALUATIONS
    epsilon, step = names.index("train/epsilon"), names.index("step")
    assert [row[step] for row in rows[1:] if row[epsilon]] == ["1", "3", "5"], "as Lightning counts, from 0"


def test_a_dry_run_of_one_batch_is_no_trouble(tmp_path):
    trainer, *_ = fitted(tmp_path, fast_dev_run=True)
    assert trainer.global_step == 1


def test_histograms_that_come_at_no_step_are_refused():
    with pytest.raises(ValueError, match="every counts logging steps and must be positive, got 0"):
        cockpit(every=0)
