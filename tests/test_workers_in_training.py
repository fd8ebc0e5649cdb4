"""The data module and its callbacks when games have processes of their own."""

import pytest
import torch

from qmix_lightning.callbacks.hyperparameters import HyperParameters
from qmix_lightning.callbacks.monitor import TrainingMonitor
from qmix_lightning.logger import EnvStepLogger
from qmix_lightning.rollout.batched import BatchedRollout
from qmix_lightning.rollout.registry import Task, make_rollout
from qmix_lightning.rollout.workers import WorkerRollout
from qmix_lightning.spec import MASK, STATE
from tests.callbacks.boards import points
from tests.training import LIGHTNINGS_OWN_WARNING, quiet_trainer, small_data, small_learner

pytestmark = pytest.mark.filterwarnings(LIGHTNINGS_OWN_WARNING)

GAME = "tests.games:CountingGame"
SOON = {"stagger": 0.0, "pause": 0.0, "step_deadline": 10.0, "close_deadline": 2.0}


@pytest.fixture
def module():
    made = []

    def make(**options):
        made.append(small_data(GAME, workers=True, worker_options=SOON, **options))
        return made[-1]

    yield make
    for data in made:
        data.close()


def assert_whole(episodes):
    steps = episodes[MASK].sum((1, 2))
    # Of each the seed tells how long it is; the fake's states are counted from its first step to its last.
    assert torch.equal(episodes[STATE][torch.arange(len(steps)), steps.clamp(max=episodes.shape[1] - 1), 2], steps)


@pytest.mark.parametrize("overlap", [False, True])
def test_training_goes_on_through_faults_and_replays_whole_episodes_only(overlap, module, tmp_path):
    faults = {"step 30": "crash", "step 60": "die", "reset 20": "error"}
    data = module(env_options={"diary": tmp_path / "diary", "faults": faults}, overlap=overlap)
    logger = EnvStepLogger("run", str(tmp_path))
    monitors = [TrainingMonitor(), HyperParameters()]
    trainer = quiet_trainer(
        30, logger=logger, callbacks=monitors, limit_val_batches=1, val_check_interval=10, log_every_n_steps=5
    )
    learner = small_learner(data)
    trainer.fit(learner, data)
    assert data.rollout.restarts == {"crash in step": 1, "death in step": 1, "ConnectionError in reset": 1}
    assert_whole(data.buffer.sample())
    assert float(points(trainer.log_dir, "games/restarts")[-1][1]) == 3
    assert float(points(trainer.log_dir, "games/death_in_step")[-1][1]) == 1
    # Never more than a batch ahead of the collection, as with battles that advance together.
    assert data.replayed_steps <= 8 * data.env_steps + 4 * 5
    assert data.env_steps % data.num_envs == 0
    assert data._evaluation is None, "the games of training play evaluations, too"


def test_an_evaluation_is_played_by_the_games_of_training_as_often_as_asked_for(module):
    data = module(val_episodes=7)
    learner = small_learner(data)
    quiet_trainer(3, limit_val_batches=1, val_check_interval=1).fit(learner, data)
    played = data.play("val", 7)
    assert len(played) == 7
    assert_whole(played)
    assert 0 <= learner.evaluation["win_rate"][0] <= 1


def test_a_run_goes_on_with_new_games_and_says_so(module, tmp_path):
    data = module()
    trainer = quiet_trainer(4)
    trainer.fit(small_learner(data), data)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    steps, kept = data.env_steps, len(data.buffer)
    again = module()
    with pytest.warns(UserWarning, match="battles under way could not be taken up and begin anew"):
        quiet_trainer(4).fit(small_learner(again), again, ckpt_path=tmp_path / "half.ckpt")
    assert (again.env_steps, len(again.buffer)) == (steps, kept)


def test_what_results_depend_on_is_among_the_options_of_a_run(module):
    assert module().rollout.versions == {"fake": "1"}
    assert small_data().rollout.versions == {}


def test_games_play_in_this_process_unless_they_are_told_otherwise():
    data = small_data(GAME)
    assert isinstance(data.rollout, BatchedRollout)
    quiet_trainer(2, limit_val_batches=1, val_check_interval=1).fit(small_learner(data), data)
    assert_whole(data.buffer.sample())


def test_starcraft_has_processes_by_itself_and_says_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("SC2PATH", str(tmp_path))
    with pytest.raises(ValueError, match=r"\n.*data.env=battle/3m"):
        small_data("smac/3m", num_envs=None)


def test_options_and_worlds_that_workers_do_not_know_are_refused():
    with pytest.raises(ValueError, match=r"no option 'retires'\. Did you mean 'retries'\?"):
        small_data(GAME, worker_options={"retires": 3})
    with pytest.raises(ValueError, match=r"matrix/two_step plays all its battles at once .* Set workers to false"):
        small_data(workers=True)


def test_a_rollout_is_made_for_one_of_several_ranks():
    rollout, observe = make_rollout(
        Task(GAME, {}, workers=True, patience=SOON), 2, env_seed=1, seed=2, rank=1, replicas=3
    )
    try:
        assert isinstance(rollout, WorkerRollout)
        assert observe is None
        assert (rollout.num_games, rollout.seed) == (2, 2)
    finally:
        rollout.close()
    together, _ = make_rollout(Task("battle/3m", {}), 2, env_seed=1, seed=2, rank=1, replicas=3, compact=True)
    assert isinstance(together, BatchedRollout)
    assert (together.replicas, together.compact, together.seed) == (3, True, 2)


def test_there_are_fewer_battles_at_once_where_each_has_a_process(module):
    assert small_data(num_envs=None).num_envs == 32
    assert module(num_envs=None).num_envs == 8
