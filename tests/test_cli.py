import contextlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from qmix_lightning.callbacks.priorities import ReplayPriorities
from qmix_lightning.cli.training import QMixCLI
from qmix_lightning.datamodule import ReplayDataModule
from qmix_lightning.module import QLearner
from tests.training import LIGHTNINGS_OWN_WARNING, ROOT, SMALL, qmix

pytestmark = pytest.mark.filterwarnings(LIGHTNINGS_OWN_WARNING)

BATTLE = ROOT / "recipes/battle/3m.yaml"
GAME = ROOT / "recipes/matrix/two_step_vdn.yaml"


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with a run of the game and one of the battle, broken checkpoints and configurations with stray keys."""
    folder = tmp_path_factory.mktemp("workplace")
    with contextlib.chdir(folder):
        qmix("fit", "--config", GAME, *SMALL)
        qmix("fit", "--config", BATTLE, *SMALL)
    (folder / "recipes").mkdir()
    shutil.copy(GAME, folder / "recipes/game.yaml")
    whole = (folder / "logs/battle-3m/version_0/checkpoints/last.ckpt").read_bytes()
    (folder / "half.ckpt").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.ckpt").write_bytes(b"")
    (folder / "text.ckpt").write_text("hello there")
    torch.save({"weights": torch.zeros(3)}, folder / "other.ckpt")
    recipe = GAME.read_text()
    stray = {
        "top": recipe + "\nlearning: 1\n",
        "model": recipe.replace("estimator:", "estimatr:"),
        "data": recipe.replace("num_envs:", "num_env:"),
        "trainer": recipe.replace("max_steps:", "max_step:"),
        "checkpoint": recipe.replace("monitor:", "moniter:"),
        "agent": recipe.replace("last_action:", "last_actoin:"),
    }
    for name, text in stray.items():
        (folder / f"stray_{name}.yaml").write_text(text)
    (folder / "unclosed.yaml").write_text("data: [1, 2")
    return folder


@pytest.fixture
def refused(workplace, monkeypatch, capsys):
    """Runs a command that must be refused with status 2, without a change to any file; what it says on stderr."""
    monkeypatch.chdir(workplace)

    def run(*args):
        before = files(workplace)
        with pytest.raises(SystemExit) as exit_:
            qmix(*args)
        assert exit_.value.code == 2
        assert files(workplace) == before
        said = capsys.readouterr().err.strip()
        assert said.startswith("qmix: ")
        assert len(said.splitlines()) <= 2
        return said

    return run


CHECKPOINT = "logs/battle-3m/version_0/checkpoints/last.ckpt"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--data.env", "battle/3n"], "Unknown environment 'battle/3n'. Did you mean 'battle/3m'"),
        (["--model.mixer", "QMixr"], "Unknown model.mixer 'QMixr'. Did you mean QMixer?"),
        (["--model.mixer", "MLPAgent"], "Unknown model.mixer 'MLPAgent'. Known are "),
        (["--model.agent", "GRU"], "Unknown model.agent 'GRU'. Known are GRUAgent, MLPAgent"),
        (
            ["--model.mixer.hypernet_layer", "2"],
            "Unknown argument 'hypernet_layer' of QMixer. Did you mean hypernet_layers?",
        ),
        (
            ["--model.mixer.hypernet_layers", "3"],
            "model.mixer.hypernet_layers: Expected Literal[1, 2] or null. Got value: 3",
        ),
        (["--model.gama", "0.9"], "Unknown argument --model.gama. Did you mean --model.gamma?"),
        (["--model.gamma", "high"], "model.gamma: Expected a float. Got value: high"),
        (["--model.gamma", "1.5"], "gamma must lie in [0, 1], got 1.5."),
        (
            ["--model.estimator", "td2"],
            "model.estimator: Expected a Literal['td0', 'td1', 'td_lambda']. Got value: td2",
        ),
        (["--model.learning_rate", "0"], "learning_rate must be positive, got 0.0."),
        (["--model.epsilon_start", "2"], "epsilon_start must lie in [0, 1], got 2.0."),
        (["--data.num_envs", "0"], "num_envs must be positive, got 0."),
        (["--data.num_envs", "two"], "data.num_envs: Expected int or null. Got value: two"),
        (["--data.batch_size", "0"], "Expected 1 <= batch_size <= capacity, got batch_size 0"),
        (["--trainer.max_step", "3"], "Unknown argument --trainer.max_step. Did you mean --trainer.max_steps?"),
        (
            ["--data.env_options", "{spawn_jiter: 0.1}"],
            "'battle/3m' has no option 'spawn_jiter'. Did you mean 'spawn_jitter'? It has ",
        ),
        (
            ["--trainer.max_steps=-1"],
            "model.final_learning_rate 1e-05 is reached at the last update, but trainer.max_steps is -1.",
        ),
        (
            ["--trainer.max_steps=-1", "--model.final_learning_rate=null", "--data.prioritised=true"],
            "importance exponent of data.prioritised reaches 1 at the last update, but trainer.max_steps is -1. Set",
        ),
        (
            ["--data.prioritised=true", "--data.priority_exponent=2"],
            "The priority exponent alpha must lie in [0, 1], got 2.0.",
        ),
        (
            ["--ckpt_path", CHECKPOINT, "--trainer.max_steps=2"],
            "has 2 updates already, trainer.max_steps is 2. Give more: --trainer.max_steps.",
        ),
        (
            ["--checkpoint.dirpath", str(Path(CHECKPOINT).parent)],
            f"{Path(CHECKPOINT).parent} holds another run (last.ckpt). Choose an empty folder, or move it away.",
        ),
        (
            ["--trainer.logger=EnvStepLogger", "--trainer.logger.name=battle-3m", "--trainer.logger.version=version_0"],
            "logs/battle-3m/version_0 holds another run (config.yaml).",
        ),
        (["--trainer.devices", "0"], "`Trainer(devices='0')` value is not a valid input"),
        (
            ["--checkpoint.monitor", "val/wins"],
            "checkpoint.monitor is 'val/wins', which battle/3m does not tell. Choose one of val/return,",
        ),
        (
            ["--data.env", "matrix/two_step"],
            "checkpoint.monitor is 'val/win_rate', which matrix/two_step does not tell. Choose one of val/return,"
            " val/episode_length.",
        ),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else "",
)
def test_an_argument_that_is_wrong_is_refused_in_a_line(refused, args, words):
    assert words in refused("fit", "--config", BATTLE, *args)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("stray_top", "Unknown key 'learning' in the configuration. qmix fit --help lists them."),
        ("stray_model", "Unknown key 'model.estimatr' in the configuration. Did you mean model.estimator?"),
        ("stray_data", "Unknown key 'data.num_env' in the configuration. Did you mean data.num_envs?"),
        ("stray_trainer", "Unknown key 'trainer.max_step' in the configuration. Did you mean trainer.max_steps?"),
        ("stray_checkpoint", "Unknown key 'checkpoint.moniter' in the configuration. Did you mean checkpoint.monitor?"),
        ("stray_agent", "Unknown argument 'last_actoin' of MLPAgent. Did you mean last_action? Known are hidden_size,"),
        ("unclosed", "Problems parsing config: while parsing a flow sequence"),
        ("missing", "There is no file missing.yaml. Recipes found here: recipes/game.yaml."),
    ],
)
def test_a_configuration_that_is_wrong_is_refused_in_a_line(refused, name, words):
    assert words in refused("fit", "--config", f"{name}.yaml")


@pytest.mark.parametrize("command", ["fit", "validate", "test"])
@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("missing.ckpt", "There is no checkpoint missing.ckpt. Found below logs: logs/"),
        ("half.ckpt", "half.ckpt is no checkpoint that can be read. Was it cut off while it was written?"),
        ("empty.ckpt", "empty.ckpt is no checkpoint that can be read."),
        ("text.ckpt", "text.ckpt is no checkpoint that can be read."),
        ("other.ckpt", "The checkpoint is of nothing that QLearner saved, but the task is battle/3m"),
        (
            "logs/matrix-two_step/version_0/checkpoints/last.ckpt",
            "The checkpoint is of matrix/two_step (2 agents, 2 actions, observation 3), but the task is battle/3m"
            " (3 agents, 9 actions, observation 30). Choose the checkpoint's own task with data.env",
        ),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_before_anything_is_written(refused, command, path, words):
    assert words in refused(command, "--config", BATTLE, "--ckpt_path", path)


def test_a_checkpoint_of_another_mixer_is_refused(refused):
    said = refused("test", "--config", BATTLE, "--ckpt_path", CHECKPOINT, "--model.mixer", "VDNMixer")
    assert "The checkpoint has other networks than the model: loss.mixer_network_params" in said


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "Expected a command. There are fit, validate, test, run, plot, watch, yardsticks, doctor, install-lightn"),
        (["plt"], "Unknown command 'plt'. Did you mean plot? There are fit, "),
        (["train"], "Unknown command 'train'. "),
        (["--config", BATTLE], 'expected "subcommand" to be one of {fit,validate,test}, but it was not provided.'),
        (["fit", "everything"], "unrecognized arguments: everything"),
    ],
)
def test_a_command_that_is_wrong_is_refused_in_a_line(refused, args, words):
    assert words in refused(*args)


def test_a_second_run_has_a_folder_of_its_own_and_repeats_the_first(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    qmix("fit", "--config", GAME, *SMALL)
    before, first = files(tmp_path), capsys.readouterr().out
    qmix("fit", "--config", GAME, *SMALL)
    after, second = files(tmp_path), capsys.readouterr().out
    assert {path: after[path] for path in before} == before
    new = {path.relative_to(tmp_path).parts[:3] for path in after.keys() - before.keys()}
    assert new == {("logs", "matrix-two_step", "version_1")}
    assert first == second.replace("version_1", "version_0")


def test_the_last_checkpoint_is_the_end_and_the_best_the_first_of_the_best(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Nobody wins or earns within five updates: the first evaluation stays the best. After the fifth there is none.
    qmix("fit", "--config", BATTLE, *SMALL, "--trainer.max_steps=5")
    folder = tmp_path / "logs/battle-3m/version_0/checkpoints"
    steps = {path.name: torch.load(path, weights_only=True)["global_step"] for path in folder.glob("*.ckpt")}
    assert steps == {"best-step=2.ckpt": 2, "last-step=2.ckpt": 2, "last-step=4.ckpt": 4, "last.ckpt": 5}


def test_a_run_that_breaks_off_leaves_its_last_evaluation(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    step = QLearner.training_step

    def until_the_fifth(self, batch, batch_idx):
        if batch_idx == 4:
            raise OSError("the machine went away")
        return step(self, batch, batch_idx)

    monkeypatch.setattr(QLearner, "training_step", until_the_fifth)
    with pytest.raises(OSError, match="the machine went away"):
        qmix("fit", "--config", BATTLE, *SMALL, "--trainer.max_steps=9")
    last = torch.load("logs/battle-3m/version_0/checkpoints/last-step=4.ckpt", weights_only=True)
    assert last["global_step"] == 4


def test_a_run_goes_on_from_a_checkpoint_in_a_new_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    qmix("fit", "--config", BATTLE, *SMALL)
    before = files(tmp_path)
    last = "logs/battle-3m/version_{}/checkpoints/last.ckpt"
    qmix("fit", "--config", BATTLE, *SMALL, "--ckpt_path", last.format(0), "--trainer.max_steps=4")
    assert {path: path.read_bytes() for path in before} == before
    first, second = (torch.load(last.format(version), weights_only=True) for version in (0, 1))
    assert (first["global_step"], second["global_step"]) == (2, 4)
    steps = [checkpoint["ReplayDataModule"]["replayed_steps"] for checkpoint in (first, second)]
    assert 0 < steps[0] < steps[1]
    assert "checkpoint:  logs/battle-3m/version_1/checkpoints/best-step=4.ckpt" in capsys.readouterr().out


@pytest.mark.parametrize(("command", "episodes"), [("validate", 3), ("test", 5)])
def test_a_checkpoint_is_evaluated_without_a_trace(workplace, monkeypatch, capsys, command, episodes):
    monkeypatch.chdir(workplace)
    before = files(workplace)
    numbers = ("--data.val_episodes=3", "--data.test_episodes=5")
    qmix(command, "--config", BATTLE, "--ckpt_path", CHECKPOINT, *numbers)
    said = capsys.readouterr().out
    number = r"-?\d+\.\d\d"
    figures = [
        r"win rate \d+\.\d% \(95% interval \d+\.\d% to \d+\.\d%\)",
        rf"return {number} \(95% interval {number} to {number}\)",
        r"episode length .*",
        r"dead allies .*",
        r"dead enemies .*\n",
    ]
    assert re.fullmatch(rf"{episodes} greedy battles on battle/3m: {', '.join(figures)}", said)
    assert files(workplace) == before


def test_a_runs_own_config_makes_the_model_of_its_checkpoints(workplace, monkeypatch, capsys):
    monkeypatch.chdir(workplace)
    run = "logs/matrix-two_step/version_0"
    qmix("test", "--config", f"{run}/config.yaml", "--ckpt_path", f"{run}/checkpoints/last.ckpt")
    assert "2 greedy battles on matrix/two_step: return" in capsys.readouterr().out


def test_an_evaluation_without_a_checkpoint_says_so(workplace, monkeypatch, capsys):
    monkeypatch.chdir(workplace)
    qmix("test", "--config", GAME, "--data.test_episodes=2")
    said = capsys.readouterr().out
    assert "2 greedy battles on matrix/two_step by an untrained team, for want of --ckpt_path: return" in said


def test_matrices_are_multiplied_as_exactly_as_was_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = torch.get_float32_matmul_precision()
    try:
        for chosen, options in (("high", ["--float32_matmul_precision", "high"]), ("highest", [])):
            qmix("fit", "--config", GAME, *SMALL, *options)
            assert torch.get_float32_matmul_precision() == chosen
    finally:
        torch.set_float32_matmul_precision(before)


def test_a_mixer_is_swapped_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    qmix("fit", "--config", BATTLE, *SMALL, "--model.mixer", "VDNMixer", "--model.agent", "MLPAgent")
    weights = torch.load("logs/battle-3m/version_0/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert not [name for name in weights if "hyper_w_1" in name or "gru" in name]


@pytest.mark.parametrize(
    ("options", "etas"),
    [
        ([], []),
        (["--data.prioritised=true"], [0.9]),
        (["--data.prioritised=true", "--trainer.callbacks=ReplayPriorities", "--trainer.callbacks.eta=0.5"], [0.5]),
    ],
    ids=["uniform", "prioritised", "its own"],
)
def test_prioritised_replay_gets_its_callback_by_itself_once(tmp_path, monkeypatch, options, etas):
    monkeypatch.chdir(tmp_path)
    seen, setup = [], ReplayPriorities.setup

    def noted(self, trainer, pl_module, stage):
        if stage == "fit":
            seen.append(self.eta)
        setup(self, trainer, pl_module, stage)

    monkeypatch.setattr(ReplayPriorities, "setup", noted)
    qmix("fit", "--config", BATTLE, *SMALL, *options)
    assert seen == etas


def test_a_prioritised_run_goes_on_and_is_evaluated_by_its_own_config(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    qmix("fit", "--config", BATTLE, *SMALL, "--data.prioritised=true")
    config, last = (f"logs/battle-3m/version_0/{name}" for name in ("config.yaml", "checkpoints/last.ckpt"))
    qmix("fit", "--config", config, "--ckpt_path", last, "--trainer.max_steps=4")
    assert torch.load("logs/battle-3m/version_1/checkpoints/last.ckpt", weights_only=True)["global_step"] == 4
    capsys.readouterr()
    qmix("test", "--config", config, "--ckpt_path", last)
    assert "2 greedy battles on battle/3m: win rate" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options",
    [
        ["--trainer.enable_progress_bar=false"],
        ["--trainer.val_check_interval=100"],
        ["--trainer.log_every_n_steps=0"],
        ["--model.optimizer=rmsprop", "--model.target_update=hard", "--model.final_learning_rate=1e-5"],
        ["--trainer.accumulate_grad_batches=2", "--trainer.precision=bf16-mixed"],
    ],
    ids=lambda options: options[0],
)
def test_a_run_ends_with_a_test_and_a_checkpoint_whatever_the_options(tmp_path, monkeypatch, capsys, options):
    monkeypatch.chdir(tmp_path)
    qmix("fit", "--config", BATTLE, *SMALL, *options)
    said = capsys.readouterr().out
    assert "2 greedy battles on battle/3m: win rate" in said
    path = Path(re.search(r"^checkpoint:  (\S+)$", said, re.MULTILINE)[1])
    assert path.exists()
    assert torch.load(path.with_name("last.ckpt"), weights_only=True)["global_step"] == 2


def test_a_dry_run_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    qmix("fit", "--config", BATTLE, *SMALL, "--trainer.fast_dev_run=true")
    assert not files(tmp_path)


def test_help_explains_every_argument_of_ours_in_the_words_of_its_docstring(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as exit_:
        qmix("fit", "--help")
    assert exit_.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    for name, cls in (("model", QLearner), ("data", ReplayDataModule)):
        documented = dict(re.findall(r"^        (\w+): (.+(?:\n            .+)*)", cls.__doc__, re.MULTILINE))
        for argument in cls.__init__.__annotations__.keys() - {"return", "spec"}:
            words = " ".join(documented[argument].split())
            assert re.search(rf"--{name}\.{argument} \S+ {re.escape(words)} \(type: ", said), (name, argument)


def test_the_package_is_a_command():
    command = [sys.executable, "-m", "qmix_lightning", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    commands = ["fit", "validate", "test", "run", "plot", "watch", "yardsticks", "doctor", "install-lightning-command"]
    assert commands[:3] == list(QMixCLI.subcommands())
    named = re.findall(r"^  ([\w-]+)  ", done.stdout, re.MULTILINE)
    assert named == commands
    assert max(map(len, done.stdout.splitlines())) <= 80
