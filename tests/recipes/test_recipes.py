import re
from itertools import pairwise

import pytest
import yaml

from tests.training import LIGHTNINGS_OWN_WARNING, PRESETS, RECIPES, ROOT, SMALL, qmix

pytestmark = pytest.mark.filterwarnings(LIGHTNINGS_OWN_WARNING)


PLAYED_ELSEWHERE = {"smac", "smacv2"}
"""Families that need StarCraft II; tests/recipes/test_starcraft.py parses and builds them."""

IN_CI = {
    "3m", "27m_vs_30m", "2s3z", "3s5z", "MMM", "2s_vs_1sc", "2c_vs_64zg", "so_many_baneling", "bane_vs_bane",
    "corridor", "terran_5_vs_5", "protoss_5_vs_5", "zerg_5_vs_5",
}  # fmt: skip
"""Battles of every kind of unit and ground; recipes of the others, alike but for their sizes, train in `make slow`."""

TRAINED = [
    pytest.param(path, marks=[pytest.mark.slow] if path.parent.name == "battle" and path.stem not in IN_CI else [])
    for path in RECIPES
    if path.parent.name not in PLAYED_ELSEWHERE
]


def name_of(path):
    return str(path.relative_to(ROOT))


def test_there_are_recipes_for_battles_and_for_games():
    assert {path.parent.name for path in RECIPES} >= {"battle", "matrix", "pettingzoo", "smac", "smacv2"}


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


@pytest.mark.parametrize("recipe", TRAINED, ids=name_of)
def test_a_recipe_trains_and_leaves_its_run_behind(recipe, tmp_path, monkeypatch, capsys):
    if recipe.parent.name == "pettingzoo":
        pytest.importorskip("mpe2")
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


@pytest.mark.parametrize("preset", PRESETS, ids=name_of)
def test_a_preset_goes_on_top_of_any_recipe(preset, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    few = ("--data.num_envs=4", "--data.batch_size=4", "--data.val_episodes=2", "--data.test_episodes=2")
    soon = (
        "--trainer.callbacks.init_args.evaluate_every=100", "--trainer.callbacks.init_args.stop_at=1200",
        "--trainer.log_every_n_steps=1", "--trainer.accelerator=cpu",
    )  # fmt: skip
    qmix("fit", "--config", ROOT / "recipes/battle/3m.yaml", "--config", preset, *few, *soon)
    config = yaml.safe_load((tmp_path / "logs/battle-3m/version_0/config.yaml").read_text())
    assert config["data"]["env"] == "battle/3m"
    assert config["data"]["capacity"] == 5_000
    assert config["model"]["agent"]["class_path"].endswith("GRUAgent")
    steps = [int(found.replace(",", "")) for found in re.findall(r"([\d,]+) env steps   win", capsys.readouterr().out)]
    assert len(steps) > 3
    assert 1_200 <= steps[-1] < 1_400
    assert all(after // 100 > before // 100 for before, after in pairwise(steps))
