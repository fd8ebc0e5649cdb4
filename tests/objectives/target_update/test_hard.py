from __future__ import annotations

from typing import Any

import pytest
import torch

from qmix_lightning.objectives.target_update.hard import HardUpdate
from tests.objectives.target_update.targets import train, weights
from tests.objectives.worlds import make_loss


def test_it_copies_at_every_nth_step_exactly() -> None:
    loss = make_loss()
    update = HardUpdate(loss, value_network_update_interval=3)
    copied = []
    for _ in range(7):
        train(loss)
        update.step()
        copied.append(torch.equal(weights(loss), weights(loss, "target_")))
    assert copied == [False, False, True, False, False, True, False]


def saved(update: HardUpdate) -> Any:
    return update.state_dict()


def torchrls(update: HardUpdate) -> Any:
    return {"initialized": True, "counter": update.counter}


@pytest.mark.parametrize("state_of", [saved, torchrls])
def test_the_counter_travels_with_a_state_dict_of_ours_or_of_torchrls(state_of: Any) -> None:
    loss = make_loss()
    update, resumed = (HardUpdate(loss, value_network_update_interval=3) for _ in range(2))
    update.step()
    update.step()
    resumed.load_state_dict(state_of(update))
    train(loss)
    resumed.step()
    assert resumed.counter == 3
    assert torch.equal(weights(loss), weights(loss, "target_"))


def test_a_state_dict_without_a_counter_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"Missing key.*_extra_state"):
        HardUpdate(make_loss()).load_state_dict({"initialized": True})


@pytest.mark.parametrize("interval", [0, -1, 2.0, 1e3, "3"])
def test_an_interval_that_is_no_positive_integer_is_refused(interval: Any) -> None:
    with pytest.raises(ValueError, match=f"value_network_update_interval must be a positive integer, got {interval!r}"):
        HardUpdate(make_loss(), value_network_update_interval=interval)


def test_it_shows_its_interval_and_its_counter() -> None:
    assert repr(HardUpdate(make_loss())) == "HardUpdate(value_network_update_interval=1000, counter=0)"
