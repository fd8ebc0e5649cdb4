import numpy as np
import pytest
import torch
from lightning.pytorch import Callback

from qmix_lightning.callbacks.replay import ReplayMonitor
from tests.callbacks.boards import events, fitted, points
from tests.training import LIGHTNINGS_OWN_WARNING

pytestmark = pytest.mark.filterwarnings(LIGHTNINGS_OWN_WARNING)


class Births(Callback):
    """Notes after each update how many episodes were stored, and after how many environment steps."""

    def __init__(self):
        self.stored = [(0, 0)]
        self.kept = []

    def on_train_batch_end(self, trainer, pl_module, *args):
        data = trainer.datamodule
        self.stored.append((data.buffer.storage.written, data.env_steps))
        self.kept.append(len(data.buffer))

    def age(self, update):
        """Mean age after an update, of episodes that came evenly between updates."""
        written, env_steps = self.stored[update]
        numbers, steps = zip(*self.stored[: update + 1], strict=True)
        born = np.interp(np.arange(written - self.kept[update - 1], written) + 1, numbers, steps)
        return env_steps - born.mean()


def test_the_age_is_that_of_the_episodes_that_are_there(tmp_path):
    births = Births()
    trainer, *_ = fitted(tmp_path, "matrix/two_step", 12, callbacks=[births], log_every_n_steps=1)
    found = [value for _, value in points(trainer.log_dir, "train/replay_age")]
    assert found == pytest.approx([births.age(update) for update in range(1, 13)], rel=1e-5)
    assert max(births.kept) == 12, "the replay was full, and its oldest episodes were overwritten"


def test_the_replay_fills(tmp_path):
    births = Births()
    trainer, *_ = fitted(tmp_path, "matrix/two_step", 12, callbacks=[births], log_every_n_steps=1)
    assert [value for _, value in points(trainer.log_dir, "train/replay_fill")] == pytest.approx(
        [kept / 12 for kept in births.kept]
    )


def test_a_run_that_goes_on_knows_how_old_its_episodes_are(tmp_path):
    whole, *_ = fitted(tmp_path / "whole", "matrix/two_step", 12)
    half, *_ = fitted(tmp_path / "half", "matrix/two_step", 5)
    half.save_checkpoint(tmp_path / "half.ckpt")
    rest, *_ = fitted(tmp_path / "rest", "matrix/two_step", 12, ckpt_path=tmp_path / "half.ckpt")
    assert points(rest.log_dir, "train/replay_age") == points(whole.log_dir, "train/replay_age")[2:]


def test_a_run_that_goes_on_without_its_replay_begins_to_count_anew(tmp_path):
    emptied = {"replay_checkpoint": "none"}
    half, *_ = fitted(tmp_path / "half", "matrix/two_step", 5, data=emptied)
    half.save_checkpoint(tmp_path / "half.ckpt")
    with pytest.warns(UserWarning, match="not exactly"):
        rest, _, data = fitted(
            tmp_path / "rest", "matrix/two_step", 6, data=emptied, ckpt_path=tmp_path / "half.ckpt", log_every_n_steps=1
        )
    ((_, age),) = points(rest.log_dir, "train/replay_age")
    assert 0 <= age < data.env_steps - half.datamodule.env_steps


class Rates(Callback):
    """Notes the priorities, to the power of alpha, that a batch was drawn by."""

    def on_train_batch_start(self, trainer, *args):
        self.last = trainer.datamodule.buffer.sampler.state_dict()["rates"]


def test_the_histogram_is_of_the_priorities(tmp_path):
    rates = Rates()
    trainer, _, data = fitted(tmp_path, "matrix/two_step", callbacks=[rates])
    last = events(trainer.log_dir).Histograms("replay/priority")[-1].histogram_value
    priority = rates.last ** (1 / data.priority_exponent)
    assert last.num == len(data.buffer)
    assert (last.min, last.max) == pytest.approx((float(priority.min()), float(priority.max())), rel=1e-5)


@pytest.mark.parametrize("options", [{"priority_exponent": 0.0}, {"prioritised": False}], ids=str)
def test_replay_that_draws_all_alike_has_no_histogram(tmp_path, options):
    with pytest.MonkeyPatch.context() as patch:
        if "prioritised" in options:
            patch.setattr("tests.callbacks.boards.ReplayPriorities", Callback)
        trainer, *_ = fitted(tmp_path, "matrix/two_step", data=options)
    assert "replay/priority" not in events(trainer.log_dir).Tags()["histograms"]


def test_its_state_survives_a_weights_only_load(tmp_path):
    monitor = ReplayMonitor()
    monitor.load_state_dict({"stored": [[0, 0], [4, 8]]})
    torch.save(monitor.state_dict(), tmp_path / "state.pt")
    assert torch.load(tmp_path / "state.pt", weights_only=True) == {"stored": [[0, 0], [4, 8]]}


def test_histograms_that_come_at_no_step_are_refused():
    with pytest.raises(ValueError, match="every counts logging steps and must be positive, got -1"):
        ReplayMonitor(-1)
