"""Several processes learn, evaluate and count as one does."""

import os

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.strategies import DDPStrategy

from qmix_lightning.spec import MASK, PRIORITY_WEIGHT
from tests.distributed.processes import in_processes
from tests.training import LIGHTNINGS_OWN_WARNING, quiet_trainer, small_data, small_learner

pytestmark = [
    pytest.mark.filterwarnings(LIGHTNINGS_OWN_WARNING),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`"),
]

BATCH, UPDATES = 6, 4


class Batches:
    """Given batches, of which every process sees its part."""

    def __init__(self, batches, rank, size):
        self.batches, self.rank, self.size = batches, rank, size

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        for batch in self.batches:
            yield batch[self.rank * BATCH // self.size : (self.rank + 1) * BATCH // self.size]


class Recorder(Callback):
    """Writes down every gradient before it is clipped."""

    def __init__(self):
        self.gradients = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.gradients.append([p.grad.clone() for p in pl_module.loss.parameters()])


def trainer_of(size, updates, **options):
    strategy = {"strategy": DDPStrategy(process_group_backend="gloo"), "devices": size} if size > 1 else {"devices": 1}
    return quiet_trainer(updates, **strategy, **options)


def learned(folder, size, rank, weighted):
    learner, recorder = small_learner(small_data("battle/3m")).double(), Recorder()
    batches = torch.load(folder / "batches.pt", weights_only=False)
    if weighted:
        learner.loss.set_keys(priority_weight=PRIORITY_WEIGHT)
    trainer = trainer_of(size, UPDATES, callbacks=[recorder], gradient_clip_val=1.0)
    trainer.fit(learner, Batches(batches, rank, size))
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return recorder.gradients, {k: v.clone() for k, v in learner.state_dict().items()}, logged


def learned_in_parts(folder, weighted):
    return learned(folder, 2, int(os.environ["RANK"]), weighted)


def recorded_batches(folder):
    data = small_data("battle/3m", batch_size=BATCH)
    quiet_trainer(1).fit(small_learner(data), data)
    torch.manual_seed(3)
    batches = []
    for _ in range(UPDATES):
        batch = data.buffer.sample().apply(lambda entry: entry.double() if entry.is_floating_point() else entry)
        batch[PRIORITY_WEIGHT] = torch.rand(BATCH, 1, 1, dtype=torch.float64).expand(-1, batch.shape[1], 1)
        batches.append(batch)
    assert any(len(set(batch[MASK].sum((1, 2)).tolist())) > 1 for batch in batches), "of different lengths"
    torch.save(batches, folder / "batches.pt")


@pytest.mark.parametrize("weighted", [False, True])
def test_two_processes_with_half_a_batch_each_learn_as_one_with_the_whole(tmp_path, weighted):
    recorded_batches(tmp_path)
    gradients, state, logged = learned(tmp_path, 1, 0, weighted)
    for theirs, their_state, their_logged in in_processes(2, learned_in_parts, tmp_path, weighted):
        for ours_now, theirs_now in zip(gradients, theirs, strict=True):
            for ours_each, theirs_each in zip(ours_now, theirs_now, strict=True):
                torch.testing.assert_close(theirs_each, ours_each, rtol=1e-9, atol=1e-12)
        for name, tensor in state.items():
            torch.testing.assert_close(their_state[name], tensor, rtol=1e-9, atol=1e-12)
        assert their_logged.keys() == logged.keys()
        for name, value in logged.items():
            assert their_logged[name] == pytest.approx(value, rel=1e-6), name
