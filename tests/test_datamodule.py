import os
import shutil

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint

from qmix_lightning.callbacks.priorities import ReplayPriorities
from qmix_lightning.datamodule import ReplayDataModule
from qmix_lightning.module import QLearner
from qmix_lightning.spec import ACTION, EPISODE, MASK, OBSERVATION, PRIORITY_WEIGHT
from tests.training import LIGHTNINGS_OWN_WARNING, Mute, quiet_trainer, small_data, small_learner

pytestmark = pytest.mark.filterwarnings(LIGHTNINGS_OWN_WARNING)


def trained(updates, env="matrix/two_step", **options):
    data = small_data(env, **options)
    quiet_trainer(updates).fit(small_learner(data), data)
    return data


@pytest.mark.parametrize("num_envs", [1, 8, 64])
@pytest.mark.parametrize("replay_ratio", [1.0, 8.0])
def test_the_replay_ratio_holds_whatever_the_number_of_battles(num_envs, replay_ratio):
    data = trained(50, num_envs=num_envs, replay_ratio=replay_ratio, batch_size=16)
    assert data.replayed_steps == 50 * 16 * 2, "every batch has 16 episodes of 2 steps, and none was fetched ahead"
    # Never more than a batch ahead of the collection, nor the collection more than a step of all battles ahead.
    assert data.replayed_steps <= replay_ratio * data.env_steps + 16 * 2
    assert data.replayed_steps > replay_ratio * (data.env_steps - 2 * num_envs)


def test_collecting_goes_on_while_training():
    early, late = trained(5, "battle/3m", batch_size=2), trained(25, "battle/3m", batch_size=2)
    assert late.env_steps > early.env_steps
    assert late.rollout.episodes >= len(late.buffer) >= 2


def test_evaluations_are_fresh_battles_with_a_seed_for_each_stage_and_update():
    data = small_data("battle/3m")
    learner = small_learner(data)
    quiet_trainer(1).fit(learner, data)
    first, again, tested = data.play("val", 3), data.play("val", 3), data.play("test", 3)
    steps = data.env_steps
    assert torch.equal(first[OBSERVATION], again[OBSERVATION])
    assert not torch.equal(first[OBSERVATION][:, 0], tested[OBSERVATION][:, 0])
    assert data.env_steps == steps, "an evaluation collects nothing"
    quiet_trainer(2).fit(learner, data)
    later = data.play("val", 3)
    assert not torch.equal(first[OBSERVATION][:, 0], later[OBSERVATION][:, 0])


@pytest.mark.parametrize("episodes", [1, 5, 130])
def test_an_evaluation_plays_as_many_battles_as_asked_for(episodes):
    data = small_data(val_episodes=episodes)
    learner = small_learner(data)
    quiet_trainer(1, limit_val_batches=1).validate(learner, data, verbose=False)
    assert len(data.play("val", episodes)) == episodes
    assert float(learner.metrics["return"].episodes) in (0, episodes)
    (batch,) = data.val_dataloader()
    assert batch[MASK].sum() == 2 * episodes


def test_replay_is_uniform_unless_it_is_asked_to_be_prioritised():
    assert not {EPISODE, PRIORITY_WEIGHT} & set(trained(2).buffer.sample().keys())
    data = small_data(prioritised=True, priority_exponent=0.3, importance_exponent=0.7)
    assert (data.buffer.sampler.alpha, data.buffer.sampler.beta) == (0.3, 0.7)
    quiet_trainer(2, callbacks=[ReplayPriorities()]).fit(small_learner(data), data)
    assert {EPISODE, PRIORITY_WEIGHT} <= set(data.buffer.sample().keys())


def test_prioritised_replay_plays_the_battles_of_uniform_replay():
    uniform, data = trained(1, "battle/3m"), small_data("battle/3m", prioritised=True)
    quiet_trainer(1, callbacks=[ReplayPriorities()]).fit(small_learner(data), data)
    place = torch.arange(len(data.buffer))
    assert data.env_steps == uniform.env_steps
    assert (data.buffer.storage.read(place) == uniform.buffer.storage.read(place)).all()


