"""Learners of other projects, brought up from their own checkouts: PyMARL, PyMARL2 and EPyMARL."""

from __future__ import annotations

import logging
import math
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from importlib import import_module
from io import StringIO
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
import yaml
from tensordict import TensorDict
from torch import Tensor, nn

from benchmarks.update import CLIP, TARGET_INTERVAL, layers
from qmix_lightning.functional.masks import seen_steps
from qmix_lightning.module import QLearner
from qmix_lightning.spec import ACTION, ACTION_MASK, MASK, OBSERVATION, REWARD, STATE, TERMINATED, TaskSpec


@dataclass(frozen=True)
class Peer:
    """A project whose packages are laid out as PyMARL's.

    Args:
        name: Of the project.
        ours: Options of QLearner that make it learn as the peer does.
        mixer: What it calls the layers of its mixer, in the order of ours.
        loss: Its loss in units of ours.
        options: What is set differently from its own ``config/default.yaml`` and ``config/algs/qmix.yaml``.
        unneeded: Modules that it imports without need, and that would ask for more than torch.
    """

    name: str
    ours: dict[str, Any]
    mixer: Sequence[str] = ("hyper_w_1", "hyper_w_final", "hyper_b_1", "V")
    loss: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)
    unneeded: Sequence[str] = ()


PEERS = (
    Peer("PyMARL", {"estimator": "td0", "optimizer": "rmsprop", "learning_rate": 5e-4}),
    Peer(
        "PyMARL2",
        {"estimator": "td_lambda", "lmbda": 0.6, "optimizer": "adam", "learning_rate": 1e-3},
        mixer=("hyper_w1", "hyper_w2", "hyper_b1", "hyper_b2"),
        loss=0.5,
        unneeded=("envs", "envs.matrix_game", "matplotlib", "matplotlib.pyplot"),
    ),
    Peer(
        "EPyMARL",
        {"estimator": "td0", "optimizer": "adam", "learning_rate": 5e-4},
        # Its QMIX has neither memory nor last action by default, and would be another network.
        options={"use_rnn": True, "obs_last_action": True, "standardise_rewards": False},
    ),
)


