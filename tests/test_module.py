import warnings
from functools import partial

import pytest
import torch
from lightning.pytorch import Callback, LightningModule
from torch.nn.utils import clip_grad_norm_

from qmix_lightning.agents.mlp import MLPAgent
from qmix_lightning.logger import EnvStepLogger
from qmix_lightning.mixers.vdn import VDNMixer
from qmix_lightning.module import QLearner
from qmix_lightning.spec import ACTION, ACTION_MASK, ACTION_VALUE, MASK, TD_ERROR, TaskSpec
from tests.training import LIGHTNINGS_OWN_WARNING, quiet_trainer, small_agent, small_data, small_learner, small_mixer

pytestmark = pytest.mark.filterwarnings(LIGHTNINGS_OWN_WARNING)

OPTIONS = {"target_update": "hard", "target_interval": 5, "learning_rate": 0.01}
SPEC = TaskSpec("fake", n_agents=2, n_actions=3, observation_size=4, state_size=5, episode_limit=6)


def online(learner):
    return flat(learner.loss.local_value_network_params, learner.loss.mixer_network_params)


def targets(learner):
    return flat(learner.loss.target_local_value_network_params, learner.loss.target_mixer_network_params)


def flat(*trees):
    leaves = [sorted((str(key), leaf.detach().clone()) for key, leaf in tree.items(True, True)) for tree in trees]
    return torch.cat([leaf.flatten() for tree in leaves for _, leaf in tree])


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


class Watch(Callback):
    """Keeps what went into each update and what came out of it."""

    def __init__(self):
        self.batches, self.online, self.targets, self.rates, self.logged = [], [], [], [], []

    def on_train_start(self, trainer, pl_module):
        self.online.append(online(pl_module))
        self.targets.append(targets(pl_module))

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.batches.append(batch.clone())
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.online.append(online(pl_module))
        self.targets.append(targets(pl_module))
        self.logged.append(dict(trainer.callback_metrics))


def train(updates, data=None, *, env="matrix/two_step", trainer=None, **options):
    """Train for some updates, and return who took part."""
    data = small_data(env) if data is None else data
    learner, watch = small_learner(data, **options), Watch()
    quiet_trainer(updates, callbacks=[watch], **(trainer or {})).fit(learner, data)
    return learner, data, watch


def test_the_same_seed_gives_the_same_run_bit_for_bit():
    first, data, _ = train(6, env="battle/3m")
    second, again, _ = train(6, env="battle/3m")
    assert equal(first.state_dict(), second.state_dict())
    assert data.env_steps == again.env_steps
    other, _, _ = train(6, small_data("battle/3m", seed=2))
    assert not equal(first.state_dict(), other.state_dict())


def test_training_with_validation_is_the_training_without_bit_for_bit():
    validating = {"limit_val_batches": 1, "val_check_interval": 1}
    without, data, _ = train(6, env="battle/3m")
    with_, validated, _ = train(6, env="battle/3m", trainer=validating)
    assert "win_rate" in with_.evaluation
    assert equal(without.state_dict(), with_.state_dict())
    assert data.env_steps == validated.env_steps


@pytest.mark.parametrize("name", ["adam", "rmsprop"])
@pytest.mark.parametrize("mixer", [small_mixer, VDNMixer])
def test_lightning_trains_as_a_bare_loop_does(name, mixer):
    options = {"optimizer": name, "mixer": mixer, "target_update": "hard", "target_interval": 2, "learning_rate": 0.01}
    learner, data, watch = train(5, trainer={"gradient_clip_val": 0.01}, **options)
    bare = small_learner(data, **options)
    parameters = list(bare.loss.parameters())
    optimizer = (
        torch.optim.Adam(parameters, lr=0.01)
        if name == "adam"
        else torch.optim.RMSprop(parameters, lr=0.01, alpha=0.99, eps=1e-5)
    )
    for batch, logged in zip(watch.batches, watch.logged, strict=True):
        out = bare.loss(batch)
        optimizer.zero_grad()
        out["loss"].backward()
        norm = clip_grad_norm_(parameters, 0.01)
        optimizer.step()
        bare.target_update.step()
        assert norm > 0.01, "the logged norm should be the one before clipping"
        torch.testing.assert_close(logged["train/grad_norm"], norm)
        error = batch[TD_ERROR][batch[MASK]].sqrt().mean()
        expected = {"loss": out["loss"].detach(), "td_error": error, "value": out["value"], "target": out["target"]}
        for key, number in expected.items():
            torch.testing.assert_close(logged[f"train/{key}"], number)
    torch.testing.assert_close(online(learner), online(bare))
    torch.testing.assert_close(targets(learner), targets(bare))


