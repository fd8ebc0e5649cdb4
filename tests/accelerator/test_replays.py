"""Rollout steps that are recorded and replayed; test_without_hardware.py runs this file in a process of its own."""

import logging
import os
from copy import deepcopy

import lightning.pytorch as pl
import pytest
import torch

from qmix_lightning import GRUAgent, MLPAgent, QLearner
from qmix_lightning.envs.registry import make
from qmix_lightning.exploration.random_policy import RandomPolicy
from qmix_lightning.functional.graphs import GRAPHS, REHEARSALS
from qmix_lightning.rollout import batched

pytestmark = pytest.mark.skipif("QMIX_LIGHTNING_FAR_DEVICE" not in os.environ, reason="needs a process of its own")
if "QMIX_LIGHTNING_FAR_DEVICE" in os.environ:
    from tests.accelerator.battles import FarBattles
    from tests.accelerator.device import WAITS, FarGraph, moved

MAP = "battle/3m"


@pytest.fixture(autouse=True)
def far_graphs(monkeypatch, caplog):
    """Graphs for the device, on which the random numbers are the CPU's."""
    monkeypatch.setattr(batched, "Generator", lambda device: torch.Generator())
    monkeypatch.setitem(GRAPHS, "far", FarGraph)
    caplog.set_level(logging.INFO, "qmix_lightning.graphs")


def said(caplog, level=None):
    """What was logged of graphs."""
    ours = [record for record in caplog.records if record.name == "qmix_lightning.graphs"]
    return [record.getMessage() for record in ours if level in (None, record.levelname)]


class CountedLearner(QLearner):
    """Counts how often Python is asked for actions."""

    calls = 0

    def act(self, *args, **options):
        self.calls += 1
        return super().act(*args, **options)


class WaitingLearner(CountedLearner):
    """Looks at its values, which a graph cannot."""

    def act(self, *args, **options):
        action, memory = super().act(*args, **options)
        assert int(action.max()) >= 0
        return action, memory


def pair(kind=CountedLearner, agent=GRUAgent, num_envs=4, **options):
    """A rollout and its policy on the CPU, and the same on the device."""
    pl.seed_everything(3)
    network, made = agent(make(MAP).spec), []
    for place, battles in ((lambda network: network, make), (moved, FarBattles)):
        learner = kind(make(MAP).spec, agent=lambda _, place=place: place(deepcopy(network)), epsilon_steps=1000)
        made.append((batched.BatchedRollout(battles(MAP, num_envs=num_envs, seed=5), seed=2, **options), learner))
    return made


def assert_equal(here, there):
    """Episodes are the same, entry for entry; how many they are."""
    assert (here is None) == (there is None)
    if here is None:
        return 0
    assert set(here.keys(True, True)) == set(there.keys(True, True))
    for key in here.keys(True, True):
        assert torch.equal(there[key].cpu(), here[key]), key
    return len(here)


def assert_alike(made, times):
    """Both play so many steps alike; how many episodes ended in them."""
    (here, ours), (there, theirs) = made
    played = assert_equal(here.step(ours, explore=True, times=times), there.step(theirs, explore=True, times=times))
    assert (here.env_steps, here.episodes) == (there.env_steps, there.episodes)
    return played


def change(learner, factor):
    """Do what an optimizer does: change parameters where they are."""
    with torch.no_grad():
        for parameter in learner.agent.parameters():
            parameter.mul_(factor)


@pytest.mark.parametrize("compact", [True, False])
@pytest.mark.parametrize("agent", [GRUAgent, MLPAgent])
def test_replayed_steps_play_the_battles_of_called_ones_while_epsilon_falls(agent, compact, caplog):
    made = pair(agent=agent, compact=compact)
    (here, _), (there, theirs) = made
    # From ε = 1 over its fall, which ends after 250 steps of 4 battles, to the 60 steps behind.
    played = sum(assert_alike(made, times) for times in (1, 1, 1, 7, 16, 40, 1, 133, 50, 60))
    assert played > 10
    assert here.env_steps == there.env_steps == 1240
    assert theirs.calls == REHEARSALS + 1  # the last of which was the recording
    assert there._graph.replays == 310 - REHEARSALS
    assert there.env.looks == 10
    assert said(caplog) == ["The rollout step was recorded, and is replayed from a graph from now on."]


def test_a_replay_waits_for_nothing_but_a_look_at_who_ended():
    made = pair()
    assert_alike(made, 5)
    (_, (there, theirs)) = made
    WAITS.clear()
    there.step(theirs, explore=True, times=40)
    assert sum(WAITS.values()) == 3  # after 16 steps, 32, and all


def test_replays_follow_parameters_that_change_in_place():
    made = pair()
    assert_alike(made, 100)
    for factor in (-1.0, 0.5, -2.0):
        for _, learner in made:
            change(learner, factor)
        assert_alike(made, 90)
    assert made[1][1].calls == REHEARSALS + 1