class PeerLearner:
    """A peer's own learner, at one batch, from given weights.

    Args:
        peer: Whose.
        checkout: Where its repository lies.
        spec: The task's sizes.
        batch: Episodes ``[B, T + 1]``.
        twin: The learner whose weights it starts from.
        clip: Norm at which gradients are clipped, in units of our loss.

    Raises:
        FileNotFoundError: If there is no such repository.
    """

    def __init__(
        self, peer: Peer, checkout: Path, spec: TaskSpec, batch: TensorDict, twin: QLearner, *, clip: float = CLIP
    ) -> None:
        source = checkout / "src"
        if not (source / "learners").is_dir():
            raise FileNotFoundError(
                f"Expected a checkout of {peer.name} with a folder src/learners, got {checkout}. Clone its repository."
            )
        self.peer, self.updates, self.logged = peer, 0, dict[str, float]()
        # Mixers introduce themselves, and batches are made from what they take for lists.
        with _importing(source, peer.unneeded), redirect_stdout(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            options = _options(source, spec) | {"grad_norm_clip": clip * peer.loss} | peer.options
            args = SimpleNamespace(**options)
            self.batch = _as_theirs(batch, spec)
            mac = import_module("controllers").REGISTRY[args.mac](self.batch.scheme, self.batch.groups, args)
            self.learner: Any = import_module("learners").REGISTRY[args.learner](mac, self.batch.scheme, self, args)
        self.console_logger = logging.getLogger(__name__)
        self._copy_weights(twin)

    @property
    def layers(self) -> list[nn.Module]:
        """Its layers, in the order of :func:`~benchmarks.update.layers` of ours."""
        agent, mixer = self.learner.mac.agent, self.learner.mixer
        return [agent.fc1, agent.rnn, agent.fc2, *(getattr(mixer, name) for name in self.peer.mixer)]

    @property
    def gradients(self) -> list[Tensor | None]:
        """Those of the last update, after clipping, in units of our loss."""
        return [None if p.grad is None else p.grad / self.peer.loss for m in self.layers for p in m.parameters()]

    def update(self, _: TensorDict) -> None:
        """Learn once, by its own ``train``."""
        self.updates += 1
        self.learner.train(self.batch, 0, self.updates)

    def loss(self) -> float:
        """The loss before a further update, which it makes, in units of ours."""
        self.updates += 1
        self.learner.log_stats_t = -math.inf
        self.learner.train(self.batch, 0, self.updates)
        return next(value for name, value in self.logged.items() if name.startswith("loss")) / self.peer.loss

    def log_stat(self, name: str, value: Any, _: int) -> None:
        """Hear what the learner tells its logger."""
        self.logged[name] = float(value)

    @torch.no_grad()
    def _copy_weights(self, twin: QLearner) -> None:
        for mine, their in zip(self.layers, layers(twin), strict=True):
            for parameter, other in zip(mine.parameters(), their.parameters(), strict=True):
                parameter.copy_(other)
        self.learner.target_mac.load_state(self.learner.mac)
        self.learner.target_mixer.load_state_dict(self.learner.mixer.state_dict())


class _Unneeded(ModuleType):
    """Stands where a module would be that is imported, but not used by what is measured."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


@contextmanager
def _importing(source: Path, unneeded: Sequence[str]) -> Iterator[None]:
    """Import from a project whose top-level packages have names such as ``utils``, and forget these names again."""
    names = {entry.stem for entry in source.iterdir()} | {name.partition(".")[0] for name in unneeded}

    def forget() -> dict[str, ModuleType]:
        return {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in names}

    before, writes = forget(), sys.dont_write_bytecode
    # Nothing is left behind in a checkout that is not ours.
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(source))
    sys.modules.update({name: _Unneeded(name) for name in unneeded})
    try:
        yield
    finally:
        forget()
        sys.modules.update(before)
        sys.path.remove(str(source))
        sys.dont_write_bytecode = writes


def _options(source: Path, spec: TaskSpec) -> dict[str, Any]:
    """The project's own defaults for QMIX, with the sizes of a task."""
    options: dict[str, Any] = {}
    for name in ("default", "algs/qmix"):
        options |= yaml.safe_load((source / "config" / f"{name}.yaml").read_text())
    interval = dict.fromkeys(("target_update_interval", "target_update_interval_or_tau"), TARGET_INTERVAL)
    sizes = {"n_agents": spec.n_agents, "n_actions": spec.n_actions, "state_shape": spec.state_size}
    return options | interval | sizes | {"use_cuda": False}


def _as_theirs(batch: TensorDict, spec: TaskSpec) -> Any:
    """The same episodes as the project's EpisodeBatch, whose last step and those that only bootstrap are filled."""
    one_hot = import_module("components.transforms").OneHot(out_dim=spec.n_actions)
    scheme = {
        "state": {"vshape": spec.state_size},
        "obs": {"vshape": spec.observation_size, "group": "agents"},
        "actions": {"vshape": (1,), "group": "agents", "dtype": torch.int64},
        "avail_actions": {"vshape": (spec.n_actions,), "group": "agents", "dtype": torch.int32},
        "reward": {"vshape": (1,)},
        "terminated": {"vshape": (1,), "dtype": torch.uint8},
    }
    theirs = import_module("components.episode_buffer").EpisodeBatch(
        scheme, {"agents": spec.n_agents}, *batch.shape, preprocess={"actions": ("actions_onehot", [one_hot])}
    )
    theirs.update(
        {
            "state": batch[STATE],
            "obs": batch[OBSERVATION],
            "actions": batch[ACTION].unsqueeze(-1),
            "avail_actions": batch[ACTION_MASK].int(),
            "reward": batch[REWARD],
            "terminated": (batch[TERMINATED] & batch[MASK]).byte(),
            "filled": seen_steps(batch[MASK]).long(),
        },
        mark_filled=False,
    )
    return theirs
