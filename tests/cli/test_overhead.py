import platform
import subprocess
import sys

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.profilers import PassThroughProfiler

from qmix_lightning.cli.overhead import PER_BATCH, NoProfiler, skip_empty_hooks
from tests.training import LIGHTNINGS_OWN_WARNING, quiet_trainer, small_data, small_learner

pytestmark = pytest.mark.filterwarnings(LIGHTNINGS_OWN_WARNING)


class Diary(Callback):
    """Writes down each hook that it is called by."""

    def __init__(self, *hooks):
        self.called = []
        for hook in hooks:
            setattr(self, hook, lambda *args, hook=hook, **more: self.called.append(hook))


def fit(*, skip, callbacks):
    torch.manual_seed(0)
    data = small_data()
    learner, trainer = small_learner(data), quiet_trainer(3, callbacks=callbacks)
    if skip:
        skip_empty_hooks(trainer, learner)
    trainer.fit(learner, data)
    return learner


def test_a_fit_without_its_empty_hooks_is_the_same_fit():
    diaries = [Diary(*PER_BATCH), Diary("on_train_batch_end", "on_train_start")]
    more = [Diary(*PER_BATCH), Diary("on_train_batch_end", "on_train_start")]
    ours, theirs = (fit(skip=skip, callbacks=each) for skip, each in ((True, diaries), (False, more)))
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], tensor)
    assert [diary.called for diary in diaries] == [diary.called for diary in more]
    assert set(diaries[0].called) == set(PER_BATCH)


def test_hooks_that_do_something_stay_and_empty_ones_go_in_the_object_alone():
    class Module(LightningModule):
        def on_after_backward(self):
            pass

    module, diary = Module(), Diary("on_before_backward")
    skip_empty_hooks(quiet_trainer(1, callbacks=[diary]), module)
    assert [hook for hook in PER_BATCH if getattr(module, hook) is not None] == ["on_after_backward"]
    assert [hook for hook in PER_BATCH if getattr(diary, hook) is not None] == ["on_before_backward"]
    assert all(callable(getattr(Diary(), hook)) for hook in PER_BATCH)


@pytest.mark.parametrize("profiler", [NoProfiler, PassThroughProfiler])
def test_nothing_is_measured(profiler):
    with profiler().profile("something"):
        pass
    assert profiler().summary() == ""
    trainer = Trainer(profiler=profiler(), logger=False, enable_checkpointing=False)
    assert isinstance(trainer.profiler, profiler)


FAULTS = """
import resource
import torch
from qmix_lightning.cli.overhead import keep_freed_memory

kept = keep_freed_memory()
for turn in range(20):
    if turn == 10:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step = [torch.ones(1_000_000) for _ in range(10)]
    del step
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
"""Ten tensors of 4 MB a turn, freed together: 10,000 pages."""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such option")
def test_what_a_step_frees_is_there_for_the_next_one(monkeypatch):
    def faults():
        done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
        return done.stdout.split()

    kept, number = faults()
    assert kept == "True"
    assert int(number) < 100
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    assert faults()[0] == "False", "whoever sets glibc's own variable has chosen"
