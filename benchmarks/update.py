"""One QMIX update by QLearner, against the same mathematics in a plain torch loop.

    python -m benchmarks update --map 3m --batch 32

A batch of real episodes, padded to the episode limit (60 steps on 3m); GRU 64, two-layer hypernetworks, double-Q,
TD(λ = 0.6), Adam, gradient norm clipped at 10, hard target copy at every 50th update. Three learners start from the
same weights and take turns on the same batch:

* ``plain``: the floor, :class:`PlainLearner` below, which is torch and nothing else;
* ``loss``: QLearner's loss, optimizer, clipping and target update, called by hand;
* ``trainer``: ``Trainer.fit`` with clipping and a TensorBoard logger that writes at every 20th update, as ``qmix fit``
  has them, but without its progress bar.

The trainer takes its turn when it asks for its next batch: the other two run inside the data loader, and the time from
handing out a batch to the next request is one update with all that Lightning does around it. The first loss and every
gradient of the three are asserted equal, and so is the loss after the last update.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from collections.abc import Callable, Iterator
from copy import deepcopy
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from lightning.pytorch import LightningDataModule, Trainer
from tensordict import TensorDict
from torch import Tensor, nn

from benchmarks.timing import Samples, Table, clock, say, verdict
from qmix_lightning.envs.registry import make
from qmix_lightning.logger import EnvStepLogger
from qmix_lightning.mixers.qmix import QMixer
from qmix_lightning.module import QLearner
from qmix_lightning.rollout.batched import BatchedRollout
from qmix_lightning.spec import ACTION, ACTION_MASK, DONE, MASK, OBSERVATION, REWARD, STATE, TERMINATED, TaskSpec

BAR = 1.15
"""Updates through the Trainer may take this times as long as in plain torch."""

Update = Callable[[TensorDict], object]
GAMMA, LAMBDA, CLIP, LEARNING_RATE, TARGET_INTERVAL = 0.99, 0.6, 10.0, 1e-3, 50


class PlainNetworks(nn.Module):
    """Agent and mixer of QMIX as PyMARL draws them: Linear-ReLU-GRU-Linear, and hypernetworks of two layers."""

    def __init__(self, spec: TaskSpec, hidden: int = 64, embed: int = 32, hypernet: int = 64) -> None:
        super().__init__()
        n, s = spec.n_agents, spec.state_size
        self.fc = nn.Linear(spec.observation_size + spec.n_actions + n, hidden)
        self.gru = nn.GRU(hidden, hidden)
        self.head = nn.Linear(hidden, spec.n_actions)
        self.w_1 = nn.Sequential(nn.Linear(s, hypernet), nn.ReLU(), nn.Linear(hypernet, n * embed))
        self.w_final = nn.Sequential(nn.Linear(s, hypernet), nn.ReLU(), nn.Linear(hypernet, embed))
        self.b_1 = nn.Linear(s, embed)
        self.v = nn.Sequential(nn.Linear(s, embed), nn.ReLU(), nn.Linear(embed, 1))

    def values(self, inputs: Tensor) -> Tensor:
        """Action values ``[T, B, N, A]`` of inputs ``[T, B, N, I]``."""
        steps, battles, agents, _ = inputs.shape
        memories, _ = self.gru(F.relu(self.fc(inputs)).view(steps, battles * agents, -1))
        values: Tensor = self.head(memories).view(steps, battles, agents, -1)
        return values

    def mix(self, values: Tensor, state: Tensor) -> Tensor:
        """Joint values ``[T, B]`` of values ``[T, B, N]`` in states ``[T, B, S]``."""
        w_1 = self.w_1(state).abs().view(*values.shape, -1)
        hidden = F.elu((values.unsqueeze(-1) * w_1).sum(-2) + self.b_1(state))
        joint: Tensor = (hidden * self.w_final(state).abs()).sum(-1) + self.v(state).squeeze(-1)
        return joint


def layers(learner: QLearner) -> list[nn.Module]:
    """QLearner's layers, in the order of those of :class:`PlainNetworks`."""
    agent: Any = learner.agent
    mixer: Any = learner.mixer
    return [agent.input.linear, agent.gru, agent.head, mixer.hyper_w_1, mixer.hyper_w_final, mixer.hyper_b_1, mixer.V]


