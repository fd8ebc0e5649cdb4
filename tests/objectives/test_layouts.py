"""Batches of steps in every order that networks can be run over."""

from __future__ import annotations

import itertools

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule

from qmix_lightning.mixers.qmix import QMixer
from qmix_lightning.objectives.qmixer import QMixerLoss
from tests.objectives.worlds import (
    OBS,
    OBSERVATION,
    VALUE,
    A,
    GRUAgent,
    N,
    S,
    as_transitions,
    assert_same,
    gradients,
    make_episodes,
    make_loss,
)


def make_recurrent(layout: str, **options: object) -> QMixerLoss:
    """A loss whose agents forget at the steps that are marked, with targets that differ."""
    torch.manual_seed(0)
    agent = GRUAgent()

    def run(observation: torch.Tensor, is_init: torch.Tensor) -> torch.Tensor:
        rows = []
        for row, starts in zip(observation, is_init.squeeze(-1), strict=True):
            cuts = [0, *(starts.nonzero().flatten().tolist()), len(row)]
            runs = [row[a:b] for a, b in itertools.pairwise(cuts) if b > a]
            rows.append(torch.cat([agent(run.unsqueeze(0)).squeeze(0) for run in runs]))
        return torch.stack(rows) if rows else observation[..., :A]

    local = TensorDictModule(run, [OBSERVATION, "is_init"], [VALUE])
    local.agent = agent
    loss = QMixerLoss(local, QMixer(S, 4, N), action_space="categorical", layout=layout, **options)  # type: ignore[arg-type]
    loss.has_target_update = True
    return loss.double()


def mark(episodes: TensorDict) -> TensorDict:
    starts = torch.zeros(*episodes.shape, 1, dtype=torch.bool)
    starts[:, 0] = True
    return episodes.set("is_init", starts)


@pytest.mark.parametrize("double_q", [False, True])
def test_transitions_of_agents_with_a_memory_are_their_episodes(double_q: bool) -> None:
    episodes = mark(make_episodes())
    steps = as_transitions(episodes)
    ours, theirs = make_recurrent("transition", double_q=double_q), make_recurrent("episode", double_q=double_q)
    theirs.set_keys(action_mask=("agents", "action_mask"))
    assert_same(gradients(ours, steps), gradients(theirs, episodes))
    torch.testing.assert_close(steps["td_error"], episodes["td_error"][:, :-1])


@pytest.mark.parametrize("double_q", [False, True])
def test_trajectories_in_a_row_are_the_trajectories_alone(double_q: bool) -> None:
    parts = [mark(make_episodes(4, steps, seed)) for seed, steps in ((1, 3), (2, 5), (3, 1))]
    loss = make_recurrent("transition", double_q=double_q, reduction="sum")
    alone = [as_transitions(part) for part in parts]
    row = torch.cat(alone, 1)
    whole = gradients(loss, row)
    separate = [gradients(loss, part) for part in alone]
    for name, gradient in whole.items():
        torch.testing.assert_close(gradient, sum(part[name] for part in separate))
    torch.testing.assert_close(row["td_error"], torch.cat([part["td_error"] for part in alone], 1))


def test_any_batch_dimensions_before_time_will_do() -> None:
    loss, steps = make_recurrent("transition"), as_transitions(mark(make_episodes()))
    loss(steps)
    with pytest.raises(ValueError, match=r"expected trajectories \[\*B, T\], but \[6\] may be single steps"):
        loss(steps.clone()[0])
    alone = steps.clone()[0]
    alone.names = ["time"]
    for other in (alone, steps.clone()[:1], steps.clone().reshape(2, 2, -1)):
        loss(other)
        torch.testing.assert_close(
            other["td_error"].flatten(), steps["td_error"].flatten()[: other["td_error"].numel()]
        )


def test_padding_between_trajectories_changes_nothing() -> None:
    loss = make_recurrent("transition")
    loss.set_keys(mask="played")
    first, second = (as_transitions(mark(make_episodes(4, 3, seed))) for seed in (1, 2))
    gap = first.clone()
    for key in (OBSERVATION, "state", ("next", "reward"), ("next", *OBSERVATION), ("next", "state")):
        gap[key].fill_(torch.nan)
    row = torch.cat([first, gap, second], 1)
    row["is_init"][:, 3] = False
    played = torch.ones(*row.shape, 1, dtype=torch.bool)
    played[:, 3:6] = False
    row["played"] = played
    plain = torch.cat([first, second], 1)
    plain["played"] = torch.ones(*plain.shape, 1, dtype=torch.bool)
    assert_same(gradients(loss, row), gradients(loss, plain))