class Norms(Callback):
    """Keeps the norm of every gradient before it is clipped."""

    def __init__(self):
        self.before = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.before.append(torch.nn.utils.get_total_norm([p.grad for p in pl_module.loss.parameters()]))


CLIPS = [(0.01, None), (0.01, "norm"), (0.01, "value"), (None, None), (0, "norm")]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "64-true"])
@pytest.mark.parametrize(("value", "algorithm"), CLIPS)
def test_gradients_are_clipped_as_lightning_does_and_their_norm_before_is_logged(precision, value, algorithm):
    class Lightnings(QLearner):
        configure_gradient_clipping = LightningModule.configure_gradient_clipping

    clip = {"gradient_clip_val": value, "gradient_clip_algorithm": algorithm, "precision": precision}
    torch.manual_seed(1)
    data, norms = small_data(), Norms()
    theirs = Lightnings(data.spec, agent=small_agent, mixer=small_mixer)
    quiet_trainer(4, callbacks=[norms], **clip).fit(theirs, data)
    ours, _, watch = train(4, trainer=clip)
    assert equal(ours.state_dict(), theirs.state_dict())
    logged = torch.stack([each["train/grad_norm"] for each in watch.logged])
    torch.testing.assert_close(logged, torch.stack(norms.before), check_dtype=False)


def test_what_a_step_found_is_logged_once_for_all_of_its_parts():
    _, _, watch = train(3, trainer={"accumulate_grad_batches": 2, "log_every_n_steps": 2})
    found = [each.get("train/loss") for each in watch.logged]
    assert [number is None for number in found] == [True, True, True, False, False, False]
    assert found[3] == found[4] == found[5]


@pytest.mark.parametrize("agent", [small_agent, partial(MLPAgent, hidden_size=8)])
@pytest.mark.parametrize("network", ["online", "target"])
def test_greedy_battles_take_the_best_legal_actions_of_the_network_in_the_loss(network, agent):
    data = small_data("battle/3m")
    learner = small_learner(data, agent=agent, greedy_network=network, learning_rate=0.1)
    quiet_trainer(2).fit(learner, data)
    battles, loss = data.play("val", 4), learner.loss
    params = loss.local_value_network_params if network == "online" else loss.target_local_value_network_params
    with torch.no_grad(), params.to_module(loss.local_value_network):
        value = loss.local_value_network(battles.clone())[ACTION_VALUE]
    best = value.masked_fill(~battles[ACTION_MASK], -torch.inf).argmax(-1)
    played = battles[MASK].expand_as(best)
    assert torch.equal(battles[ACTION][played], best[played])


@pytest.mark.parametrize("batches_an_update", [1, 2])
def test_hard_targets_are_copied_every_interval_of_updates_not_batches(batches_an_update):
    accumulate = {"accumulate_grad_batches": batches_an_update}
    _, _, watch = train(7, trainer=accumulate, target_update="hard", target_interval=3, learning_rate=0.01)
    after = slice(None, None, batches_an_update)
    for update, target in enumerate(watch.targets[after]):
        assert torch.equal(target, watch.online[after][update - update % 3])


def test_soft_targets_follow_at_every_update():
    _, _, watch = train(4, target_update="soft", target_rate=0.25, learning_rate=0.01)
    for update in range(1, 5):
        expected = 0.75 * watch.targets[update - 1] + 0.25 * watch.online[update]
        torch.testing.assert_close(watch.targets[update], expected)


def test_the_learning_rate_decays_in_a_straight_line_to_the_last_update():
    learner, _, watch = train(4, learning_rate=0.01, final_learning_rate=0.002)
    assert watch.rates == pytest.approx([0.01, 0.008, 0.006, 0.004])
    assert learner.trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.002)
    _, _, watch = train(4, learning_rate=0.01)
    assert watch.rates == [0.01] * 4


def test_a_resumed_run_of_more_updates_decays_to_its_own_last_update(tmp_path):
    options = {"learning_rate": 0.01, "final_learning_rate": 0.002}
    learner, _, _ = train(4, **options)
    learner.trainer.save_checkpoint(tmp_path / "four.ckpt")
    again, watch = small_data(), Watch()
    trainer = quiet_trainer(8, callbacks=[watch])
    trainer.fit(small_learner(again, **options), again, ckpt_path=tmp_path / "four.ckpt")
    assert watch.rates[-3:] == pytest.approx([0.005, 0.004, 0.003])
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.002)


def test_epsilon_falls_in_a_straight_line_over_environment_steps():
    learner = QLearner(SPEC, epsilon_start=0.9, epsilon_end=0.1, epsilon_steps=100)
    assert [learner.epsilon(steps) for steps in (0, 50, 100, 1000)] == pytest.approx([0.9, 0.5, 0.1, 0.1])