class PlainLearner:
    """QMIX in plain torch, time first, nothing checked and nothing logged.

    Args:
        spec: The task's sizes.
        twin: The learner whose weights it starts from.
    """

    def __init__(self, spec: TaskSpec, twin: QLearner) -> None:
        self.online = PlainNetworks(spec)
        for module, their in zip(self.online.children(), layers(twin), strict=True):
            module.load_state_dict(their.state_dict())
        self.target = deepcopy(self.online)
        self.optimizer = torch.optim.Adam(self.online.parameters(), lr=LEARNING_RATE)
        self.updates = 0

    def loss(self, batch: TensorDict) -> Tensor:
        """Mean squared error of the joint values against their TD(λ) targets."""
        inputs = self._inputs(batch[OBSERVATION], batch[ACTION])
        action, legal = batch[ACTION].transpose(0, 1), batch[ACTION_MASK].transpose(0, 1)
        state, played = batch[STATE].transpose(0, 1), batch[MASK].squeeze(-1).t()[:-1]

        online = self.online.values(inputs)
        value = self.online.mix(online[:-1].gather(-1, action[:-1].unsqueeze(-1)).squeeze(-1), state[:-1])
        with torch.no_grad():
            best = torch.where(legal[1:], online[1:], -torch.inf).argmax(-1, keepdim=True)
            target = self.target.values(inputs)[1:]
            next_value = self.target.mix(target.gather(-1, best).squeeze(-1), state[1:])
            returns = self._returns(batch, next_value)
        loss: Tensor = ((value - returns).square() * played).sum() / played.sum()
        return loss

    def update(self, batch: TensorDict) -> Tensor:
        """Learn from a batch once, and return its loss."""
        self.optimizer.zero_grad()
        loss = self.loss(batch)
        loss.backward()
        nn.utils.clip_grad_norm_(self.online.parameters(), CLIP)
        self.optimizer.step()
        self.updates += 1
        if self.updates % TARGET_INTERVAL == 0:
            self.target.load_state_dict(self.online.state_dict())
        return loss.detach()

    def _inputs(self, observation: Tensor, action: Tensor) -> Tensor:
        """Observation, last action and agent ``[T, B, N, O + A + N]``, for both networks."""
        battles, steps, agents, _ = observation.shape
        n_actions = self.online.head.out_features
        inputs = observation.new_zeros(steps, battles, agents, self.online.fc.in_features)
        inputs[..., : observation.shape[-1]] = observation.transpose(0, 1)
        last = inputs[1:, ..., observation.shape[-1] : -agents]
        last.copy_(F.one_hot(action[:, :-1].transpose(0, 1), n_actions))
        inputs[..., -agents:] = torch.eye(agents)
        return inputs

    @staticmethod
    def _returns(batch: TensorDict, next_value: Tensor) -> Tensor:
        """TD(λ) targets ``[T, B]``, backwards in time."""
        reward, done, terminated = (batch[key].squeeze(-1).t()[:-1] for key in (REWARD, DONE, TERMINATED))
        bootstrap = GAMMA * next_value * ~terminated
        # What follows a step that ended its episode is padding.
        share = torch.where(done, 1.0, 1 - LAMBDA)
        share[-1] = 1.0
        own, decay = reward + share * bootstrap, GAMMA * (1 - share)
        returns = [own[-1]]
        for t in range(len(own) - 2, -1, -1):
            returns.append(torch.addcmul(own[t], decay[t], returns[-1]))
        return torch.stack(returns[::-1])


class LossLearner:
    """QLearner's loss, optimizer and target update without a Trainer."""

    def __init__(self, learner: QLearner) -> None:
        self.learner = learner
        self.optimizer = learner.configure_optimizers()

    def update(self, batch: TensorDict) -> Tensor:
        """Learn from a batch once, and return its loss."""
        self.optimizer.zero_grad()
        loss: Tensor = self.learner.loss(batch)["loss"]
        loss.backward()
        nn.utils.clip_grad_norm_(self.learner.loss.parameters(), CLIP)
        self.optimizer.step()
        return loss.detach()


class Turns(LightningDataModule):
    """Hands out one batch again and again, and lets the others have their turn before each time.

    Args:
        batch: The batch.
        others: What else is to be timed, by name.
        updates: How many updates are counted.
        warmup: How many are made before.
    """

    def __init__(self, batch: TensorDict, others: dict[str, Update], updates: int, warmup: int) -> None:
        super().__init__()
        self._batch, self._others, self._updates, self._warmup = batch, others, updates, warmup
        self.samples = {name: Samples() for name in (*others, "trainer")}

    def train_dataloader(self) -> Turns:
        """This object, once through."""
        return self

    def __len__(self) -> int:
        # A loader that knows its length is not asked for a batch ahead of the update before it.
        return self._warmup + self._updates

    def __iter__(self) -> Iterator[TensorDict]:
        for turn in range(len(self)):
            for name in list(self._others) if turn % 2 == 0 else reversed(list(self._others)):
                start = clock()
                with torch.enable_grad():
                    self._others[name](self._batch)
                self._count(turn, name, clock() - start)
            start = clock()
            yield self._batch
            self._count(turn, "trainer", clock() - start)

    def _count(self, turn: int, name: str, seconds: float) -> None:
        if turn >= self._warmup:
            self.samples[name].seconds.append(seconds)


