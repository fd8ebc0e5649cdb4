"""What TorchRL's QMixerLoss makes of recurrent agents' memory: each test fails on its behaviour and passes on ours."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import Tensor, nn

from qmix_lightning import GRUAgent, TaskSpec
from tests.parity.libraries import (
    ACTION,
    CHOSEN,
    OBS,
    OBSERVATION,
    OURS,
    SILENCE,
    VALUE,
    A,
    Library,
    N,
    S,
    World,
    both,
    perturb,
    rl_modules,
    td_error,
)

pytestmark = SILENCE

HIDDEN = 6
ALONE = [[(3, "terminated")]]
PACKED = [[(3, "truncated"), (4, "terminated")], [(2, "cut"), (5, "unfinished")]]
"""Steps and end of each trajectory in each window; only the first two ends are marked as done."""


class OwnGRU(nn.Module):
    """A user's recurrent network ``[B, T, N, OBS]``, which forgets where an episode starts."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(OBS, HIDDEN, batch_first=True), nn.Linear(HIDDEN, A)

    def forward(self, observation: Tensor, is_init: Tensor) -> Tensor:
        windows, _, agents, _ = observation.shape
        memory, values = observation.new_zeros(windows, agents, HIDDEN), []
        for seen, starts in zip(observation.unbind(1), is_init.unbind(1), strict=True):
            memory = torch.where(starts.unsqueeze(-1), 0, memory).view(1, -1, HIDDEN)
            memory = self.gru(seen.reshape(-1, 1, OBS), memory)[1].view(windows, agents, HIDDEN)
            values.append(self.head(memory))
        return torch.stack(values, 1)


class RecurrentWorld:
    """A loss of recurrent networks, whose targets differ, and the slow truth about its errors."""

    def __init__(self, lib: Library, network: str, **options: Any) -> None:
        torch.manual_seed(0)
        self.n_agents = 1 if network == "GRUModule" else N
        if network == "GRUModule":
            module = rl_modules.GRUModule(OBS, HIDDEN, in_key="observation", out_key="memory")
            head = nn.Linear(HIDDEN, A)
            of_one = nn.Sequential(head, nn.Unflatten(-1, (1, A)))
            chain = [module, TensorDictModule(of_one, ["memory"], [VALUE])]
            parts = (module.gru, head)
        else:
            own = OwnGRU()
            chain = [TensorDictModule(own, [OBSERVATION, "is_init"], [VALUE])]
            parts = (own.gru, own.head)
        choice = lib.QValueModule("categorical", action_value_key=VALUE, out_keys=[ACTION, VALUE, CHOSEN])
        mixer = lib.QMixer((S,), 4, self.n_agents, "cpu")
        mixing = TensorDictModule(mixer, [CHOSEN, "state"], ["chosen_action_value"])
        loss = lib.QMixerLoss(lib.SafeSequential(*chain, choice), mixing, action_space="categorical", **options)
        self.loss = loss.double()
        self.loss.make_value_estimator("td0", gamma=0.5)
        self.online = (*parts, mixer)
        self.target = copy.deepcopy(self.online)
        perturb(parameter for part in self.online for parameter in part.parameters())

    def trajectory(self, steps: int, end: str) -> TensorDict:
        """Consecutive steps, and the one after the last."""
        shape, last = [steps + 1], torch.arange(steps + 1).unsqueeze(-1) == steps - 1
        observation = torch.randn(*shape, self.n_agents, OBS, dtype=torch.float64)
        starts = torch.arange(steps + 1).unsqueeze(-1) == 0
        terminated = last & (end == "terminated")
        return TensorDict(
            {
                "agents": {"observation": observation, "action": torch.randint(A, (*shape, self.n_agents))},
                "observation": observation.flatten(-2),
                "state": torch.randn(*shape, S, dtype=torch.float64),
                "is_init": starts,
                # What the collecting network remembered; it is older than either network of the loss.
                "recurrent_state": torch.randn(*shape, 1, HIDDEN, dtype=torch.float64) * ~starts.unsqueeze(-1),
                "played": torch.arange(steps + 1).unsqueeze(-1) < steps,
                "next": {
                    "reward": torch.randn(*shape, 1, dtype=torch.float64),
                    "terminated": terminated,
                    "done": terminated | (last & (end == "truncated")),
                },
            },
            shape,
        )

    def windows(self, plan: list[list[tuple[int, str]]]) -> list[list[TensorDict]]:
        torch.manual_seed(1)
        return [[self.trajectory(*trajectory) for trajectory in window] for window in plan]

    @torch.no_grad()
    def values(self, parts: Any, trajectory: TensorDict) -> Tensor:
        """Values ``[L + 1, N, A]`` of one trajectory on its own, step by step from no memory."""
        gru, head, _ = parts
        memory, values = torch.zeros(1, self.n_agents, HIDDEN, dtype=torch.float64), []
        for observation in trajectory[OBSERVATION]:
            memory = gru(observation.unsqueeze(1), memory)[1]
            values.append(head(memory[0]))
        return torch.stack(values)

    @torch.no_grad()
    def error(self, trajectory: TensorDict) -> Tensor:
        """Its squared temporal-difference errors ``[L, 1]``."""
        now, after = trajectory[:-1], trajectory[1:]
        value = self.values(self.online, trajectory)[:-1].gather(-1, now[ACTION].unsqueeze(-1))
        greedy = self.values(self.target, trajectory)[1:].amax(-1, keepdim=True)
        bootstrap = 0.5 * ~now["next", "terminated"] * self.target[-1](greedy, after["state"])
        return (self.online[-1](value, now["state"]) - now["next", "reward"] - bootstrap).square()


