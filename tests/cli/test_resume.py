"""What ``last`` and ``best`` mean, where a path could stand."""

import pytest
import torch
import yaml

from qmix_lightning.cli.resume import newest_run
from tests.callbacks.boards import points
from tests.training import LIGHTNINGS_OWN_WARNING, ROOT, SMALL, qmix

pytestmark = pytest.mark.filterwarnings(LIGHTNINGS_OWN_WARNING)

BATTLE = ROOT / "recipes/battle/3m.yaml"
GAME = ROOT / "recipes/matrix/two_step_vdn.yaml"
RUN = "logs/matrix-two_step/version_0"


def test_where_there_is_no_run_training_starts_anew_and_says_so(here, capsys):
    qmix("fit", "--config", GAME, *SMALL, "--ckpt_path", "last")
    assert "there is no last checkpoint in logs/matrix-two_step yet, training starts anew" in capsys.readouterr().out
    config = yaml.safe_load((here / RUN / "config.yaml").read_text())
    assert config["ckpt_path"] is None, "who runs it again starts anew"


def test_the_last_checkpoint_goes_on_in_its_folder_and_the_best_in_one_of_its_own(here, capsys):
    qmix("fit", "--config", GAME, *SMALL)
    qmix("fit", "--config", GAME, *SMALL, "--ckpt_path", "last", "--trainer.max_steps=4")
    assert torch.load(f"{RUN}/checkpoints/last.ckpt", weights_only=True)["global_step"] == 4
    config = yaml.safe_load((here / RUN / "config.yaml").read_text())
    assert (config["ckpt_path"], config["trainer"]["max_steps"]) == (None, 4)
    assert newest_run(here / "logs/matrix-two_step").name == "version_0"
    qmix("fit", "--config", GAME, *SMALL, "--ckpt_path", "best", "--trainer.max_steps=6")
    assert newest_run(here / "logs/matrix-two_step").name == "version_1"


def test_a_run_that_had_only_its_test_before_it_makes_it(here, capsys):
    qmix("fit", "--config", GAME, *SMALL)
    (here / RUN / "checkpoints/last.ckpt").unlink()
    capsys.readouterr()
    qmix("fit", "--config", GAME, *SMALL, "--ckpt_path", "last")
    assert "2 greedy battles on matrix/two_step: return" in capsys.readouterr().out
    assert (here / RUN / "checkpoints/last.ckpt").exists()


def test_the_last_and_the_best_can_be_evaluated(here, capsys):
    qmix("fit", "--config", GAME, *SMALL)
    before = sorted(here.rglob("*"))
    capsys.readouterr()
    for word in ("last", "best"):
        qmix("validate", "--config", GAME, *SMALL, "--ckpt_path", word)
        assert "untrained" not in capsys.readouterr().out
    assert sorted(here.rglob("*")) == before


def test_of_equal_win_rates_the_best_earned_most_also_in_a_run_that_went_on(here, capsys):
    # Steps so large that play changes from one evaluation to the next; nobody wins.
    model = "--model.learning_rate=0.05", "--model.final_learning_rate=null", "--model.greedy_network=online"
    restless = ("--seed_everything=10", *model, "--data.val_episodes=4", "--film.every=0")
    run = here / "logs/battle-3m/version_0"
    bests = []
    for updates in (4, 8):
        given = ("--config", BATTLE, *SMALL, *restless, f"--trainer.max_steps={updates}")
        qmix("fit", *given, "--ckpt_path", "last")
        figures = [[value for _, value in points(run, f"val/{name}")] for name in ("win_rate", "return")]
        evaluations = list(zip(*figures, strict=True))
        assert len(evaluations) == updates / 2
        bests.append(2 * (evaluations.index(max(evaluations)) + 1))
        (best,) = (run / "checkpoints").glob("best*")
        assert best.stem == f"best-step={bests[-1]}"
        said = []
        for path in ("best", best):
            capsys.readouterr()
            qmix("validate", *given, "--ckpt_path", path)
            said.append(capsys.readouterr().out)
        assert said[0] == said[1]
    assert bests[-1] > 2, "the first should not have stayed the best, or nothing was tried"


@pytest.mark.parametrize("word", ["last", "best"])
def test_what_is_not_there_cannot_be_evaluated(here, capsys, word):
    with pytest.raises(SystemExit):
        qmix("validate", "--config", GAME, "--ckpt_path", word)
    said = capsys.readouterr().err
    assert f"There is no {word} checkpoint in logs/matrix-two_step. Train first: qmix fit, or give its path." in said


def test_the_newest_run_is_the_one_of_the_highest_number_and_not_a_sweep(here):
    assert newest_run(here) is None
    for name in ("version_2", "version_10", "version_11", "version_x"):
        (here / name).mkdir()
    (here / "version_11/sweep.json").write_text("{}")
    assert newest_run(here) == here / "version_10"


def updates(folder):
    """Of each checkpoint in a folder, by its name."""
    return {path.name: torch.load(path, weights_only=True)["global_step"] for path in folder.glob("*.ckpt")}