def test_told_the_environment_steps_it_explores_and_else_it_is_greedy():
    learner, battles = QLearner(SPEC, small_agent, small_mixer, epsilon_end=0.0, epsilon_steps=10), 300
    torch.manual_seed(0)
    seen = torch.randn(1, 2, 4).expand(battles, -1, -1), torch.ones(battles, 2, 3, dtype=torch.bool)
    situation = (*seen, torch.full((battles, 2), -1), learner.initial_memory(battles))
    greedy, explored, annealed = (learner.act(*situation, env_steps=steps)[0] for steps in (None, 0, 10))
    assert torch.equal(greedy, annealed)
    assert (greedy == greedy[0]).all()
    assert (explored[:, 0].bincount(minlength=3) > battles / 6).all()


def test_a_battle_has_a_win_rate_and_a_matrix_game_has_none():
    validating = {"limit_val_batches": 1, "val_check_interval": 1}
    battle, _, _ = train(1, env="battle/3m", trainer=validating)
    game, _, _ = train(1, trainer=validating)
    assert battle.evaluation.keys() == {"return", "episode_length", "win_rate", "dead_allies", "dead_enemies"}
    assert game.evaluation.keys() == {"return", "episode_length"}
    assert not [key for key in game.trainer.callback_metrics if "win_rate" in key]
    for mean, low, high in battle.evaluation.values():
        assert low <= mean <= high
    assert battle.trainer.callback_metrics["val/return"] == pytest.approx(battle.evaluation["return"][0])


def test_the_figures_are_counted_from_the_battles():
    learner, data, _ = train(1, env="battle/3m")
    quiet_trainer(1, limit_val_batches=1).validate(learner, data, verbose=False)
    battles = data.play("val", 4)
    mask = battles[MASK]
    expected = {
        "return": battles["next", "reward"][mask].sum() / 4,
        "episode_length": mask.sum() / 4,
        "win_rate": (battles["next", "info", "battle_won"] & mask).sum() / 4,
        # Nobody comes back to life, and what the step that only bootstraps says is not counted.
        "dead_allies": (battles["next", "info", "dead_allies"] * mask).amax((1, 2)).mean(),
    }
    for name, figure in expected.items():
        assert learner.evaluation[name][0] == pytest.approx(float(figure)), name


def test_scalars_are_logged_at_logging_steps_only():
    _, _, watch = train(5, trainer={"log_every_n_steps": 3})
    assert [bool(logged) for logged in watch.logged] == [False, False, True, True, True]
    assert watch.logged[2] == watch.logged[4]
    _, _, watch = train(3, trainer={"log_every_n_steps": 0})
    assert not watch.logged[-1]


def test_fit_warns_of_nothing_but_what_lightning_itself_does(tmp_path):
    data = small_data()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        saving = {"enable_checkpointing": True, "logger": EnvStepLogger(save_dir=str(tmp_path))}
        trainer = quiet_trainer(4, **saving, limit_val_batches=1, val_check_interval=2, num_sanity_val_steps=1)
        trainer.fit(small_learner(data), data)
    assert list(tmp_path.rglob("*.ckpt"))
    assert {str(warning.message) for warning in seen if "treespec, LeafSpec" not in str(warning.message)} == set()


