import pytest
import torch

from qmix_lightning.callbacks.networks import NetworkMonitor, chosen_values, joint_value
from qmix_lightning.mixers.vdn import VDNMixer
from qmix_lightning.spec import MASK, STATE
from tests.callbacks.boards import Diary, events, fitted, points
from tests.training import LIGHTNINGS_OWN_WARNING

pytestmark = pytest.mark.filterwarnings(LIGHTNINGS_OWN_WARNING)


def last_histogram(folder, tag):
    return events(folder).Histograms(tag)[-1].histogram_value


def test_histograms_are_of_the_last_batch_and_the_networks_after_its_update(tmp_path):
    diary = Diary()
    trainer, learner, _ = fitted(tmp_path, callbacks=[diary])
    batch = diary.batches[-1]
    mask = batch[MASK].squeeze(-1)
    chosen = chosen_values(learner, batch)[mask]
    for agent in range(3):
        found = last_histogram(trainer.log_dir, f"q/agent_{agent}")
        assert found.num == int(mask.sum())
        assert found.sum == pytest.approx(float(chosen[:, agent].sum()), rel=1e-4)
        assert (found.min, found.max) == pytest.approx((float(chosen[:, agent].min()), float(chosen[:, agent].max())))
    assert last_histogram(trainer.log_dir, "mixer/w_1").min >= 0
    assert last_histogram(trainer.log_dir, "mixer/w_final").min >= 0


def test_values_and_mixture_are_those_of_the_loss(tmp_path):
    diary = Diary()
    _, learner, _ = fitted(tmp_path, callbacks=[diary])
    batch = diary.batches[-1]
    joint = joint_value(learner, chosen_values(learner, batch), batch[STATE])
    assert joint[batch[MASK]].mean().item() == pytest.approx(float(learner.loss(batch)["value"]), rel=1e-5)


def test_the_slopes_are_those_of_the_mixture(tmp_path):
    diary = Diary()
    trainer, learner, _ = fitted(tmp_path, callbacks=[diary])
    batch = diary.batches[-1].apply(lambda entry: entry.double() if entry.is_floating_point() else entry)
    mask = batch[MASK].squeeze(-1)
    learner.double()
    chosen, state = chosen_values(learner, batch)[mask], batch[STATE][mask]
    for agent in range(3):
        above, below = chosen.clone(), chosen.clone()
        above[:, agent] += 1e-6
        below[:, agent] -= 1e-6
        slope = (joint_value(learner, above, state) - joint_value(learner, below, state)).mean().item() / 2e-6
        assert points(trainer.log_dir, f"mixer/slope_agent_{agent}")[-1][1] == pytest.approx(slope, rel=1e-3)


def test_of_many_steps_the_mixer_is_shown_some(tmp_path, monkeypatch):
    monkeypatch.setattr("qmix_lightning.callbacks.networks._LOOKED_AT", 4)
    trainer, learner, _ = fitted(tmp_path)
    found = last_histogram(trainer.log_dir, "mixer/w_final").num / learner.mixer.embed_dim
    assert 2 <= found <= 4
    assert last_histogram(trainer.log_dir, "q/agent_0").num > 4


def test_a_sum_has_slopes_of_one_and_no_weights(tmp_path):
    trainer, *_ = fitted(tmp_path, "matrix/two_step", learner={"mixer": VDNMixer})
    assert {value for _, value in points(trainer.log_dir, "mixer/slope_agent_0")} == {1.0}
    assert set(events(trainer.log_dir).Tags()["histograms"]) == {"q/agent_0", "q/agent_1", "replay/priority"}


def test_training_does_not_notice(tmp_path):
    _, watching, _ = fitted(tmp_path / "watched", "matrix/two_step")
    _, alone, _ = fitted(tmp_path / "alone", "matrix/two_step", logger=False)
    for name, value in alone.state_dict().items():
        assert torch.equal(value, watching.state_dict()[name]), name
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in watching.parameters())


def test_values_that_diverged_leave_the_histogram_out_and_nothing_falls_over(tmp_path):
    diary = Diary()
    trainer, learner, _ = fitted(tmp_path, "matrix/two_step", 2, callbacks=[diary])
    for parameter in learner.parameters():
        parameter.data.fill_(torch.nan)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qmix_lightning.callbacks.networks.is_logging_step", lambda *_: True)
        NetworkMonitor().on_train_batch_end(trainer, learner, None, diary.batches[-1], 0)
    trainer.logger.finalize("success")
    assert len(events(trainer.log_dir).Histograms("q/agent_0")) == 1
