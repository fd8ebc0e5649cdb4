from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from qmix_lightning.mixers.vdn import VDNMixer
from qmix_lightning.objectives.qmixer import QMixerLoss
from qmix_lightning.objectives.target_update import HardUpdate, SoftUpdate
from tests.objectives.worlds import OBS, A, N, make_loss


def weights(loss: QMixerLoss, prefix: str = "") -> Tensor:
    params = [getattr(loss, f"{prefix}{name}_params") for name in ("local_value_network", "mixer_network")]
    return torch.cat([tree.get(key).detach().flatten() for tree in params for key in sorted(tree.keys(True, True))])


def train(loss: QMixerLoss) -> None:
    with torch.no_grad():
        for parameter in loss.parameters():
            parameter.add_(1)


def test_a_hard_update_copies_at_every_nth_step_exactly() -> None:
    loss = make_loss()
    update = HardUpdate(loss, value_network_update_interval=3)
    copied = []
    for _ in range(7):
        train(loss)
        update.step()
        copied.append(torch.equal(weights(loss), weights(loss, "target_")))
    assert copied == [False, False, True, False, False, True, False]


def test_a_soft_update_moves_by_its_share_and_with_tau_1_is_a_copy() -> None:
    loss = make_loss()
    target, online = weights(loss, "target_"), weights(loss)
    SoftUpdate(loss, eps=0.9).step()
    torch.testing.assert_close(weights(loss, "target_"), 0.9 * target + 0.1 * online)
    SoftUpdate(loss, tau=1).step()
    assert torch.equal(weights(loss, "target_"), online)


def test_making_an_updater_leaves_the_targets_alone_and_ends_the_warning() -> None:
    loss = make_loss()
    loss.has_target_update = False
    before = weights(loss, "target_")
    SoftUpdate(loss, tau=0.5)
    assert torch.equal(weights(loss, "target_"), before)
    assert loss.has_target_update


def test_the_counter_travels_with_a_state_dict() -> None:
    loss = make_loss()
    update, resumed = (HardUpdate(loss, value_network_update_interval=3) for _ in range(2))
    update.step()
    update.step()
    resumed.load_state_dict(update.state_dict())
    train(loss)
    resumed.step()
    assert resumed.counter == 3
    assert torch.equal(weights(loss), weights(loss, "target_"))


def test_an_updater_holds_no_parameters_of_its_own() -> None:
    update = SoftUpdate(make_loss(), tau=0.1)
    assert not list(update.parameters())
    assert not update.state_dict()


@pytest.mark.parametrize("make", [HardUpdate, SoftUpdate])
def test_it_follows_the_loss_through_copies_and_casts(make: type[HardUpdate] | type[SoftUpdate]) -> None:
    options = {"value_network_update_interval": 1} if make is HardUpdate else {"tau": 1.0}
    loss = make_loss()
    twin, update = copy.deepcopy(nn.ModuleList([loss, make(loss, **options)])).float()  # type: ignore[arg-type]
    train(twin)
    update.step()
    assert weights(twin).dtype == torch.float32
    assert torch.equal(weights(twin), weights(twin, "target_"))
    assert not torch.equal(weights(loss), weights(loss, "target_"))


@pytest.mark.parametrize("soft", [False, True])
def test_running_statistics_follow_too(soft: bool) -> None:
    net = nn.Sequential(nn.Linear(OBS, A), nn.BatchNorm1d(N))
    loss = QMixerLoss(net, VDNMixer(N), layout="episode")
    update = SoftUpdate(loss, tau=1.0) if soft else HardUpdate(loss, value_network_update_interval=1)
    net(torch.randn(8, N, OBS))
    update.step()
    for name, buffer in net[1].named_buffers():
        assert torch.equal(loss.target_local_value_network_params["module", "1", name], buffer)


def test_options_that_make_no_sense_are_refused() -> None:
    loss = make_loss()
    with pytest.raises(RuntimeError, match=r"Neither eps nor tau was provided. Give one"):
        SoftUpdate(loss)
    with pytest.raises(ValueError, match=r"eps and tau exclude each other.*got eps=0.1 and tau=0.9"):
        SoftUpdate(loss, eps=0.1, tau=0.9)
    with pytest.raises(ValueError, match=r"eps and tau must lie in \[0, 1\], got eps=None and tau=1.5"):
        SoftUpdate(loss, tau=1.5)
    with pytest.raises(ValueError, match=r"must be a positive integer, got 0"):
        HardUpdate(loss, value_network_update_interval=0)
    with pytest.raises(RuntimeError, match=r"Did not find any target parameters .* delay_value=True"):
        HardUpdate(make_loss(delay_value=False))
