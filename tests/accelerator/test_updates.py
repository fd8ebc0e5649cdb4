"""Updates that are recorded and replayed; test_without_hardware.py runs this file in a process of its own."""

import os
import pickle
from copy import deepcopy
from functools import partial

import lightning.pytorch as pl
import pytest
import torch
from tensordict import TensorDict

from qmix_lightning import GRUAgent, MLPAgent, QLearner, QMixer, VDNMixer
from qmix_lightning.envs.registry import make
from qmix_lightning.functional.graphs import GRAPHS
from qmix_lightning.objectives import graphed
from qmix_lightning.objectives.graphed import GraphedLoss
from qmix_lightning.rollout import batched
from qmix_lightning.rollout.batched import BatchedRollout
from qmix_lightning.spec import MASK, OBSERVATION, PRIORITY_WEIGHT, REWARD, STATE, TD_ERROR
from tests.training import LIGHTNINGS_OWN_WARNING

pytestmark = [
    pytest.mark.skipif("QMIX_LIGHTNING_FAR_DEVICE" not in os.environ, reason="test_without_hardware.py runs these"),
    pytest.mark.filterwarnings(LIGHTNINGS_OWN_WARNING),
]
if "QMIX_LIGHTNING_FAR_DEVICE" in os.environ:
    from tests.accelerator.device import WAITS, FarGraph, moved
    from tests.accelerator.test_replays import said
    from tests.accelerator.test_training import train

MAP = "battle/3m"
RECORDED = "The update was recorded, and is replayed from a graph from now on."


@pytest.fixture(autouse=True)
def far_graphs(monkeypatch, caplog):
    monkeypatch.setattr(batched, "Generator", lambda device: torch.Generator())
    monkeypatch.setitem(GRAPHS, "far", FarGraph)
    caplog.set_level("INFO", "qmix_lightning.graphs")


@pytest.fixture(scope="module")
def played():
    learner = QLearner(make(MAP).spec)
    return BatchedRollout(make(MAP, num_envs=16, seed=1)).step(learner, explore=True, times=70)


def batch_of(played, *which):
    """Some episodes, no longer than the longest of them."""
    batch = played[list(which)]
    return batch[:, : int(batch[MASK].sum(1).max()) + 1].clone()


def pair(agent=GRUAgent, mixer=QMixer, **options):
    """A learner on the CPU, and the same on the device."""
    pl.seed_everything(3)
    spec = make(MAP).spec
    networks = agent(spec), mixer(spec)
    return [
        QLearner(spec, *(lambda _, n=network, p=place: p(deepcopy(n)) for network in networks), **options)
        for place in (lambda network: network, moved)
    ]


def there(batch):
    return TensorDict({key: batch[key].to("far") for key in batch.keys(True, True)}, batch.shape)


def assert_alike(here, far, batch, scale=1.0):
    """Both losses, errors and gradients of a batch are the same."""
    for learner, given in ((here, batch), (far, (sent := there(batch)))):
        learner.loss.zero_grad()
        (learner._graphed(given)["loss"] * scale).backward()
    torch.testing.assert_close(sent[TD_ERROR].cpu(), batch[TD_ERROR])
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in here.loss.parameters())
    for ours, theirs in zip(here.loss.parameters(), far.loss.parameters(), strict=True):
        assert (ours.grad is None) == (theirs.grad is None)
        if ours.grad is None:
            continue
        torch.testing.assert_close(theirs.grad.cpu(), ours.grad, rtol=1e-4, atol=1e-6)


BATCHES = [(0, 1, 2, 3), (4, 5, 6, 7), (0, 5, 9, 10), (11, 3, 2, 8), (0, 0, 0, 0), (1, 1, 2, 2)]


@pytest.mark.parametrize(
    ("agent", "mixer"), [(GRUAgent, QMixer), (partial(MLPAgent, hidden_size=32), VDNMixer)], ids=["gru", "mlp"]
)
@pytest.mark.parametrize("options", [{}, {"estimator": "td0", "double_q": False}], ids=["td_lambda", "td0"])
def test_replayed_losses_and_gradients_are_those_of_called_ones_at_any_length(agent, mixer, options, played, caplog):
    here, far = pair(agent, mixer, **options)
    lengths = {batch_of(played, *which).shape[1] for which in BATCHES}
    assert len(lengths) > 2
    for number, which in enumerate([*BATCHES, *BATCHES]):
        assert_alike(here, far, batch_of(played, *which), scale=1.0 + number)
    assert far._graphed.replays == 2 * len(BATCHES) - 2  # those called checked what they were given, and warned
    assert here._graphed.replays == 0
    assert said(caplog) == [RECORDED]