def as_transitions(trajectory: TensorDict) -> TensorDict:
    """Each step with the step after it beside it."""
    steps = trajectory[:-1].clone()
    steps["next"].update(trajectory[1:].exclude("next", ACTION, "played").clone())
    return steps


@both(AssertionError)
@pytest.mark.parametrize("plan", [ALONE, PACKED], ids=["alone", "packed"])
@pytest.mark.parametrize("network", ["GRUModule", "own"])
def test_d04_both_networks_remember_within_and_forget_between_trajectories(
    lib: Library, network: str, plan: list[list[tuple[int, str]]]
) -> None:
    world = RecurrentWorld(lib, network)
    windows = world.windows(plan)
    td = torch.stack([torch.cat([as_transitions(trajectory) for trajectory in window]) for window in windows])
    expected = torch.stack([torch.cat([world.error(trajectory) for trajectory in window]) for window in windows])
    torch.testing.assert_close(td_error(world.loss, td), expected)


@both(TypeError)
@pytest.mark.parametrize("network", ["GRUModule", "own"])
def test_d04_episodes_packed_into_one_window_keep_their_memories_apart(lib: Library, network: str) -> None:
    world = RecurrentWorld(lib, network, layout="episode")
    world.loss.set_keys(mask="played")
    windows = world.windows(PACKED)
    td = torch.stack([torch.cat(window) for window in windows])
    expected = torch.cat([world.error(trajectory) for window in windows for trajectory in window])
    errors = td_error(world.loss, td)
    torch.testing.assert_close(errors[td["played"]], expected.flatten())
    assert not errors[~td["played"]].any()


@both(ValueError)
def test_d23_a_recurrent_agent_takes_the_dimension_of_agents(lib: Library) -> None:
    td = TensorDict(
        {
            "agents": {"observation": torch.randn(2, 7, N, OBS), "last_action": torch.full((2, 7, N), -1)},
            "is_init": torch.zeros(2, 7, 1, dtype=torch.bool),
        },
        [2, 7],
    )
    if lib is OURS:
        spec = TaskSpec("", n_agents=N, n_actions=A, observation_size=OBS, state_size=S, episode_limit=7)
        agent = TensorDictModule(GRUAgent(spec), [OBSERVATION, ("agents", "last_action")], [VALUE])
    else:
        options = {"in_key": OBSERVATION, "out_key": VALUE, "default_recurrent_mode": True}
        agent = rl_modules.GRUModule(OBS, A, **options)
    assert agent(td)[VALUE].shape == (2, 7, N, A)


@both(AssertionError)
def test_d23_a_lazy_network_is_refused_by_name_and_with_the_cure(lib: Library) -> None:
    with pytest.raises(ValueError, match=r"local_value_network .* on an example before"):
        World(lib, net=nn.LazyLinear(A))