def test_agents_with_a_memory_need_time_and_need_it_last() -> None:
    steps = as_transitions(mark(make_episodes()))
    with pytest.raises(ValueError, match=r"Expected a batch \[\*B, T\] with time last, .* got \[\]. Keep traj"):
        make_recurrent("transition")(steps[0, 0])
    steps.names = ["time", None]
    for layout in ("transition", "episode"):
        with pytest.raises(ValueError, match=r"time last, .*got \[4, 6\] with time at 0. Transpose the batch"):
            make_recurrent(layout)(steps)
    steps.names = [None, "time"]
    make_recurrent("transition")(steps)


def test_an_agent_that_is_not_there_has_no_say() -> None:
    loss, batch = make_loss(mixer="vdn", diagnostics=True), make_episodes()
    loss.set_keys(agent_mask=("agents", "present"))
    present = torch.ones(*batch.shape, N, dtype=torch.bool)
    batch["agents", "present"] = present
    assert loss(batch)["loss"] == make_loss(mixer="vdn")(batch)["loss"]
    present[..., 1] = False
    batch["agents", "action_mask"][..., 1, :] = False
    before = gradients(loss, batch)
    batch[OBSERVATION][..., 1, :] = 1e3
    assert_same(gradients(loss, batch), before)
    batch["agents", "present"] = present.float()
    with pytest.raises(ValueError, match=r"Expected an agent_mask of shape \(4, 6, 3, 1\) and type bool, got"):
        loss(batch)


@pytest.mark.parametrize("estimator", ["TD1", "TDLambda"])
def test_returns_do_not_reach_over_a_start_that_nobody_called_done_before(estimator: str) -> None:
    parts = [as_transitions(mark(make_episodes(4, 3, seed))) for seed in (1, 2)]
    for part in parts:
        part["next", "done"].fill_(False)
        part["next", "terminated"].fill_(False)
    loss = make_recurrent("transition").make_value_estimator(estimator)
    row = torch.cat(parts, 1)
    loss(row)
    for part in parts:
        loss(part)
    torch.testing.assert_close(row["td_error"], torch.cat([part["td_error"] for part in parts], 1))


def test_what_networks_need_of_the_next_step_must_be_there() -> None:
    for key in (OBSERVATION, "state"):
        steps = as_transitions(mark(make_episodes())).exclude(("next", *([key] if key == "state" else key)))
        with pytest.raises(KeyError, match=r"The loss expected the key \('next', "):
            make_recurrent("transition")(steps)


def test_rewards_over_several_steps_need_steps_that_stand_alone() -> None:
    for layout, steps in (("transition", as_transitions(mark(make_episodes()))), ("episode", mark(make_episodes()))):
        steps["steps_to_next_obs"] = torch.ones(*steps.shape, 1, dtype=torch.int64)
        make_recurrent(layout)(steps)
        steps["steps_to_next_obs"][0, 1] = 3
        with pytest.raises(ValueError, match=r"Expected steps_to_next_obs to be 1 .*, got 3. .* layout='transition'"):
            make_recurrent(layout)(steps)


def test_a_trajectory_cut_off_inside_a_row_must_bring_the_step_it_ended_in() -> None:
    row = torch.cat([mark(make_episodes(4, 3, seed)) for seed in (1, 2)], 1)
    loss = make_recurrent("episode")
    loss.set_keys(mask="mask")
    loss(row)
    without = torch.cat([row[:, :3], row[:, 4:]], 1)
    with pytest.raises(ValueError, match=r"Expected a trajectory that ran out of time inside a row to be followed by"):
        make_recurrent("episode")(without)


def test_no_trajectories_have_a_loss_of_nothing() -> None:
    steps = as_transitions(mark(make_episodes()))
    loss = make_recurrent("transition", reduction="sum")
    loss(steps)
    assert loss(steps[:0])["loss"] == 0


def test_the_graph_does_not_depend_on_where_trajectories_end() -> None:
    torch.compiler.reset()
    torch.manual_seed(0)
    net = torch.nn.Linear(OBS + 1, A).double()

    def run(observation: torch.Tensor, is_init: torch.Tensor) -> torch.Tensor:
        starts = is_init.unsqueeze(-1).expand(*observation.shape[:-1], 1).double()
        return net(torch.cat([observation, starts], -1))

    local = TensorDictModule(run, [OBSERVATION, "is_init"], [VALUE])
    local.net = net
    loss = QMixerLoss(local, QMixer(S, 4, N).double(), action_space="categorical", double_q=True)
    loss.has_target_update = True
    compiled = torch.compile(loss, fullgraph=True, backend="eager")
    for seed in (1, 2):
        row = torch.cat([as_transitions(mark(make_episodes(4, 2 + seed, seed))) for seed in (seed, seed + 1)], 1)
        torch.testing.assert_close(compiled(row)["loss"], loss(row)["loss"])