def test_the_seed_is_that_of_seed_everything_unless_given(monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    assert ReplayDataModule("matrix/two_step").seed == 7
    assert ReplayDataModule("matrix/two_step", seed=3).seed == 3
    monkeypatch.delenv("PL_GLOBAL_SEED")
    assert "PL_GLOBAL_SEED" not in os.environ
    assert ReplayDataModule("matrix/two_step").seed == 0


def test_options_reach_the_environment():
    data = ReplayDataModule("matrix/nonmonotonic", {"payoff": [[1.0, 2.0], [3.0, 4.0]]})
    assert data.spec.n_actions == 2


def taken_up(state, data):
    data.trainer = quiet_trainer(1)
    data.trainer.state.fn = "fit"
    data.load_state_dict(state)
    return data


@pytest.mark.parametrize("options", [{}, {"compact": False}, {"prioritised": True}, {"overlap": True}])
def test_what_a_checkpoint_keeps_is_read_without_running_code_and_goes_on(tmp_path, options):
    options = {**options, "replay_ratio": 1.0, "capacity": 30}
    data, callbacks = small_data("battle/3m", **options), [ReplayPriorities()] if "prioritised" in options else []
    learner = small_learner(data, epsilon_start=0.1)
    quiet_trainer(20, callbacks=callbacks).fit(learner, data)
    torch.save(data.state_dict(), tmp_path / "data.pt")
    again = taken_up(torch.load(tmp_path / "data.pt", weights_only=True), small_data("battle/3m", **options))
    again.trainer.strategy.connect(learner)

    assert (again.env_steps, again.replayed_steps) == (data.env_steps, data.replayed_steps)
    assert again.rollout.episodes == data.rollout.episodes > 30, "the replay is full"
    for _ in range(10):
        assert (data.next_batch() == again.next_batch()).all()
    data.close()
    again.close()


def test_without_its_replay_a_run_goes_on_with_new_battles():
    data = trained(3, "battle/3m", replay_checkpoint="none")
    first = small_data("battle/3m").rollout.env.reset()[OBSERVATION].clone()
    with pytest.warns(UserWarning, match="not exactly: the checkpoint was written without its replay, which is collec"):
        again = taken_up(data.state_dict(), small_data("battle/3m"))
    assert (again.env_steps, again.replayed_steps) == (data.env_steps, data.replayed_steps)
    assert len(again.buffer) == 0
    assert not torch.equal(again.rollout.env.reset()[OBSERVATION], first)


@pytest.mark.parametrize("before", [False, True])
def test_whole_episodes_do_not_go_on_as_compact_ones_nor_the_other_way_round(before):
    saved = trained(3, "battle/3m", compact=before).state_dict()
    words = rf"Expected episodes that are kept \w+, got .* kept \w+\. Go on with data\.compact={str(before).lower()},"
    with pytest.raises(ValueError, match=words):
        taken_up(saved, small_data("battle/3m", compact=not before))
    without = trained(3, "battle/3m", compact=before, replay_checkpoint="none").state_dict()
    with pytest.warns(UserWarning, match="without its replay"):
        again = taken_up(without, small_data("battle/3m", compact=not before))
    again.trainer.strategy.connect(small_learner(again))
    for _ in range(5):
        assert OBSERVATION in again.next_batch()


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
def test_a_checkpoint_copied_beside_those_of_another_run_finds_its_own_files_where_they_were_written(tmp_path):
    for name, seed in (("ours", 1), ("theirs", 2)):
        data, saver = small_data(seed=seed), ModelCheckpoint(tmp_path / name, "last", every_n_train_steps=4)
        quiet_trainer(4, callbacks=[saver], enable_checkpointing=True).fit(small_learner(data), data)
    copy = shutil.copy(tmp_path / "ours/last.ckpt", tmp_path / "theirs/copy.ckpt")
    learners = []
    for path in (tmp_path / "ours/last.ckpt", copy):
        data = small_data(seed=1)
        learners.append(small_learner(data))
        quiet_trainer(6).fit(learners[-1], data, ckpt_path=path)
    for usual, copied in zip(*(learner.parameters() for learner in learners), strict=True):
        assert torch.equal(usual, copied)


def test_battles_side_by_side_in_another_number_begin_anew():
    data = trained(3, "battle/3m")
    with pytest.warns(UserWarning, match="not exactly: battles under way could not be taken up and begin anew"):
        again = taken_up(data.state_dict(), small_data("battle/3m", num_envs=8))
    assert again.env_steps == data.env_steps
    assert len(again.buffer) == len(data.buffer)


@pytest.mark.parametrize(
    "other", [{"compact": False}, {"replay_precision": "float16", "compact": False}, {"replay_folder": "."}]
)
def test_how_the_replay_is_kept_does_not_change_what_is_replayed(other, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    usual, data = trained(3, "battle/3m"), trained(3, "battle/3m", **other)
    assert data.env_steps == usual.env_steps
    ours, theirs = usual.buffer.sample(), data.buffer.sample()
    for key in theirs.keys(True, True):
        close = {"rtol": 1e-3, "atol": 1e-3} if "replay_precision" in other else {"rtol": 0, "atol": 0}
        torch.testing.assert_close(theirs[key], ours[key], **close)


def test_battles_one_ahead_are_played_by_the_policy_from_before_the_update():
    class Watcher(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            self.before = [parameter.clone() for parameter in pl_module.agent.parameters()]

    watcher, data = Watcher(), small_data("battle/3m", replay_ratio=1.0, overlap=True)
    learner = small_learner(data, learning_rate=0.1)
    quiet_trainer(20, callbacks=[watcher]).fit(learner, data)
    assert data.replayed_steps > data.env_steps - 2 * 4, "the replay ratio holds as in turn"
    data.ahead.wait()
    assert data.rollout.env_steps > data.env_steps, "more was played than anybody has seen"
    for playing, before, now in zip(
        learner._snapshot.agent.parameters(), watcher.before, learner.agent.parameters(), strict=True
    ):
        assert torch.equal(playing, before)
        assert not torch.equal(playing, now)
    data.close()


class Unfreezable(QLearner):
    snapshot = None


def test_overlap_needs_a_policy_that_can_be_copied():
    data = small_data(overlap=True)
    with pytest.raises(TypeError, match=r"expected a module with a snapshot\(\) of its policy, got Unfreezable"):
        quiet_trainer(1).fit(Unfreezable(data.spec), data)


def test_training_explores():
    data = trained(1, batch_size=64)
    chosen = data.buffer.sample()[ACTION][:, :2].flatten()
    assert 0.3 < chosen.float().mean() < 0.7


@pytest.mark.parametrize("name", ["num_envs", "replay_ratio", "val_episodes", "test_episodes"])
def test_numbers_that_must_be_positive_are_refused_by_name(name):
    with pytest.raises(ValueError, match=f"^{name} must be positive, got 0"):
        ReplayDataModule("matrix/two_step", **{name: 0})


def test_a_batch_larger_than_the_replay_is_refused():
    with pytest.raises(ValueError, match="Expected 1 <= batch_size <= capacity, got batch_size 9, capacity 8"):
        ReplayDataModule("matrix/two_step", batch_size=9, capacity=8)


def test_exponents_of_prioritised_replay_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"priority exponent alpha must lie in \[0, 1\], got 2"):
        ReplayDataModule("matrix/two_step", prioritised=True, priority_exponent=2)
    with pytest.raises(ValueError, match=r"importance exponent beta must lie in \[0, 1\], got -1"):
        ReplayDataModule("matrix/two_step", prioritised=True, importance_exponent=-1)


def test_an_unknown_environment_is_refused():
    with pytest.raises(ValueError, match=r"Unknown environment 'battle/3n'. Did you mean 'battle/3m'"):
        ReplayDataModule("battle/3n")


@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")
def test_loaders_without_their_data_are_refused():
    data = small_data()
    with pytest.raises(RuntimeError, match="Give it the data itself, and not its loaders: trainer"):
        quiet_trainer(1, limit_val_batches=1).fit(small_learner(data), data.train_dataloader())


def test_a_module_that_cannot_play_is_refused():
    words = r"module to be a Policy, with initial_memory and act, got Mute\. QLearner is one"
    with pytest.raises(TypeError, match=words):
        quiet_trainer(1).fit(Mute(), small_data())


@pytest.mark.parametrize("option", ["priority_exponent", "importance_exponent"])
def test_an_exponent_of_prioritised_replay_without_it_is_refused(option):
    with pytest.raises(ValueError, match=rf"{option} 0.9 .*prioritised is False, and they would do nothing"):
        ReplayDataModule("matrix/two_step", **{option: 0.9})
