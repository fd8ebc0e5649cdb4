from __future__ import annotations

import warnings

import pytest
import torch

from qmix_lightning.objectives.target_update.soft import SoftUpdate
from tests.objectives.target_update.targets import weights
from tests.objectives.worlds import make_loss


@pytest.mark.parametrize("share", [{"tau": 0.1}, {"eps": 0.9}], ids=str)
def test_the_targets_move_by_the_share(share: dict[str, float]) -> None:
    loss = make_loss()
    target, online = weights(loss, "target_"), weights(loss)
    update = SoftUpdate(loss, **share)
    update.step()
    torch.testing.assert_close(weights(loss, "target_"), 0.9 * target + 0.1 * online)
    assert (update.tau, update.eps) == pytest.approx((0.1, 0.9))


def test_with_tau_0_the_targets_stay_and_with_tau_1_they_are_copies() -> None:
    loss = make_loss()
    target, online = weights(loss, "target_"), weights(loss)
    SoftUpdate(loss, tau=0).step()
    assert torch.equal(weights(loss, "target_"), target)
    SoftUpdate(loss, tau=1).step()
    assert torch.equal(weights(loss, "target_"), online)


def test_n_steps_towards_weights_that_stay_close_the_gap_to_its_nth_power() -> None:
    loss = make_loss()
    gap, update = weights(loss, "target_") - weights(loss), SoftUpdate(loss, tau=0.25)
    for _ in range(5):
        update.step()
    torch.testing.assert_close(weights(loss, "target_") - weights(loss), 0.75**5 * gap)


def test_it_has_no_state_and_takes_torchrls() -> None:
    update = SoftUpdate(make_loss(), tau=0.1)
    assert not update.state_dict()
    update.load_state_dict({"initialized": True})


def test_a_small_eps_is_taken_for_a_mistake_but_a_large_tau_is_not() -> None:
    with pytest.warns(
        UserWarning, match=r"Found an eps value < 0.5, .* use the `tau` keyword argument instead: tau=0.01"
    ):
        SoftUpdate(make_loss(), eps=0.01)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SoftUpdate(make_loss(), tau=0.99)


def test_options_that_make_no_sense_are_refused() -> None:
    loss = make_loss()
    with pytest.raises(RuntimeError, match=r"Neither eps nor tau was provided. Give one"):
        SoftUpdate(loss)
    with pytest.raises(ValueError, match=r"One and only one argument \(tau or eps\) can be .* got eps=0.1 and tau=0.9"):
        SoftUpdate(loss, eps=0.1, tau=0.9)
    with pytest.raises(
        ValueError, match=r"Got eps = -0.5 when it was supposed to be between 0 and 1, and so tau = 1.5"
    ):
        SoftUpdate(loss, tau=1.5)
    with pytest.raises(ValueError, match=r"Got eps = 1.5 when it was supposed to be between 0 and 1"):
        SoftUpdate(loss, eps=1.5)


def test_it_shows_its_share() -> None:
    assert repr(SoftUpdate(make_loss(), tau=0.1)) == "SoftUpdate(tau=0.1)"
