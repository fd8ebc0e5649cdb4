import pytest
from tensorboard.plugins.hparams import metadata

from qmix_lightning.callbacks.hyperparameters import HyperParameters
from qmix_lightning.logger import EnvStepLogger
from tests.callbacks.boards import events, fitted, points
from tests.training import LIGHTNINGS_OWN_WARNING, quiet_trainer, small_data, small_learner

pytestmark = pytest.mark.filterwarnings(LIGHTNINGS_OWN_WARNING)


def options(folder):
    content = events(folder).SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    told = metadata.parse_session_start_info_plugin_data(content).hparams
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in told.items()}


def metrics(folder):
    content = events(folder).SummaryMetadata(metadata.EXPERIMENT_TAG).plugin_data.content
    return {info.name.tag for info in metadata.parse_experiment_plugin_data(content).metric_infos}


def test_options_are_those_of_learner_data_and_trainer(tmp_path):
    trainer, *_ = fitted(tmp_path, learner={"gamma": 0.5}, gradient_clip_val=3.0)
    told = options(trainer.log_dir)
    expected = {
        "model/gamma": 0.5, "Run/agent": "GRUAgent", "Run/mixer": "QMixer", "model/double_q": True,
        "Run/env": "battle/3m", "data/num_envs": 4, "data/prioritised": True, "Run/seed": 1,
        "Run/max_steps": 6, "trainer/gradient_clip_val": 3.0, "trainer/precision": "32-true",
        "trainer/processes": 1,
    }  # fmt: skip
    assert {name: told[name] for name in expected} == expected
    assert sorted(told)[:5] == ["Run/agent", "Run/env", "Run/max_steps", "Run/mixer", "Run/seed"]


def test_options_of_options_are_flattened(tmp_path):
    data = small_data()
    data.env_options = {"opponent": {"kind": "still", "speed": 2}}
    trainer = quiet_trainer(1, logger=EnvStepLogger("run", str(tmp_path)), callbacks=[HyperParameters()])
    trainer.fit(small_learner(data), data)
    told = options(trainer.log_dir)
    assert (told["data/env_options/opponent/kind"], told["data/env_options/opponent/speed"]) == ("still", 2)


def test_the_metrics_are_those_of_the_last_evaluation(tmp_path):
    trainer, learner, data = fitted(tmp_path)
    names = {"final/win_rate", "final/return", "final/episode_length", "final/dead_allies", "final/dead_enemies"}
    assert metrics(trainer.log_dir) == names | {"final/env_steps"}
    for name, (mean, _, _) in learner.evaluation.items():
        assert points(trainer.log_dir, f"final/{name}") == [(data.env_steps, pytest.approx(mean))]


def test_who_made_agent_and_mixer_can_be_told(tmp_path):
    data = small_data()
    logger = EnvStepLogger("run", str(tmp_path))
    told = HyperParameters("GRUAgent(hidden_size=8)", "QMixer(mixing_embed_dim=4)")
    trainer = quiet_trainer(1, logger=logger, callbacks=[told])
    trainer.fit(small_learner(data), data)
    found = options(trainer.log_dir)
    assert (found["Run/agent"], found["Run/mixer"]) == ("GRUAgent(hidden_size=8)", "QMixer(mixing_embed_dim=4)")


def test_a_run_that_went_on_shows_them_too(tmp_path):
    half, learner, _ = fitted(tmp_path / "half", updates=5)
    half.save_checkpoint(tmp_path / "half.ckpt")
    rest, *_ = fitted(tmp_path / "rest", updates=8, ckpt_path=tmp_path / "half.ckpt", val_check_interval=100)
    assert options(rest.log_dir)["Run/max_steps"] == 8
    mean, _, _ = learner.evaluation["return"]
    assert points(rest.log_dir, "final/return")[0][1] == pytest.approx(mean), "nothing was evaluated since"
