"""Who takes part in the benchmark of the loss: plain torch, and whatever library has TorchRL's classes."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import Tensor, nn

from qmix_lightning import QMixer, QMixerLoss, QValueModule, SafeSequential, SoftUpdate, VDNMixer
from qmix_lightning.spec import ACTION, ACTION_MASK, ACTION_VALUE, CHOSEN_ACTION_VALUE, GLOBAL_VALUE, OBSERVATION, STATE

AGENTS, OBSERVATIONS, ACTIONS, STATES, EMBED, HIDDEN = 8, 80, 14, 168, 32, 64
GAMMA, LAMBDA = 0.99, 0.6


@dataclass(frozen=True)
class Case:
    """What is learnt from, and with which networks.

    Args:
        name: How the row is called.
        shape: Batch dimensions; of episodes ``(B, T+1)``.
        agent: Perceptrons, or a memory that is empty before the first of the steps.
        mixer: What mixes their values.
        masked: Whether some actions are illegal.
        td_lambda: Whether targets are TD(λ) rather than TD(0).
        episodes: Whether steps follow each other, instead of each holding its next one.
    """

    name: str
    shape: tuple[int, ...]
    agent: Literal["mlp", "gru"] = "mlp"
    mixer: Literal["qmix", "vdn"] = "qmix"
    masked: bool = True
    td_lambda: bool = False
    episodes: bool = False


def random_batch(case: Case) -> TensorDict:
    """A batch of that shape, in which legal actions were taken and few battles end."""
    torch.manual_seed(0)

    def step() -> dict[str, Any]:
        agents = {"observation": torch.randn(*case.shape, AGENTS, OBSERVATIONS)}
        if case.masked:
            agents["action_mask"] = torch.rand(*case.shape, AGENTS, ACTIONS) < 0.6
            agents["action_mask"][..., 0] = True
        return {"agents": agents, "state": torch.randn(*case.shape, STATES)}

    batch = TensorDict(step(), case.shape)
    preference = torch.rand(*case.shape, AGENTS, ACTIONS)
    batch[ACTION] = (preference * batch[ACTION_MASK] if case.masked else preference).argmax(-1)
    terminated = torch.rand(*case.shape, 1) < 0.05
    # Where the next step stands in the same row, it must not be another trajectory's.
    done = terminated | ((torch.rand(*case.shape, 1) < 0.05) & (not case.episodes))
    outcome = {"reward": torch.randn(*case.shape, 1), "terminated": terminated, "done": done}
    batch["next"] = TensorDict(outcome if case.episodes else step() | outcome, case.shape)
    return batch


class Recurrent(nn.Module):
    """Values ``[B, T, N, A]`` of observations ``[B, T, N, O]``, remembering from the first of these steps."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(OBSERVATIONS, HIDDEN)
        self.gru = nn.GRU(HIDDEN, HIDDEN)
        self.head = nn.Linear(HIDDEN, ACTIONS)

    def forward(self, observation: Tensor) -> Tensor:
        """Unroll all agents at once, time first, as the kernel wants it."""
        battles, steps, agents, _ = observation.shape
        memories, _ = self.gru(F.relu(self.fc(observation)).transpose(0, 1).flatten(1, 2))
        values: Tensor = self.head(memories).view(steps, battles, agents, ACTIONS)
        return values.transpose(0, 1)


def make_agent(kind: Literal["mlp", "gru"]) -> nn.Module:
    """The network that all contestants use."""
    if kind == "gru":
        return Recurrent()
    return nn.Sequential(nn.Linear(OBSERVATIONS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, ACTIONS))


def leave_targets(parameters: Iterable[Tensor]) -> None:
    """Move online weights away from the targets, by the same amount for every contestant."""
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in parameters:
            parameter += 0.1 * torch.randn_like(parameter)


