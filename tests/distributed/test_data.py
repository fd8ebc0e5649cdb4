"""Several processes collect, count, replay and evaluate as one does."""

import pytest
import torch

from qmix_lightning.callbacks.priorities import ReplayPriorities
from qmix_lightning.datamodule import ReplayDataModule
from qmix_lightning.envs.registry import make
from qmix_lightning.ranks import Ranks
from qmix_lightning.spec import MASK, OBSERVATION, PRIORITY_WEIGHT
from tests.distributed.processes import in_processes
from tests.distributed.test_training import trainer_of
from tests.training import LIGHTNINGS_OWN_WARNING, small_data, small_learner

pytestmark = pytest.mark.filterwarnings(LIGHTNINGS_OWN_WARNING)

EVALUATED = 7


def collected(folder, size, overlap):
    data = small_data("battle/3m", num_envs=6, batch_size=4, val_episodes=EVALUATED, prioritised=True, overlap=overlap)
    seen = []

    class Watcher(ReplayPriorities):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
            seen.append((data.env_steps, data.replayed_steps, int(batch[MASK].sum()), batch[PRIORITY_WEIGHT].max()))

    trainer = trainer_of(size, 12, callbacks=[Watcher()])
    learner = small_learner(data)
    trainer.fit(learner, data)
    data.rollout.env.seed(data._derive("train", 0))
    battles = data.rollout.env.reset()[OBSERVATION].clone()
    evaluator = trainer_of(size, 1, limit_val_batches=1)
    (figures,) = evaluator.validate(learner, data, verbose=False)
    counts = {name: int(metric.episodes) for name, metric in learner.metrics.items()}
    data.close()
    return {
        "counts": [each[:2] for each in seen],
        "steps": [each[2] for each in seen],
        "heaviest": [float(each[3]) for each in seen],
        "epsilon": learner.epsilon(data.env_steps),
        "targets": {name: value.clone() for name, value in learner.state_dict().items() if "target" in name},
        "battles": battles,
        "figures": figures,
        "intervals": learner.evaluation,
        "evaluated": counts,
    }


@pytest.fixture(scope="module", params=[False, True], ids=["in turn", "one ahead"])
def two(request, tmp_path_factory):
    return in_processes(2, collected, tmp_path_factory.mktemp("two"), 2, request.param)


def test_counters_exploration_and_targets_are_the_same_everywhere(two):
    assert two[0]["counts"] == two[1]["counts"]
    assert two[0]["epsilon"] == two[1]["epsilon"]
    for name, value in two[0]["targets"].items():
        assert torch.equal(value, two[1]["targets"][name]), name


def test_steps_are_counted_over_all_processes(two):
    env_steps = [counts[0] for counts in two[0]["counts"]]
    assert all(steps % 6 == 0 for steps in env_steps), "all six battles advance together"
    replayed = torch.tensor(two[0]["steps"]) + torch.tensor(two[1]["steps"])
    assert [counts[1] for counts in two[0]["counts"]] == replayed.cumsum(0).tolist()
    assert two[0]["steps"] != two[1]["steps"], "every process replays episodes of its own"


def test_the_battles_of_all_processes_are_those_that_one_would_play(two):
    env = make("battle/3m", num_envs=6, seed=small_data("battle/3m")._derive("train", 0))
    assert torch.equal(torch.cat([each["battles"] for each in two]), env.reset()[OBSERVATION])


def test_importance_weights_are_on_one_scale(two):
    for heaviest in zip(*(each["heaviest"] for each in two), strict=True):
        assert max(heaviest) == pytest.approx(1.0)


def test_an_evaluation_that_cannot_be_split_evenly_is_exact(two, tmp_path):
    data = small_data("battle/3m", val_episodes=EVALUATED)
    learner = small_learner(data)
    learner.load_state_dict({**learner.state_dict(), **two[0]["targets"]})
    (alone,) = trainer_of(1, 1, limit_val_batches=1).validate(learner, data, verbose=False)
    for each in two:
        assert each["figures"].keys() == alone.keys()
        for name, value in each["figures"].items():
            assert value == pytest.approx(alone[name], rel=1e-6), name
        for name, interval in learner.evaluation.items():
            assert each["intervals"][name] == pytest.approx(interval, rel=1e-6), name


@pytest.mark.parametrize("option", ["num_envs", "batch_size"])
def test_what_cannot_be_divided_is_refused(option):
    data = ReplayDataModule("matrix/two_step", **{"num_envs": 4, "batch_size": 4, option: 5})
    data.ranks = Ranks(0, 2)
    with pytest.raises(ValueError, match=rf"{option} is divided among the 2 processes .* got 5\. Take 4, or another"):
        data._begin()


def test_the_parts_of_a_range_cover_it():
    for size in (1, 2, 3, 5):
        parts = [Ranks(rank, size).range(7) for rank in range(size)]
        assert [number for first, end in parts for number in range(first, end)] == list(range(7))


def test_a_process_alone_hears_itself():
    ranks = Ranks()
    assert (ranks.sum(3), ranks.least(0.5), ranks.gather({"a": 1}), ranks.share(5, "anything")) == (
        3,
        0.5,
        [{"a": 1}],
        5,
    )