def test_a_run_without_a_logger_goes_on_where_it_is_and_is_not_written_over(here, capsys):
    words = ("--config", GAME, *SMALL, "--trainer.logger=false", "--ckpt_path", "last")
    qmix("fit", *words)
    said = capsys.readouterr().out
    assert "there is no last checkpoint in . yet, training starts anew" in said
    assert "curves:" not in said, "there are none"
    qmix("fit", *words, "--trainer.max_steps=4")
    assert "anew" not in capsys.readouterr().out
    assert updates(here / "checkpoints")["last.ckpt"] == 4
    qmix("validate", *words)
    assert "untrained" not in capsys.readouterr().out


def test_an_evaluation_without_a_logger_finds_the_run_of_one(here, capsys):
    qmix("fit", "--config", GAME, *SMALL)
    capsys.readouterr()
    qmix("test", "--config", GAME, *SMALL, "--trainer.logger=false", "--ckpt_path", "best")
    assert "untrained" not in capsys.readouterr().out


@pytest.mark.parametrize("words", [(), ("--ckpt_path", "last")])
def test_options_of_ones_own_are_not_written_over_by_those_of_a_run_without_a_logger(here, capsys, words):
    config = here / "config.yaml"
    config.write_text(GAME.read_text())
    with pytest.raises(SystemExit) as exit_:
        qmix("fit", "--config", "config.yaml", *SMALL, "--trainer.logger=false", *words)
    assert exit_.value.code == 2
    assert "config.yaml is where a run without a logger saves its options" in capsys.readouterr().err
    assert config.read_text() == GAME.read_text()


@pytest.mark.parametrize("logger", ["CSVLogger", "qmix_lightning.logger.EnvStepLogger"])
def test_the_newest_run_of_a_chosen_logger_goes_on_and_keeps_what_it_wrote(here, capsys, logger):
    words = ("--config", GAME, *SMALL, f"--trainer.logger={logger}", "--trainer.logger.save_dir=mine")
    qmix("fit", *words)
    (first,) = here.glob("mine/*/version_0/checkpoints")
    written = (first.parent / "metrics.csv").read_text() if logger == "CSVLogger" else None
    qmix("fit", *words, "--ckpt_path", "last", "--trainer.max_steps=4")
    assert "anew" not in capsys.readouterr().out
    newest = max(here.glob("mine/*/version_*/checkpoints"))
    assert updates(newest)["last.ckpt"] == 4
    if written is None:
        assert newest == first, "in its folder"
    else:  # Lightning's own deletes what is in a folder that it is given.
        assert (first.parent / "metrics.csv").read_text() == written


def test_checkpoints_are_those_of_the_first_of_several_loggers(here, capsys):
    first = "{class_path: TensorBoardLogger, init_args: {save_dir: mine, version: 0}}"
    loggers = f"[{first}, qmix_lightning.logger.EnvStepLogger]"
    words = ("--config", GAME, *SMALL, f"--trainer.logger={loggers}", "--ckpt_path", "last")
    qmix("fit", *words)
    qmix("fit", *words, "--trainer.max_steps=4")
    assert capsys.readouterr().out.count("training starts anew") == 1
    (folder,) = here.glob("mine/*/version_0/checkpoints")
    assert updates(folder)["last.ckpt"] == 4


def test_a_folder_of_checkpoints_that_cannot_be_read_is_not_written_over(here, capsys):
    words = ("--config", GAME, *SMALL, "--checkpoint.dirpath=kept", "--ckpt_path", "last")
    (here / "kept").mkdir()
    (here / "kept/last-step=2.ckpt").write_bytes(b"half a file")
    with pytest.raises(SystemExit) as exit_:
        qmix("fit", *words)
    assert exit_.value.code == 2
    assert "kept holds another run (last-step=2.ckpt)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--data.prioritised=true", "Expected the state of a PrioritisedSampler"),
        ("--model.optimizer=adam", "got one by rmsprop, whose state adam cannot use."),
    ],
)
def test_a_start_that_is_refused_leaves_the_options_of_the_run_as_they_were(here, capsys, option, words):
    given = ("--config", GAME, *SMALL, "--model.optimizer=rmsprop")
    qmix("fit", *given)
    config = (here / RUN / "config.yaml").read_text()
    with pytest.raises(SystemExit) as exit_:
        qmix("fit", *given, option, "--ckpt_path=last", "--trainer.max_steps=4")
    assert exit_.value.code == 2
    assert words in capsys.readouterr().err
    assert (here / RUN / "config.yaml").read_text() == config


@pytest.mark.parametrize("part", ["trainer:\n  max_ste", "seed_ever", "a: [1"])
def test_a_run_whose_options_were_cut_off_goes_on(here, capsys, part):
    qmix("fit", "--config", GAME, *SMALL)
    (here / RUN / "config.yaml").write_text(part)
    qmix("fit", "--config", GAME, *SMALL, "--ckpt_path=last", "--trainer.max_steps=4")
    assert updates(here / RUN / "checkpoints")["last.ckpt"] == 4
