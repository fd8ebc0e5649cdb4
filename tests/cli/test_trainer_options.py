"""Arguments of Lightning's Trainer that say more than a number."""

import pytest

from tests.training import LIGHTNINGS_OWN_WARNING, ROOT, SMALL, qmix

pytestmark = pytest.mark.filterwarnings(LIGHTNINGS_OWN_WARNING)

GAME = ROOT / "recipes/matrix/two_step_vdn.yaml"
RUN = "logs/matrix-two_step/version_0"


@pytest.fixture
def refused(here, capsys):
    def run(*options):
        with pytest.raises(SystemExit) as exit_:
            qmix("fit", "--config", GAME, *SMALL, *options)
        assert exit_.value.code == 2
        said = capsys.readouterr().err.strip()
        assert said.startswith("qmix: ")
        assert len(said.splitlines()) == 1
        return said

    return run


@pytest.mark.parametrize("callback", ["LearningRateMonitor", "[LearningRateMonitor]"])
def test_a_single_callback_needs_no_list(here, callback):
    qmix("fit", "--config", GAME, *SMALL, f"--trainer.callbacks={callback}")
    assert (here / RUN / "checkpoints/last.ckpt").exists()


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--trainer.barebones=true", "trainer.barebones leaves out the logger, checkpoints and progress"),
        ("--trainer.enable_checkpointing=false", "All runs of this command line save checkpoints"),
        (
            "--trainer.strategy=ddp_spawn",
            "processes of trainer.strategy ddp_spawn are forgotten after each fit. Take ddp",
        ),
    ],
)
def test_a_trainer_without_what_every_run_has_is_refused(refused, here, option, words):
    assert words in refused(option)
    assert not list(here.rglob("*"))


def test_what_a_callback_of_lightning_refuses_is_said_in_a_line(refused):
    said = refused("--trainer.callbacks=LearningRateMonitor", "--trainer.logger=false")
    assert "Cannot use `LearningRateMonitor` callback with `Trainer` that has no logger." in said


def test_training_does_not_go_on_from_networks_alone(here, refused, capsys):
    qmix("fit", "--config", GAME, *SMALL, "--checkpoint.save_weights_only=true")
    before = sorted(here.rglob("*"))
    words = "--ckpt_path=best", "--trainer.max_steps=4"
    capsys.readouterr()
    assert "holds networks alone (checkpoint.save_weights_only), from which training cannot go on" in refused(*words)
    assert sorted(here.rglob("*")) == before
    qmix("validate", "--config", GAME, *SMALL, "--ckpt_path=best")
    assert "untrained" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "A run writes below logs/matrix-two_step"),
        (["--trainer.logger=false", "--checkpoint.dirpath=logs"], "A run writes below logs, where that cannot be done"),
        (["--trainer.logger=EnvStepLogger", "--trainer.logger.save_dir=/proc/here"], "A run writes below /proc/here"),
    ],
)
def test_a_folder_that_cannot_be_written_to_is_named_before_training(here, refused, options, words):
    (here / "logs").write_text("a file")
    assert words in refused(*options)
    assert sorted(path.name for path in here.rglob("*")) == ["logs"]


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (
            "--trainer.callbacks=EarlyStoping",
            "Expected list or the name of a class or null. Got value: EarlyStoping. Did you mean EarlyStopping?",
        ),
        ("--trainer.callbacks=ReplayPriority", "Did you mean ReplayPriorities?"),
        ("--trainer.logger=CSVLoger", "Got value: CSVLoger. Did you mean CSVLogger?"),
        (
            "--trainer.logger.save_dir=here",
            "trainer.logger.save_dir is an option of a class that is not named. Name it",
        ),
        ("--trainer.callbacks=EarlyStopping", "EarlyStopping needs monitor. Add --trainer.callbacks.monitor=…"),
    ],
)
def test_a_class_that_is_misspelt_or_lacks_an_argument_is_refused_in_a_line(refused, option, words):
    assert words in refused(option)


def test_a_folder_for_the_replay_that_cannot_be_made_is_named_in_a_line(refused):
    assert "Expected a file for replayed episodes, got: No such file" in refused("--data.replay_folder=/proc/here")


def test_without_a_test_none_is_reported(here, capsys):
    qmix("fit", "--config", GAME, *SMALL, "--trainer.limit_test_batches=0")
    said = capsys.readouterr().out
    assert "greedy battles" not in said
    assert "checkpoint:" in said