def played_batch(map_name: str, episodes: int) -> TensorDict:
    """Episodes of random play ``[episodes, episode_limit + 1]``."""
    env = make(f"battle/{map_name}", num_envs=episodes, seed=1)
    rollout, learner = BatchedRollout(env), QLearner(env.spec, epsilon_end=1.0)
    battles: list[TensorDict] = []
    while sum(len(ended) for ended in battles) < episodes:
        ended = rollout.step(learner, explore=True)
        battles += [] if ended is None else [ended]
    batch: TensorDict = torch.cat(battles)[:episodes]
    return batch


def make_learner(spec: TaskSpec) -> QLearner:
    """QLearner with the options of this benchmark, from the same weights each time."""
    torch.manual_seed(1)
    return QLearner(
        spec, mixer=lambda spec: QMixer(spec, hypernet_layers=2), gamma=GAMMA, lmbda=LAMBDA,
        learning_rate=LEARNING_RATE, target_update="hard", target_interval=TARGET_INTERVAL,
    )  # fmt: skip


def assert_equal(plain: PlainLearner, learner: QLearner, batch: TensorDict) -> None:
    """Compare the first loss and every gradient of both."""
    ours, theirs = learner.loss(batch)["loss"], plain.loss(batch)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)
    ours.backward()
    theirs.backward()
    mine = [parameter.grad for layer in layers(learner) for parameter in layer.parameters()]
    torch.testing.assert_close(mine, [parameter.grad for parameter in plain.online.parameters()], rtol=1e-4, atol=1e-6)
    learner.loss.zero_grad()
    plain.online.zero_grad()


def take_turns(learner: QLearner, turns: Turns) -> dict[str, Samples]:
    """Fit a learner as ``qmix fit`` does, but without progress bar and checkpoints, and time everybody's updates.

    Args:
        learner: Whom the Trainer fits.
        turns: What the others do before each of its updates.

    Returns:
        Seconds of the others by their names, and of the Trainer as ``trainer``.
    """
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        # Lightning speaks of devices, tips and missing validations, which are no news here.
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        warnings.simplefilter("ignore")
        trainer = Trainer(
            max_steps=len(turns), gradient_clip_val=CLIP, logger=EnvStepLogger("update", folder),
            log_every_n_steps=20, accelerator="cpu", enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(learner, turns)
    return turns.samples


def measure(map_name: str = "3m", batch_size: int = 32, *, updates: int = 100, warmup: int = 5) -> Table:
    """Measure the update.

    Args:
        map_name: One of SMAC's maps.
        batch_size: Episodes in a batch.
        updates: Updates counted.
        warmup: Updates before.

    Returns:
        A row a learner.
    """
    say(f"update: {batch_size} episodes on {map_name}")
    batch = played_batch(map_name, batch_size)
    spec = make(f"battle/{map_name}").spec
    by_trainer, by_hand = make_learner(spec), LossLearner(make_learner(spec))
    plain = PlainLearner(spec, by_trainer)
    assert_equal(plain, make_learner(spec), batch)
    others = {"plain": plain.update, "loss": by_hand.update}
    samples = take_turns(by_trainer, Turns(batch, others, updates, warmup))
    for learner in (by_hand.learner, by_trainer):
        torch.testing.assert_close(learner.loss(batch)["loss"], plain.loss(batch), rtol=0.02, atol=1e-4)
    floor = samples["plain"]
    rows = [
        (name, map_name, f"{batch_size} x {batch.shape[1] - 1}",
         f"{sample.best * 1e3:.1f}", f"{sample.median * 1e3:.1f}",
         f"{sample.best / floor.best:.2f}", f"{sample.median / floor.median:.2f}", f"{1 / sample.best:.0f}")
        for name, sample in samples.items()
    ]  # fmt: skip
    ratio = samples["trainer"].best / floor.best
    note = verdict(f"Trainer.fit within {BAR} of plain torch, came {ratio:.2f}", ratio <= BAR)
    header = ("update by", "map", "batch", "ms best", "median", "/ plain best", "median", "updates/s best")
    played = float(batch[MASK][:, :-1].float().mean())
    filled = f"{played:.0%} of the batch's steps were played, the others are padding."
    return Table("QMIX update", header, rows, (filled, note))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command line."""
    parser.add_argument("--map", default="3m")
    parser.add_argument("--batch", type=int, default=32, help="episodes in a batch")
    parser.add_argument("--updates", type=int, default=100)


def run(options: argparse.Namespace) -> list[Table]:
    """Measure as the command line says."""
    return [measure(options.map, options.batch, updates=options.updates)]
