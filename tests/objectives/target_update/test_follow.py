"""Targets that follow an optimizer: they move with every step that it makes, and with no other."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch.optim import SGD, Adam, RMSprop

from qmix_lightning.objectives.target_update.hard import HardUpdate
from qmix_lightning.objectives.target_update.soft import SoftUpdate
from tests.objectives.target_update.targets import weights
from tests.objectives.worlds import make_episodes, make_loss

OPTIMIZERS = pytest.mark.parametrize(
    ("make", "options"),
    [(Adam, {}), (Adam, {"fused": True}), (SGD, {"fused": True}), (RMSprop, {})],
    ids=lambda value: value.__name__ if isinstance(value, type) else ("fused" if value else "plain"),
)


def test_following_is_a_step_after_each_step() -> None:
    ours, theirs = make_loss(), make_loss()
    for loss, follows in ((ours, True), (theirs, False)):
        optimizer, update = SGD(loss.parameters(), lr=0.1), SoftUpdate(loss, tau=0.25)
        if follows:
            update.follow(optimizer)
        for _ in range(3):
            optimizer.zero_grad()
            loss(make_episodes())["loss"].backward()
            optimizer.step()
            if not follows:
                update.step()
    assert torch.equal(weights(ours, "target_"), weights(theirs, "target_"))
    assert torch.equal(weights(ours), weights(theirs))


@OPTIMIZERS
def test_a_step_that_was_left_out_because_of_an_overflow_is_none(make: type, options: dict[str, bool]) -> None:
    loss = make_loss().float()
    loss(batch := make_episodes().apply(lambda x: x.float() if x.is_floating_point() else x))
    optimizer, update = make(loss.parameters(), lr=0.1, **options), HardUpdate(loss, value_network_update_interval=2)
    update.follow(optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    counted, moved = [], []
    for overflow in (True, False, True, False):
        before = weights(loss)
        optimizer.zero_grad()
        (scaler.scale(loss(batch)["loss"]) * (torch.inf if overflow else 1)).backward()
        scaler.step(optimizer)
        scaler.update()
        counted.append(update.counter)
        moved.append(not torch.equal(weights(loss), before))
    assert moved == [False, True, False, True]
    assert counted == [0, 1, 1, 2]
    assert scaler.get_scale() == 1.0
    assert torch.equal(weights(loss, "target_"), weights(loss))


def test_following_ends_when_it_is_told_to_and_is_not_saved() -> None:
    loss = make_loss()
    optimizer, update = SGD(loss.parameters(), lr=0.1), HardUpdate(loss, value_network_update_interval=3)
    following = update.follow(optimizer)
    optimizer.step()
    assert pickle.loads(pickle.dumps(optimizer.state_dict())) == optimizer.state_dict()
    following.remove()
    optimizer.step()
    assert update.counter == 1
