"""Recipes for StarCraft II, which is not there in CI: each parses, and builds all but its games."""

import pytest
import yaml

from qmix_lightning.datamodule import ReplayDataModule
from qmix_lightning.envs.adapters.smac import MAPS
from qmix_lightning.envs.adapters.smacv2 import MAPS as V2
from qmix_lightning.module import QLearner
from qmix_lightning.rollout.base import AbstractRollout
from qmix_lightning.spec import TaskSpec
from tests.training import LIGHTNINGS_OWN_WARNING, PRESETS, ROOT, qmix

pytestmark = pytest.mark.filterwarnings(LIGHTNINGS_OWN_WARNING)

RECIPES = sorted([*ROOT.glob("recipes/smac/*.yaml"), *ROOT.glob("recipes/smacv2/*.yaml")])


def name_of(path):
    return str(path.relative_to(ROOT))


class NoGame(AbstractRollout):
    """Knows the sizes of a task, and cannot play."""

    info_keys = ("battle_won", "dead_allies", "dead_enemies")
    plays_both = True

    def __init__(self, name):
        self.spec = TaskSpec(name, n_agents=3, n_actions=9, observation_size=30, state_size=48, episode_limit=60)
        self.env_steps = self.episodes = self.seed = 0

    def step(self, policy, *, explore, times=1):
        raise AssertionError("There is no StarCraft II.")

    def play(self, policy, episodes, *, seed):
        raise AssertionError("There is no StarCraft II.")

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        return False

    def start_anew(self, env_seed, seed):
        pass


@pytest.fixture
def built(monkeypatch):
    """Builds data, learner and trainer of configurations, and stops there; the arguments of each."""
    made = []

    def make(task, num_envs, **options):
        made.append((task, num_envs))
        return NoGame(task.name), None

    monkeypatch.setattr("qmix_lightning.datamodule.make_rollout", make)

    def stop(trainer, model, datamodule, ckpt_path=None):
        assert isinstance(model, QLearner)
        assert isinstance(datamodule, ReplayDataModule)
        made.append(trainer)
        raise KeyboardInterrupt

    monkeypatch.setattr("lightning.pytorch.Trainer.fit", stop)

    def build(*words, folder):
        made.clear()
        monkeypatch.chdir(folder)
        with pytest.raises(KeyboardInterrupt):
            qmix("fit", *words, "--trainer.accelerator=cpu")
        return made

    return build


def test_there_is_a_recipe_for_every_task():
    assert {path.stem for path in RECIPES if path.parent.name == "smac"} == set(MAPS)
    assert {path.stem for path in RECIPES if path.parent.name == "smacv2"} == set(V2)
    assert (len(MAPS), len(V2)) == (23, 15)


@pytest.mark.parametrize("recipe", RECIPES, ids=name_of)
def test_a_recipe_differs_from_its_battles_in_the_world_alone(recipe):
    config = yaml.safe_load(recipe.read_text())
    assert config["data"].pop("env") == f"{recipe.parent.name}/{recipe.stem}"
    battle = ROOT / "recipes/battle" / recipe.name
    if battle.exists():
        theirs = yaml.safe_load(battle.read_text())
        assert theirs["data"].pop("env") == f"battle/{recipe.stem}"
        assert config == theirs, f"{recipe} and {battle} should differ in data.env alone"


@pytest.mark.parametrize("recipe", RECIPES, ids=name_of)
def test_a_recipe_builds(recipe, built, tmp_path):
    (task, num_envs), _ = built("--config", recipe, folder=tmp_path)
    assert task.name == f"{recipe.parent.name}/{recipe.stem}"
    assert num_envs == 8, "as many games as a machine has room for"


@pytest.mark.parametrize("preset", PRESETS, ids=name_of)
def test_a_preset_builds_on_top(preset, built, tmp_path):
    (task, _), trainer = built("--config", ROOT / "recipes/smac/MMM2.yaml", "--config", preset, folder=tmp_path)
    assert task.name == "smac/MMM2"
    assert trainer.max_steps == -1
    assert "EnvStepSchedule" in {type(callback).__name__ for callback in trainer.callbacks}
