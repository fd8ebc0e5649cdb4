import re

import pytest
import yaml

from tests.training import LIGHTNINGS_OWN_WARNING, RECIPES, ROOT, SMALL, qmix

pytestmark = pytest.mark.filterwarnings(LIGHTNINGS_OWN_WARNING)


def name_of(path):
    return str(path.relative_to(ROOT))


def test_there_are_recipes_for_battles_and_for_games():
    assert {path.parent.name for path in RECIPES} >= {"battle", "matrix"}


@pytest.mark.parametrize("recipe", RECIPES, ids=name_of)
def test_a_recipe_opens_with_what_it_is_and_the_command_that_runs_it(recipe):
    comment = re.match(r"(?:#.*\n)+", recipe.read_text())[0]
    assert re.match(r"# \w+.*\n", comment)
    assert f"#   qmix fit --config {name_of(recipe)}\n" in comment


@pytest.mark.parametrize("recipe", RECIPES, ids=name_of)
def test_a_recipe_says_only_what_differs(recipe):
    config = yaml.safe_load(recipe.read_text())
    assert set(config) <= {"data", "model", "trainer", "checkpoint", "seed_everything"}
    assert "env" in config["data"]


@pytest.mark.parametrize("recipe", RECIPES, ids=name_of)
def test_a_recipe_trains_and_leaves_its_run_behind(recipe, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    qmix("fit", "--config", recipe, *SMALL)
    env = yaml.safe_load(recipe.read_text())["data"]["env"]
    (run,) = tmp_path.glob("logs/*/*")
    assert run == tmp_path / "logs" / env.replace("/", "-") / "version_0"
    assert yaml.safe_load((run / "config.yaml").read_text())["trainer"]["max_steps"] == 2
    assert list(run.glob("events.out.tfevents.*"))
    assert {path.name for path in run.glob("checkpoints/*")} == {
        "best-step=2.ckpt", "last-step=2.ckpt", "last.ckpt", "replay",
    }  # fmt: skip
    said = capsys.readouterr().out
    first = "win rate" if env.startswith("battle/") else "return"
    assert f"2 greedy battles on {env}: {first}" in said
    assert f"checkpoint:  {run.relative_to(tmp_path)}/checkpoints/best-step=2.ckpt" in said
    assert re.search(rf"curves: .*tensorboard --logdir {run.relative_to(tmp_path)}\n", said)