class PlainQMixer(nn.Module):
    """QMIX's mixer, with the parameters in TorchRL's order."""

    def __init__(self) -> None:
        super().__init__()
        self.w_1 = nn.Linear(STATES, AGENTS * EMBED)
        self.w_final = nn.Linear(STATES, EMBED)
        self.b_1 = nn.Linear(STATES, EMBED)
        self.v = nn.Sequential(nn.Linear(STATES, EMBED), nn.ReLU(), nn.Linear(EMBED, 1))

    def forward(self, values: Tensor, state: Tensor) -> Tensor:
        """Joint values ``[*B, 1]`` of values ``[*B, N, 1]``."""
        w_1 = self.w_1(state).abs().view(*values.shape[:-1], EMBED)
        # Faster than torch.bmm, since the matrices are tiny.
        hidden = F.elu((values * w_1).sum(-2) + self.b_1(state))
        joint: Tensor = (hidden * self.w_final(state).abs()).sum(-1, keepdim=True) + self.v(state)
        return joint


class PlainVDN(nn.Module):
    """VDN's mixer."""

    def forward(self, values: Tensor, state: Tensor) -> Tensor:
        """Joint values ``[*B, 1]`` of values ``[*B, N, 1]``; the state does not matter."""
        return values.sum(-2)


class PlainLoss:
    """QMIX in plain torch: tensors at hand, nothing checked, nothing computed that this case does not need.

    Args:
        case: What to compute.
        batch: What to learn from.
        double_q: Whether the online network chooses the next actions; needs episodes.
    """

    def __init__(self, case: Case, batch: TensorDict, *, double_q: bool = False) -> None:
        torch.manual_seed(1)
        self.agent = make_agent(case.agent)
        self.mixer = PlainQMixer() if case.mixer == "qmix" else PlainVDN()
        self.target_agent, self.target_mixer = deepcopy(self.agent), deepcopy(self.mixer)
        self.parameters = [*self.agent.parameters(), *self.mixer.parameters()]
        leave_targets(self.parameters)
        self.case, self.double_q, self.td_error = case, double_q, torch.empty(0)
        self.observation, self.action = batch[OBSERVATION], batch[ACTION]
        before, after = (batch[:, :-1], batch[:, 1:]) if case.episodes else (batch, batch["next"])
        self.next_observation = self.observation if case.episodes else after[OBSERVATION]
        self.state, self.next_state = before[STATE], after[STATE]
        self.next_legal = after[ACTION_MASK] if case.masked else None
        self.reward, self.terminated, self.done = (before["next", key] for key in ("reward", "terminated", "done"))

    def __call__(self) -> Tensor:
        """Mean squared error of the joint values; leaves that of each step in ``td_error``."""
        online = self.agent(self.observation)
        chosen = online.gather(-1, self.action.unsqueeze(-1))
        if self.case.episodes:
            chosen = chosen[:, :-1]
        # The states of episodes are slices: copied once here, not by each of the mixer's four layers.
        value = self.mixer(chosen, self.state.contiguous())
        with torch.no_grad():
            target = self.target_agent(self.next_observation)
            if self.case.episodes:
                online, target = online[:, 1:], target[:, 1:]
            if self.double_q:
                best = target.gather(-1, self._legal(online).argmax(-1, keepdim=True))
            else:
                best = self._legal(target).amax(-1, keepdim=True)
            next_value = self.target_mixer(best, self.next_state.contiguous())
            returns = self._td_lambda(next_value) if self.case.td_lambda else self._td_0(next_value)
            self.td_error = (value - returns).square()
        return F.mse_loss(value, returns)

    def _legal(self, values: Tensor) -> Tensor:
        return values if self.next_legal is None else torch.where(self.next_legal, values, -torch.inf)

    def _td_0(self, next_value: Tensor) -> Tensor:
        return torch.where(self.terminated, self.reward, torch.add(self.reward, next_value, alpha=GAMMA))

    def _td_lambda(self, next_value: Tensor) -> Tensor:
        last = self.done.clone()
        last[:, -1:] = True
        bootstrap = torch.where(self.terminated, 0.0, GAMMA * next_value)
        returns: Tensor = self.reward + torch.where(last, bootstrap, (1 - LAMBDA) * bootstrap)
        steps, decay = returns.unbind(1), torch.where(last, 0.0, GAMMA * LAMBDA).unbind(1)
        # In place, through views of each step.
        for t in range(len(steps) - 2, -1, -1):
            steps[t].addcmul_(decay[t], steps[t + 1])
        return returns