def test_parameters_that_moved_are_recorded_anew(caplog):
    made = pair()
    assert_alike(made, 100)
    for (_, learner), place in zip(made, (lambda network: network, moved), strict=True):
        change(learner, -1.0)
        with torch.no_grad():
            for part in learner.agent.modules():
                for name, parameter in part._parameters.items():
                    part._parameters[name] = torch.nn.Parameter(parameter.detach().clone())
        place(learner.agent)
        change(learner, 0.5)
    assert_alike(made, 100)
    assert made[1][1].calls == 2 * (REHEARSALS + 1)
    assert len(said(caplog)) == 2


def test_another_mode_of_the_agents_is_recorded_anew():
    made = pair()
    for train in (True, False, True):
        for _, learner in made:
            learner.train(train)
        assert_alike(made, 30)
    assert made[1][1].calls == 3 * (REHEARSALS + 1)


def test_another_schedule_of_exploration_is_recorded_anew():
    made = pair()
    for steps in (1000, 100_000):
        for _, learner in made:
            learner.hparams["epsilon_steps"] = steps
        assert_alike(made, 60)
    assert made[1][1].calls == 2 * (REHEARSALS + 1)


def test_a_policy_that_plays_nothing_leaves_the_graph_of_another():
    (_, (there, theirs)) = pair()
    for _ in range(5):  # as battles that are played ahead of updates do
        there.step(theirs, explore=True, times=0)
        there.step(theirs.snapshot(), explore=True, times=10)
    assert there._graph.replays == 50 - REHEARSALS


def test_greedy_evaluation_and_a_resume_leave_no_trace():
    made = pair()
    assert_alike(made, 70)
    (here, ours), (there, theirs) = made
    assert_equal(here.play(ours, 6, seed=9), there.play(theirs, 6, seed=9))
    assert_alike(made, 75)
    # Each goes on in a new rollout, from what the other one saved.
    fresh = pair()
    for (rollout, _), (saved, _) in zip(fresh, (made[1], made[0]), strict=True):
        assert rollout.load_state_dict(saved.state_dict())
    goes_on = [(rollout, learner) for (rollout, _), (_, learner) in zip(fresh, made, strict=True)]
    assert sum(assert_alike(goes_on, times) for times in (3, 60, 90)) > 4
    assert sum(assert_alike(made, times) for times in (3, 60, 90)) > 4
    assert goes_on[1][0]._graph.replays == 153 - REHEARSALS
    assert made[1][0]._graph.replays == 75 + 153 - REHEARSALS  # all since the evaluation, after which it began anew


def test_a_policy_that_waits_plays_on_call_by_call_and_the_reason_is_logged_once(caplog):
    made = pair(kind=WaitingLearner)
    assert sum(assert_alike(made, times) for times in (1, 2, 60, 90)) > 4
    # 153 steps were called, and one recording broke off.
    assert made[1][1].calls == 153 + 1
    assert said(caplog) == [
        "The rollout step is not replayed from a graph: RuntimeError: _local_scalar_dense: operation not permitted when"
        " stream is capturing"
    ]


class Unsaid:
    """A policy that does not say what it depends on."""

    def __init__(self, policy):
        self.initial_memory, self.act = policy.initial_memory, policy.act


@pytest.mark.parametrize(
    ("hinder", "reason"),
    [
        (
            lambda r, p, _: (r, Unsaid(p)),
            "Unsaid does not say what a graph would depend on. Give it the method fixed().",
        ),
        (lambda r, p, _: (setattr(r.env, "replayable", False), (r, p))[1], "FarBattles is not replayable: the host"),
        (lambda r, p, _: (r, RandomPolicy(0)), "battles are on far:0 and agents on cpu. Put both on one accelerator."),
        (lambda r, p, patch: (patch.delitem(GRAPHS, "far"), (r, p))[1], "there are none on 'far', but on 'cuda'."),
    ],
    ids=["policy", "battles", "places", "device"],
)
def test_what_cannot_be_recorded_is_called_and_the_reason_logged_once(hinder, reason, monkeypatch, caplog):
    rollout, policy = hinder(*pair()[1], monkeypatch)
    for times in (1, 10, 80):
        rollout.step(policy, explore=True, times=times)
    assert rollout.episodes > 2
    (line,) = said(caplog, "WARNING")
    assert line.startswith(f"The rollout step is not replayed from a graph: {reason}")


def test_a_recording_has_no_effect_before_it_is_replayed():
    memory, generator, graph = torch.zeros(3).to("far"), torch.Generator().manual_seed(1), FarGraph(None)
    expected = torch.rand(3, generator=torch.Generator().manual_seed(1))

    def step():
        memory.add_(torch.rand(3, device="far", generator=generator))

    graph.capture(step, [generator])
    assert memory.cpu().tolist() == [0.0, 0.0, 0.0]
    graph.replay()
    assert torch.equal(memory.cpu(), expected)
    graph.replay()
    assert not torch.equal(memory.cpu(), 2 * expected)


def test_battles_go_on_with_a_policy_that_has_moved():
    (here, ours), (_, theirs) = pair()
    twin = batched.BatchedRollout(make(MAP, num_envs=4, seed=5), seed=2)
    for rollout, policies in ((here, (ours, ours, ours)), (twin, (ours, theirs, ours))):
        for policy in policies:
            rollout.step(policy, explore=False, times=4)
    assert here.env_steps == twin.env_steps
    assert_equal(here.step(ours, explore=False, times=60), twin.step(ours, explore=False, times=60))