def test_what_padding_holds_reaches_nothing(played):
    here, far = pair()
    for which in BATCHES:
        batch = batch_of(played, *which)
        padding = ~batch[MASK]
        padding[:, 1:] &= ~batch[MASK][:, :-1]
        for key in (OBSERVATION, STATE, REWARD):
            batch[key] = torch.where(
                padding.view(*padding.shape[:2], *[1] * (batch[key].ndim - 2)), torch.nan, batch[key]
            )
        assert_alike(here, far, batch)
    assert far._graphed.replays > 0


def test_the_last_step_of_a_batch_only_bootstraps_even_if_its_mask_says_that_it_was_played(played):
    here, far = pair()
    for length in (12, 10, 12, 10, 11):
        cut = batch_of(played, 0, 1, 2, 3)[:, :length].clone()
        assert cut[MASK].all()
        assert_alike(here, far, cut)
    assert far._graphed.replays > 0


def test_a_replayed_update_waits_for_nothing(played):
    _, far = pair()
    batch = there(batch_of(played, 0, 1, 2, 3))
    for _ in range(3):
        far._graphed(batch)["loss"].backward()
    WAITS.clear()
    far._graphed(batch)["loss"].backward()
    assert not WAITS


def test_importance_weights_count(played):
    here, far = pair()
    for learner in (here, far):
        learner.loss.set_keys(priority_weight=PRIORITY_WEIGHT)
    for number in range(4):
        batch = batch_of(played, 1, 2, 3, 4)
        weight = torch.rand(4, generator=torch.Generator().manual_seed(number))
        batch[PRIORITY_WEIGHT] = weight[:, None, None].expand(-1, batch.shape[1], 1)
        assert_alike(here, far, batch)
    assert far._graphed.replays == 2


def test_a_fit_replays_all_but_its_first_updates(caplog):
    here, ours = train("cpu", GRUAgent, QMixer, steps=12)
    far, theirs = train("far", GRUAgent, QMixer, steps=12)
    assert far.losses == pytest.approx(here.losses, rel=1e-4)
    assert theirs == pytest.approx(ours, rel=1e-4)
    assert RECORDED in said(caplog)


def replay_some(played, far, times=4):
    for _ in range(times):
        far._graphed(there(batch_of(played, 0, 1, 2, 3)))["loss"].backward()
    assert far._graphed.replays > 0
    return far._graphed.replays


@pytest.mark.parametrize(
    "change",
    [
        lambda learner: learner.loss.eval(),
        lambda learner: setattr(learner.loss, "loss_function", "l1"),
        lambda learner: setattr(learner.agent, "temperature", 2.0),
        lambda learner: learner.agent.head.weight.requires_grad_(True),
    ],
    ids=["mode", "option", "number", "frozen"],
)
def test_what_was_recorded_of_something_else_is_recorded_anew(change, played):
    here, far = pair()
    for learner in (here, far):
        learner.agent.temperature = 1.0
        learner.agent.head.weight.requires_grad_(False)
    replays = replay_some(played, far)
    for learner in (here, far):
        change(learner)
    assert_alike(here, far, batch_of(played, 0, 1, 2, 3))
    assert far._graphed.replays == replays
    assert_alike(here, far, batch_of(played, 4, 1, 2, 3))
    assert far._graphed.replays == replays + 1


def test_who_looks_within_sees_every_batch(played):
    _, far = pair()
    replays, seen = replay_some(played, far), []
    with far.agent.register_forward_hook(lambda *_: seen.append(1)):
        far._graphed(there(batch_of(played, 0, 1, 2, 3)))
        far._graphed(there(batch_of(played, 0, 1, 2, 3)))
    assert len(seen) == 2
    with torch.autograd.set_detect_anomaly(True, check_nan=False):
        far._graphed(there(batch_of(played, 0, 1, 2, 3)))
    assert far._graphed.replays == replays
    far._graphed(there(batch_of(played, 0, 1, 2, 3)))
    far._graphed(there(batch_of(played, 0, 1, 2, 3)))
    assert far._graphed.replays > replays


def test_who_asks_for_no_gradients_is_called_and_leaves_the_recordings_of_others(played, caplog):
    here, far = pair()
    replays, batch = replay_some(played, far), batch_of(played, 0, 1, 2, 3)
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(far._graphed(there(batch))["loss"].cpu(), here.loss(batch)["loss"])
    assert_alike(here, far, batch)
    assert far._graphed.replays == replays + 1
    assert said(caplog) == [RECORDED]