def test_fit_goes_on_after_a_validation():
    data = small_data()
    learner = small_learner(data)
    # Lightning validates in inference mode, whose tensors nobody may write to afterwards.
    for _ in range(2):
        trainer = quiet_trainer(2, limit_val_batches=1, val_check_interval=1, num_sanity_val_steps=1)
        trainer.fit(learner, data)
        trainer.validate(learner, data, verbose=False)
    assert learner.evaluation["episode_length"][0] == 2


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run of seven updates with a copy of the target after the fifth, and its checkpoint."""
    path = tmp_path_factory.mktemp("run") / "seven.ckpt"
    learner, data, _ = train(7, env="battle/3m", **OPTIONS)
    learner.trainer.save_checkpoint(path)
    return path, learner, data


def test_a_checkpoint_is_read_without_running_code_and_holds_primitives(saved):
    checkpoint = torch.load(saved[0], weights_only=True)
    primitive = (bool, int, float, str, type(None))
    options = checkpoint["hyper_parameters"]
    assert isinstance(options.pop("spec"), dict)
    assert all(isinstance(value, primitive) for value in options.values())
    assert checkpoint["task"]["name"] == "battle/3m"


def test_a_resumed_run_begins_where_the_other_ended(saved):
    path, learner, data = saved
    assert not torch.equal(online(learner), targets(learner))

    class Begin(Callback):
        def on_train_start(self, trainer, pl_module):
            assert equal(pl_module.state_dict(), learner.state_dict())
            ours, theirs = (t.optimizers[0].state_dict()["state"] for t in (trainer, learner.trainer))
            assert all(equal(ours[key], theirs[key]) for key in theirs)
            assert pl_module.target_update.counter == 7
            assert (trainer.global_step, again.env_steps) == (7, data.env_steps)
            assert again.replayed_steps == data.replayed_steps

    again, watch = small_data("battle/3m"), Watch()
    torch.manual_seed(2)
    resumed = QLearner(again.spec, small_agent, small_mixer, **OPTIONS)
    trainer = quiet_trainer(11, callbacks=[Begin(), watch])
    trainer.fit(resumed, again, ckpt_path=path)
    assert trainer.global_step == resumed.target_update.counter == 11
    assert again.replayed_steps > data.replayed_steps
    # The counter went on from 7: the next copy comes after three more updates.
    copied = [torch.equal(one, other) for one, other in zip(watch.targets, watch.online, strict=True)]
    assert copied == [False, False, False, True, False]


def test_evaluating_a_checkpoint_leaves_the_counters_of_the_data_alone(saved):
    fresh = small_data("battle/3m")
    quiet_trainer(1, limit_val_batches=1).validate(
        small_learner(fresh, **OPTIONS), fresh, ckpt_path=saved[0], verbose=False
    )
    assert fresh.env_steps == fresh.replayed_steps == 0


def test_a_checkpoint_makes_the_learner_again_given_what_is_not_the_default(saved):
    path, learner, _ = saved
    again = QLearner.load_from_checkpoint(path, agent=small_agent, mixer=small_mixer)
    assert equal(again.state_dict(), learner.state_dict())
    assert again.spec == learner.spec
    assert again.hparams["target_interval"] == 5


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, r"V\.0\.bias is \[4\] there and \[32\] here"),
        ({"mixer": VDNMixer}, r"V\.0\.bias is \[4\] there and missing here"),
        ({"mixer": partial(small_mixer, hypernet_layers=1)}, r"hyper_w_1\.0\.bias is \[64\] there and missing here"),
        (
            {"mixer": small_mixer, "agent": partial(small_agent, hidden_size=9)},
            r"bias_hh_l0 is \[24\] there and \[27\]",
        ),
        ({"mixer": small_mixer, "target_update": "soft"}, "target_update._extra_state is .* there and missing here"),
    ],
)
def test_a_checkpoint_of_other_networks_is_refused(saved, given, words):
    words = f"^The checkpoint has other networks than the model: .*{words}.* Give the agent, mixer and"
    with pytest.raises(ValueError, match=words):
        QLearner.load_from_checkpoint(saved[0], **{"agent": small_agent, **given})


def test_discounts_are_the_learners_own_not_the_checkpoints(saved):
    parts = {"agent": small_agent, "mixer": small_mixer}
    learner = QLearner.load_from_checkpoint(saved[0], **parts, gamma=0.5, lmbda=0.25)
    assert (float(learner.loss.value_estimator.gamma), float(learner.loss.value_estimator.lmbda)) == (0.5, 0.25)
    assert QLearner.load_from_checkpoint(saved[0], **parts, estimator="td0").loss.value_type.name == "TD0"


def test_a_checkpoint_of_another_task_is_refused(saved):
    words = (
        r"^The checkpoint is of battle/3m \(3 agents, 9 actions, observation 30\), but the task is matrix/two_step"
        r" \(2 agents, 2 actions, observation 3\)\. Choose the checkpoint's own task with data\.env"
    )
    data = small_data()
    with pytest.raises(ValueError, match=words):
        quiet_trainer(9).fit(small_learner(data), data, ckpt_path=saved[0])
    with pytest.raises(ValueError, match="The checkpoint is of nothing that QLearner saved"):
        small_learner(data).on_load_checkpoint({"state_dict": {}})


def test_a_decay_needs_a_last_update():
    words = "final_learning_rate is reached at the trainer's last update, but max_steps is -1. Set max_steps"
    with pytest.raises(ValueError, match=words):
        train(-1, trainer={"max_epochs": 1}, final_learning_rate=0.0)


def test_networks_train_in_training_mode_after_an_evaluation():
    modes = []

    class Watch(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            parts = (pl_module, pl_module.loss, pl_module.agent, pl_module.mixer, pl_module.target_agent)
            modes.append([part.training for part in parts])

        def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx):
            assert not pl_module.agent.training

    data = small_data()
    trainer = quiet_trainer(4, callbacks=[Watch()], limit_val_batches=1, val_check_interval=2, num_sanity_val_steps=1)
    trainer.fit(small_learner(data), data)
    assert modes == [[True, True, True, True, False]] * 4
