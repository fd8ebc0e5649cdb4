"""What the loss reads of a batch, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule, TensorDictSequential
from torch import nn

from qmix_lightning.actors.qvalue import QValueModule
from qmix_lightning.mixers.qmix import QMixer
from qmix_lightning.objectives.qmixer import QMixerLoss
from tests.objectives.worlds import (
    OBS,
    OBSERVATION,
    VALUE,
    A,
    N,
    S,
    as_transitions,
    assert_same,
    gradients,
    make_episodes,
    make_loss,
)


def test_actions_may_have_a_last_dimension_of_one_and_any_integer_type() -> None:
    loss, episodes = make_loss(), make_episodes()
    expected = loss(episodes)["loss"]
    episodes["agents", "action"] = episodes["agents", "action"].int().unsqueeze(-1)
    assert loss(episodes)["loss"] == expected


@pytest.mark.parametrize("missing", ["done", "terminated"])
def test_one_of_done_and_terminated_is_enough(missing: str) -> None:
    episodes = make_episodes()
    other = "terminated" if missing == "done" else "done"
    episodes["next", missing] = episodes["next", other]
    expected = make_loss().make_value_estimator("TD1")(episodes)["loss"]
    del episodes["next", missing]
    assert make_loss().make_value_estimator("TD1")(episodes)["loss"] == expected


def test_equal_importance_weights_change_nothing_and_others_are_counts() -> None:
    episodes = make_episodes()
    weighted = make_loss()
    weighted.set_keys(mask="mask", priority_weight="priority_weight")
    plain = make_loss()
    plain.set_keys(mask="mask")
    episodes["priority_weight"] = torch.full((4, 7, 1), 0.3, dtype=torch.float64)
    assert_same(gradients(weighted, episodes), gradients(plain, episodes))
    # An episode that weighs 3 counts as if it were there three times.
    counts = torch.tensor([3, 1, 2, 0])
    episodes["priority_weight"] = counts.double().view(4, 1, 1).expand(4, 7, 1)
    repeated = episodes[counts.nonzero().flatten().repeat_interleave(counts[counts > 0])]
    assert_same(gradients(weighted, episodes), gradients(plain, repeated))
    for shape in ((4,), (4, 1), (4, 7), (4, 1, 1)):
        batch = TensorDict(episodes.to_dict(), [4]).auto_batch_size_(1)
        batch["priority_weight"] = counts.double().view(4, *[1] * (len(shape) - 1)).expand(shape)
        assert weighted(batch)["loss"] == weighted(episodes)["loss"]
    fresh = make_loss()
    fresh.set_keys(priority_weight="priority_weight")
    with pytest.raises(ValueError, match=r"Expected importance weights of at least 0, got -1.0"):
        fresh(episodes.clone().set("priority_weight", -torch.ones(4, 7, 1)))
    episodes["priority_weight"] = torch.ones(4, 7, 2)
    with pytest.raises(
        ValueError, match=r"Expected a priority_weight for each step \(4, 7, 1\), or one for each row, got"
    ):
        weighted(episodes)


def head_of(action_mask_key: Any = None) -> TensorDictSequential:
    net = TensorDictModule(nn.Linear(OBS, A).double(), [OBSERVATION], [VALUE])
    choice = QValueModule("categorical", VALUE, action_mask_key, [("agents", "action"), VALUE, ("agents", "c")])
    return TensorDictSequential(net, choice)


def test_a_mask_of_actions_that_was_asked_for_must_be_there() -> None:
    mask = ("agents", "action_mask")
    steps = as_transitions(make_episodes())
    legal = torch.ones_like(steps[mask])
    legal[..., 2:] = False
    mixer = QMixer(S, n_agents=N).double()
    masked = QMixerLoss(head_of(mask), mixer)
    masked.has_target_update = True
    with pytest.raises(KeyError, match=r"Action mask key .*'agents.*'action_mask.* not found in .* the next step"):
        masked(steps.exclude(("next", "agents", "action_mask")))
    steps["next", "agents", "action_mask"] = steps["next", "agents", "mine"] = legal
    expected = masked(steps)["loss"]
    torch.manual_seed(0)
    plain = QMixerLoss(masked.local_value_network[:1], mixer, action_space="categorical")
    plain.has_target_update = True
    assert plain(steps)["loss"] == expected
    plain.set_keys(action_mask=("agents", "mine"))
    assert plain(steps)["loss"] == expected
    assert ("next", "agents", "mine") in plain.in_keys
    for loss in (plain, masked):
        loss.set_keys(action_mask=("agents", "yours"))
        with pytest.raises(KeyError, match=r"Action mask key .*yours.* not found"):
            loss(steps)
    # One row of the mask may hold for all agents.
    steps["next", "agents", "one"] = legal[..., :1, :]
    plain.set_keys(action_mask=("agents", "one"))
    assert plain(steps)["loss"] == expected


def test_keys_that_reveal_a_contradiction_are_not_set() -> None:
    loss = QMixerLoss(head_of(), QMixer(S, n_agents=N), action_space="categorical")
    loss.local_value_network[-1].action_space = "one_hot"
    with pytest.raises(ValueError, match="told action_space='categorical', but the QValueModule"):
        loss.set_keys(reward="r")
    assert loss.tensor_keys.reward == "reward"


def test_a_locked_batch_that_has_room_for_the_errors_is_written_to() -> None:
    episodes, loss = make_episodes(), make_loss()
    loss(episodes)
    expected = episodes["td_error"].clone()
    episodes["td_error"].zero_()
    loss(episodes.lock_())
    assert torch.equal(episodes["td_error"], expected)


def test_batches_that_make_no_sense_are_refused() -> None:
    def refused(error: type[Exception], words: str, layout: str = "episode", **entries: Any) -> None:
        batch = make_episodes() if layout == "episode" else as_transitions(make_episodes())
        for name, entry in entries.items():
            key = tuple(name.split("__")) if "__" in name else name
            batch = batch.set(key, entry(batch[key])) if entry else batch.exclude(key)
        loss = make_loss(layout=layout)
        loss.set_keys(mask="mask")
        with pytest.raises(error, match=words):
            loss(batch)

    refused(
        RuntimeError,
        r"must share a unique shape. Expected .* \(4, 7, 1\), got reward \(4, 7\), done",
        next__reward=lambda r: r[..., 0],
    )
    refused(RuntimeError, "A reward for each agent must be summed", next__reward=lambda r: r.expand(-1, -1, 3))
    refused(RuntimeError, r"done \(4, 7\)", next__done=lambda d: d[..., 0])
    refused(KeyError, r"expected the key .*'next.*'reward.*, found .* set_keys", next__reward=None)
    refused(KeyError, r"expected the key .*'next.*'done", next__done=None, next__terminated=None)
    refused(KeyError, r"expected the key .*'agents.*'action", agents__action=None)
    refused(KeyError, "expected the key .*next.*, found", "transition", next=None)
    refused(KeyError, "expected the key .*mask.*, found", mask=None)
    refused(
        ValueError,
        r"Expected a mask of shape \(4, 7, 1\) and type bool, got \(4, 7, 2\)",
        mask=lambda m: m.expand(-1, -1, 2),
    )
    refused(ValueError, "Expected actions as integers, .* got torch.float32", agents__action=lambda a: a.float())
    refused(
        ValueError, "One-hot actions need action_space='one_hot'", agents__action=lambda a: nn.functional.one_hot(a, A)
    )
    refused(ValueError, r"none at index \[0, 0, 0\]", agents__action_mask=torch.zeros_like)
    refused(ValueError, "state with the leading shape", state=lambda s: s.unsqueeze(2).expand(-1, -1, 3, -1))


def test_networks_that_write_elsewhere_are_named_by_the_key_that_is_missing() -> None:
    for name, key in (("global_value", "joint"), ("action_value", ("agents", "joint"))):
        loss = make_loss()
        loss.set_keys(**{name: key})
        with pytest.raises(KeyError, match=r"key .*joint.* not found in TensorDict with keys"):
            loss(make_episodes())


def test_a_batch_without_time_is_refused_as_episodes_and_for_long_returns() -> None:
    with pytest.raises(ValueError, match=r"expected a batch \[B, T\+1\] with T >= 1, got \[7\]. .*'transition'"):
        make_loss()(make_episodes()[0])
    with pytest.raises(ValueError, match=r"got \[4, 1\]"):
        make_loss()(make_episodes()[:, :1])
    step = as_transitions(make_episodes())[0, 0]
    assert make_loss(layout="transition")(step)["loss"].shape == ()
    with pytest.raises(ValueError, match=r"TD1Estimator expected a batch with a time dimension .* or use TD0"):
        make_loss(layout="transition").make_value_estimator("TD1")(step)
