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


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


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
