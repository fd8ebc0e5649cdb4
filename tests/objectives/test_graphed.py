"""Updates that are replayed on a GPU; tests/accelerator has more of it on a device that is written in Python."""

from copy import deepcopy

import lightning.pytorch as pl
import pytest
import torch

from qmix_lightning.datamodule import ReplayDataModule
from qmix_lightning.envs.registry import make
from qmix_lightning.functional.graphs import GRAPHS
from qmix_lightning.module import QLearner
from qmix_lightning.objectives.graphed import padded_length
from qmix_lightning.rollout.batched import BatchedRollout
from qmix_lightning.spec import MASK, TD_ERROR
from tests.training import LIGHTNINGS_OWN_WARNING, quiet_trainer

MAP = "battle/3m"

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")


@pytest.fixture(scope="module")
def played():
    learner = QLearner(make(MAP).spec)
    return BatchedRollout(make(MAP, num_envs=16, seed=1)).step(learner, explore=True, times=70)


def some(played, *which):
    batch = played[list(which)]
    return batch[:, : int(batch[MASK].sum(1).max()) + 1].clone()


def gradients(learner, batch, graphed=True):
    learner.loss.zero_grad()
    (learner._graphed if graphed else learner.loss)(batch)["loss"].backward()
    return [parameter.grad.clone() for parameter in learner.loss.parameters()]


def test_lengths_waste_an_eighth_at_most():
    for steps in range(1, 1000):
        assert steps <= padded_length(steps) <= max(steps + 3, steps * 9 / 8)
    assert len({padded_length(steps) for steps in range(1, 401)}) < 40


def test_on_a_cpu_losses_are_called(played):
    learner = QLearner(make(MAP).spec)
    twin, batch = deepcopy(learner), some(played, 0, 1, 2)
    for _ in range(3):
        for ours, theirs in zip(gradients(learner, batch), gradients(twin, batch, graphed=False), strict=True):
            assert torch.equal(ours, theirs)
    assert learner._graphed.replays == 0


@needs_gpu
@pytest.mark.parametrize("half", [None, torch.bfloat16, torch.float16], ids=str)
def test_replayed_gradients_are_those_of_called_losses(half, played):
    learner = QLearner(make(MAP).spec).cuda()
    for which in [(0, 1), (2, 3), (4, 5), (6, 7), (0, 1)]:
        batch = some(played, *which).cuda()
        with torch.autocast("cuda", half, enabled=half is not None):
            replayed, error = gradients(learner, batch), batch[TD_ERROR].clone()
            called = gradients(learner, batch, graphed=False)
        torch.testing.assert_close(error, batch[TD_ERROR], rtol=1e-5 if half is None else 0.05, atol=1e-6)
        for ours, theirs in zip(replayed, called, strict=True):
            # Padding that is longer is added up in another order.
            close = 1e-4 if half is None else 0.05
            assert (ours - theirs).norm() <= close * theirs.norm() + 1e-7
        with torch.no_grad():  # as an optimizer does, which casts of half precision have to follow
            for parameter in learner.loss.parameters():
                parameter.mul_(0.9)
    assert learner._graphed.replays > 1


@needs_gpu
@pytest.mark.filterwarnings("ignore:RNN module weights are not part of single contiguous chunk of memory")
def test_parameters_in_other_memory_are_recorded_anew(played):
    learner, batch = QLearner(make(MAP).spec).cuda(), some(played, 0, 1, 2).cuda()
    for _ in range(3):
        gradients(learner, batch)
    replays = learner._graphed.replays
    for parameter in learner.loss.parameters():
        parameter.data = parameter.data * 2
    for expected in (replays, replays + 1):
        for ours, theirs in zip(gradients(learner, batch), gradients(learner, batch, graphed=False), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
        assert learner._graphed.replays == expected


@needs_gpu
@pytest.mark.filterwarnings(LIGHTNINGS_OWN_WARNING)
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_a_fit_learns_the_same_called_and_replayed(precision, monkeypatch):
    losses = []
    for graphs in (dict(GRAPHS), {}):
        monkeypatch.setattr("qmix_lightning.objectives.graphed.GRAPHS", graphs)
        pl.seed_everything(1)
        data = ReplayDataModule(MAP, {"device": "cuda"}, num_envs=8, batch_size=8, replay_device="cuda", seed=1)
        learner, found = QLearner(data.spec), []

        class Record(pl.Callback):
            def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, found=found):
                found.append(outputs["loss"].detach())

        quiet_trainer(
            40, accelerator="gpu", devices=1, precision=precision, gradient_clip_val=10.0, callbacks=[Record()]
        ).fit(learner, data)
        assert (learner._graphed.replays > 30) == bool(graphs)
        losses.append(torch.stack(found).cpu())
    torch.testing.assert_close(*losses, rtol=1e-3 if precision == "32-true" else 0.1, atol=1e-4)