@pytest.mark.parametrize(
    "hook",
    [
        lambda learner, seen: learner.loss.register_forward_hook(seen),
        lambda learner, seen: learner.loss.register_forward_pre_hook(seen),
        lambda learner, seen: learner.target_agent.register_forward_hook(seen),
        lambda learner, seen: learner.mixer.register_full_backward_pre_hook(seen),
        lambda learner, seen: learner.mixer.register_full_backward_hook(seen),
    ],
    ids=["loss", "before loss", "target", "before backward", "backward"],
)
def test_hooks_of_any_kind_are_noticed(hook, played):
    _, far = pair()
    replays = replay_some(played, far)
    with hook(far, lambda *_: None):
        far._graphed(there(batch_of(played, 0, 1, 2, 3)))
    assert far._graphed.replays == replays


def test_gradients_are_taken_once_and_in_turn(played):
    _, far = pair()
    replay_some(played, far)
    batch = there(batch_of(played, 0, 1, 2, 3))
    first, second = far._graphed(batch)["loss"], far._graphed(batch)["loss"]
    with pytest.raises(RuntimeError, match="once, and before the loss of the next batch"):
        first.backward()
    second.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="once, and before the loss of the next batch"):
        second.backward()


def test_figures_of_a_batch_stay_what_they_were(played):
    _, far = pair()
    replay_some(played, far)
    batch = there(batch_of(played, 0, 1, 2, 3))
    kept = far._graphed(batch)
    before = {name: figure.detach().cpu() for name, figure in kept.items()}, batch[TD_ERROR].cpu()
    far._graphed(there(batch_of(played, 4, 5, 6, 7)))
    assert {name: figure.detach().cpu() for name, figure in kept.items()} == before[0]
    assert torch.equal(batch[TD_ERROR].cpu(), before[1])


class _WaitingAgent(MLPAgent):
    """Looks at its values, which a graph cannot."""

    def forward(self, *args, **options):
        value = super().forward(*args, **options)
        assert float(value.detach().sum()) != 1e9
        return value


def test_what_cannot_be_recorded_is_called_and_the_reason_logged_once(played, caplog):
    here, far = pair(_WaitingAgent)
    for which in BATCHES:
        assert_alike(here, far, batch_of(played, *which))
    assert far._graphed.replays == 0
    (line,) = said(caplog, "WARNING")
    assert line.startswith("The update is not replayed from a graph: RuntimeError: _local_scalar_dense: operation not")


def test_who_changes_all_the_time_is_called_in_the_end(played, monkeypatch, caplog):
    monkeypatch.setattr(graphed, "RECORDINGS", 2)
    here, far = pair()
    for number in range(8):
        for learner in (here, far):
            learner.agent.temperature = float(number // 2)
        assert_alike(here, far, batch_of(played, 0, 1, 2, 3))
    (line,) = said(caplog, "WARNING")
    assert line.endswith("it was recorded 2 times, so that something must change all the time.")


class _CountingAgent(MLPAgent):
    """Changes with every batch."""

    def __init__(self, spec):
        super().__init__(spec)
        self.calls = 0

    def forward(self, *args, **options):
        self.calls += 1
        return super().forward(*args, **options)


def test_who_changes_with_every_batch_is_called_and_the_reason_logged_once(played, monkeypatch, caplog):
    monkeypatch.setattr(graphed, "CHANGES", 3)
    here, far = pair(_CountingAgent)
    for which in BATCHES:
        assert_alike(here, far, batch_of(played, *which))
    assert far._graphed.replays == 0
    (line,) = said(caplog, "WARNING")
    assert line.endswith("3 batches in a row differ in what a recording depends on.")


class _StatisticalAgent(MLPAgent):
    """Keeps count of the batches that it has seen."""

    def __init__(self, spec):
        super().__init__(spec)
        self.register_buffer("batches", torch.zeros(()))

    def forward(self, observation, last_action, is_init=None):
        if self.training:
            self.batches.add_(1)
        return super().forward(observation, last_action)


def test_a_rehearsal_does_not_count(played):
    here, far = pair(_StatisticalAgent)
    for number, which in enumerate(BATCHES):
        assert_alike(here, far, batch_of(played, *which))
        assert here.agent.batches == far.agent.batches.cpu() == number + 1
    assert far._graphed.replays > 0


@pytest.mark.parametrize("copied", [deepcopy, lambda graph: pickle.loads(pickle.dumps(graph))], ids=["copy", "pickle"])
def test_copies_record_for_themselves(copied):
    here, _ = pair()
    copy = copied(GraphedLoss(here.loss, 61))
    assert copy.loss is not here.loss
    assert (copy.most_steps, copy.replays) == (61, 0)