@dataclass(frozen=True)
class Library:
    """The classes of a script that learns by QMIX; TorchRL's and ours take the same arguments."""

    loss: Any
    q_value: Any
    sequence: Any
    qmixer: Any
    vdn: Any
    target_update: Any


OURS = Library(QMixerLoss, QValueModule, SafeSequential, QMixer, VDNMixer, SoftUpdate)


def find_torchrl() -> Library | None:
    """TorchRL's classes, None if it is not installed."""
    try:
        with warnings.catch_warnings():
            # What its own imports deprecate.
            warnings.simplefilter("ignore")
            from torchrl import modules, objectives
            from torchrl.modules.models import multiagent as mixers
            from torchrl.objectives import multiagent as losses
    except ModuleNotFoundError:
        return None
    return Library(
        losses.QMixerLoss, modules.QValueModule, modules.SafeSequential,
        mixers.QMixer, mixers.VDNMixer, objectives.SoftUpdate,
    )  # fmt: skip


class LibraryLoss:
    """QMIX as a user of TorchRL writes it.

    Args:
        library: Whose classes to use.
        case: What to compute.
        batch: What to learn from.
        **options: More arguments of the loss.
    """

    def __init__(self, library: Library, case: Case, batch: TensorDict, **options: Any) -> None:
        torch.manual_seed(1)
        agent = make_agent(case.agent)
        if case.mixer == "qmix":
            mixer = library.qmixer(state_shape=(STATES,), mixing_embed_dim=EMBED, n_agents=AGENTS, device="cpu")
        else:
            mixer = library.vdn(n_agents=AGENTS, device="cpu")
        values = TensorDictModule(agent, [OBSERVATION], [ACTION_VALUE])
        greedy = library.q_value(
            "categorical",
            action_value_key=ACTION_VALUE,
            action_mask_key=ACTION_MASK if case.masked else None,
            out_keys=[ACTION, ACTION_VALUE, CHOSEN_ACTION_VALUE],
        )
        mixed = [CHOSEN_ACTION_VALUE, *([STATE] if case.mixer == "qmix" else [])]
        joint = TensorDictModule(mixer, mixed, [GLOBAL_VALUE])
        self.loss = library.loss(library.sequence(values, greedy), joint, action_space="categorical", **options)
        if case.td_lambda:
            self.loss.make_value_estimator("TDLambda", gamma=GAMMA, lmbda=LAMBDA)
        else:
            self.loss.make_value_estimator("TD0", gamma=GAMMA)
        # Never stepped, but without it both libraries warn of targets that nobody updates.
        self.target_update = library.target_update(self.loss, tau=0.005)
        self.parameters = [*agent.parameters(), *mixer.parameters()]
        leave_targets(self.parameters)
        self.case, self.batch = case, batch.clone()

    def __call__(self) -> Tensor:
        """The loss, as the library computes it."""
        loss: Tensor = self.loss(self.batch)["loss"]
        return loss

    @property
    def td_error(self) -> Tensor:
        """The priorities that the library wrote; an episode's last step has none."""
        priorities: Tensor = self.batch["td_error"]
        return priorities[:, :-1] if self.case.episodes else priorities


Contestant = PlainLoss | LibraryLoss


def update(contestant: Contestant) -> Tensor:
    """Compute loss, priorities and gradients."""
    for parameter in contestant.parameters:
        parameter.grad = None
    loss = contestant()
    loss.backward()
    return loss.detach()


def assert_equal(expected: Contestant, got: Contestant) -> None:
    """Compare loss, priorities and every gradient."""
    torch.testing.assert_close(update(got), update(expected), rtol=1e-4, atol=0)
    torch.testing.assert_close(got.td_error, expected.td_error, rtol=1e-4, atol=1e-4)
    theirs, ours = ([parameter.grad for parameter in contestant.parameters] for contestant in (expected, got))
    largest = max(float(gradient.abs().max()) for gradient in theirs if gradient is not None)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6 * largest)
