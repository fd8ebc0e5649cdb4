"""QLearner: value decomposition as a LightningModule."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from inspect import signature
from typing import Any, Literal

import torch
from lightning.pytorch.plugins import MixedPrecision, Precision
from lightning.pytorch.utilities import GradClipAlgorithmType
from tensordict import TensorDict
from tensordict.nn import TensorDictModule, TensorDictSequential
from torch import Generator, Tensor
from torch.optim import Adam, Optimizer, RMSprop

from qmix_lightning.agents.base import AbstractAgent
from qmix_lightning.agents.gru import GRUAgent
from qmix_lightning.agents.inputs import previous_action
from qmix_lightning.checkpointing import refuse_other_networks, refuse_other_task
from qmix_lightning.exploration.epsilon_greedy_policy import EpsilonGreedyPolicy
from qmix_lightning.exploration.policy_stage import PolicyStage
from qmix_lightning.exploration.schedules import linear
from qmix_lightning.functional.stages import is_own
from qmix_lightning.gradients import ForgetsFirst
from qmix_lightning.learning_rate import decaying, keep_own_rate, refuse_other_optimizer
from qmix_lightning.logger import write
from qmix_lightning.metrics.outcome import Deaths, EpisodeLength, EpisodeReturn, WinRate, final_value
from qmix_lightning.mixers.base import Mixer
from qmix_lightning.mixers.qmix import QMixer
from qmix_lightning.objectives.graphed import GraphedLoss
from qmix_lightning.objectives.qmixer import QMixerLoss
from qmix_lightning.objectives.target_update.hard import HardUpdate
from qmix_lightning.objectives.target_update.soft import SoftUpdate
from qmix_lightning.options import Estimator, GreedyNetwork, OptimizerName, TargetUpdate, refuse_bad_options
from qmix_lightning.spec import (
    ACTION,
    ACTION_VALUE,
    INFO,
    LAST_ACTION,
    MASK,
    OBSERVATION,
    REWARD,
    TD_ERROR,
    Policy,
    TaskSpec,
)

OUTCOMES = {"win_rate": "battle_won", "dead_allies": "dead_allies", "dead_enemies": "dead_enemies"}
"""Figures of an evaluation, beside return and length, and the entry of ``("next", "info")`` each is counted from."""


class QLearner(ForgetsFirst):
    """Trains agents that share one network, and a mixer of their values, on replayed episodes.

    The loss owns the parameters of agent and mixer and their target copies; the module adds what Lightning asks for:
    the optimizer, the update of the targets, the logging, and the evaluation of battles. It is itself the
    :class:`~qmix_lightning.spec.Policy` that plays them.

    A checkpoint holds the options and the sizes, but not what makes agent and mixer. Give those again where they are
    not the default: ``QLearner.load_from_checkpoint(path, mixer=VDNMixer)``.

    Args:
        spec: The task's sizes, which the environment makes; the command line takes them from the data.
        agent: Makes the network that values each agent's actions, from the task's sizes.
        mixer: Makes the network that mixes the agents' values into the team's, from the task's sizes.
        gamma: Discount γ of a step.
        estimator: What the values are regressed towards: one-step targets ("td0"), rewards to the end of the episode
            ("td1"), or the mean of all between, weighted by powers of λ ("td_lambda").
        lmbda: Weight λ of longer returns in "td_lambda".
        double_q: Whether the online network chooses the action that the target network values.
        loss_function: Distance between value and target.
        optimizer: Optimizer of agent and mixer.
        learning_rate: Its step size at the start.
        final_learning_rate: Its step size at the trainer's last update (``max_steps``), reached in a straight line;
            None keeps it constant.
        target_update: Whether the target networks are copied at intervals ("hard") or follow a little at every update.
        target_interval: Updates between two copies of a hard target.
        target_rate: Share τ by which a soft target follows.
        greedy_network: Whose values greedy play follows. A soft "target" is a running average of the "online" network,
            and steadier.
        epsilon_start: Probability ε of a random action at the start of training.
        epsilon_end: Probability ε of a random action from the end of the anneal on.
        epsilon_steps: Environment steps over which ε is annealed in a straight line.

    Attributes:
        loss: The loss, with the parameters of agent and mixer and of their targets.
        evaluation: Mean and 95 % interval of each figure of the last validation or test.

    Raises:
        ValueError: If an option is unknown or out of range.

    Example:
        >>> spec = TaskSpec("battle/3m", n_agents=3, n_actions=9, observation_size=30, state_size=48, episode_limit=60)
        >>> learner = QLearner(spec, mixer=QMixer)
        >>> action, memory = learner.act(
        ...     torch.zeros(2, 3, 30),
        ...     torch.ones(2, 3, 9, dtype=torch.bool),
        ...     torch.full((2, 3), -1),
        ...     learner.initial_memory(2),
        ... )
        >>> action.shape
        torch.Size([2, 3])

    Source:
        Rashid et al., "QMIX: Monotonic Value Function Factorisation for Deep Multi-Agent Reinforcement Learning", 2018.
    """

    def __init__(
        self,
        spec: TaskSpec | Mapping[str, Any],
        agent: Callable[[TaskSpec], AbstractAgent] = GRUAgent,
        mixer: Callable[[TaskSpec], Mixer] = QMixer,
        *,
        gamma: float = 0.99,
        estimator: Estimator = "td_lambda",
        lmbda: float = 0.6,
        double_q: bool = True,
        loss_function: Literal["l2", "l1", "smooth_l1"] = "l2",
        optimizer: OptimizerName = "adam",
        learning_rate: float = 5e-4,
        final_learning_rate: float | None = None,
        target_update: TargetUpdate = "soft",
        target_interval: int = 50,
        target_rate: float = 0.01,
        greedy_network: GreedyNetwork = "target",
        epsilon_start: float = 1.0,
        epsilon_end: float = 0.05,
        epsilon_steps: int = 50_000,
    ) -> None:
        super().__init__()
        self.spec = spec if isinstance(spec, TaskSpec) else TaskSpec(**spec)
        self.save_hyperparameters(ignore=["spec", "agent", "mixer"])
        self.save_hyperparameters({"spec": asdict(self.spec)})
        refuse_bad_options(self.hparams)
        network = TensorDictSequential(
            TensorDictModule(previous_action, [ACTION], [LAST_ACTION]),
            TensorDictModule(agent(self.spec), [OBSERVATION, LAST_ACTION], [ACTION_VALUE]),
        )
        options: dict[str, Any] = {"loss_function": loss_function, "double_q": double_q}
        self.loss = QMixerLoss(network, mixer(self.spec), layout="episode", diagnostics=True, **options)
        self.loss.set_keys(mask=MASK)
        decay = {"lmbda": lmbda} if estimator == "td_lambda" else {}
        self.loss.make_value_estimator(estimator.replace("_", ""), gamma=gamma, **decay)
        self.target_update = (
            HardUpdate(self.loss, value_network_update_interval=target_interval)
            if target_update == "hard"
            else SoftUpdate(self.loss, tau=target_rate)
        )
        played: dict[str, Any] = {"win_rate": WinRate(), "return": EpisodeReturn(), "episode_length": EpisodeLength()}
        self.metrics: Any = torch.nn.ModuleDict({**played, "dead_allies": Deaths(), "dead_enemies": Deaths()})
        self.evaluation: dict[str, tuple[float, float, float]] = {}
        self._graphed = GraphedLoss(self.loss, self.spec.episode_limit + 1)
        self._agent_of: tuple[Any, Any] = None, None
        self._snapshot: EpsilonGreedyPolicy | None = None
        self._found: dict[str, Tensor] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute: which hook Lightning is in, thirty times a step, without asking if it is a parameter."""
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    @property
    def agent(self) -> AbstractAgent:
        """The network that values each agent's actions."""
        # Asking one module after the other takes as long as a step of 10 battles, and a loss keeps those it has.
        if self._agent_of[0] is not (loss := self._modules["loss"]):
            self._agent_of = loss, self.loss.local_value_network[1].module
        return self._agent_of[1]  # type: ignore[no-any-return]

    @property
    def target_agent(self) -> AbstractAgent:
        """The target of the network that values each agent's actions."""
        return self.loss.target_network("local_value_network")[1].module  # type: ignore[index, no-any-return]

    @property
    def mixer(self) -> Mixer:
        """The network that mixes the agents' values."""
        return self.loss.mixer_network.module  # type: ignore[no-any-return]

    def epsilon(self, env_steps: int | Tensor) -> float | Tensor:
        """Probability of a random action after so many environment steps; of a tensor, a tensor."""
        hp = self.hparams
        return linear(env_steps, hp["epsilon_start"], hp["epsilon_end"], hp["epsilon_steps"])

    @property
    def policy(self) -> EpsilonGreedyPolicy:
        """Who plays: the agents as they are being trained."""
        return EpsilonGreedyPolicy(self.agent, self._greedy_agent, self.epsilon, self._autocast, self._schedule)

    def initial_memory(self, battles: int) -> Tensor:
        """Memory of agents that have not seen anything yet; see :class:`~qmix_lightning.spec.Policy`."""
        return self.agent.initial_memory(battles)

    def act(
        self,
        observation: Tensor,
        action_mask: Tensor,
        last_action: Tensor,
        memory: Tensor,
        *,
        env_steps: int | Tensor | None = None,
        generator: Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Choose one legal action for every agent; see :class:`~qmix_lightning.spec.Policy`."""
        # Only who is asked is looked up, which costs as much as the network of a few battles.
        agent = self._greedy_agent if env_steps is None else self.agent
        policy = EpsilonGreedyPolicy(agent, agent, self.epsilon, self._autocast)
        return policy.act(observation, action_mask, last_action, memory, env_steps=env_steps, generator=generator)

    _act = act  # as it is defined here

    def stage(self, *tensors: Tensor, explore: bool) -> PolicyStage | None:
        """What :meth:`act` does with tensors that stay where they are; see :class:`~qmix_lightning.spec.Staged`."""
        agent = self.agent if explore else self._greedy_agent
        policy = EpsilonGreedyPolicy(agent, agent, lambda n: self.epsilon(n), lambda: self._autocast())  # may change

        def same() -> bool:
            return is_own(self, "act", QLearner._act) and agent is (self.agent if explore else self._greedy_agent)

        return policy.stage(*tensors, explore=explore, while_true=same) if same() else None

    def fixed(self) -> tuple[Hashable, ...]:
        """What a graph of :meth:`act` depends on; see :class:`~qmix_lightning.spec.Replayable`."""
        return self.policy.fixed()

    def snapshot(self) -> Policy:
        """Return a policy that stays as the agents are now, until the next call brings it up to date."""
        policy = self.policy
        if self._snapshot is None:
            self._snapshot = policy.snapshot()
        else:
            self._snapshot.follow(policy)
        return self._snapshot

    def training_step(self, batch: TensorDict, batch_idx: int) -> Tensor:
        """Loss of a batch of replayed episodes ``[B, L + 1]``, of which other processes may have other parts."""
        trainer = self.trainer
        self.forget(batch_idx)
        out = self._graphed(batch)
        loss: Tensor = out["loss"]
        steps: Tensor | float = 1.0
        if trainer.world_size > 1:
            steps, weight = self._shares(batch, loss.dtype)
            loss = loss * weight
        # Logging a scalar costs as much as a small network's update; Lightning writes at these steps only anyway.
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every > 0 and (trainer.global_step + 1) % every == 0:
            error = batch[TD_ERROR].sqrt()[batch[MASK]].mean()
            means = {"td_error": error, "value": out["value"], "target": out["target"]}
            self._found = {"loss": loss.detach(), **{name: mean * steps for name, mean in means.items()}}
        return loss

    # Lightning asks for it at every step, and else it would be put together anew.
    training_step.__signature__ = signature(training_step)  # type: ignore[attr-defined]

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip the gradient, and log at logging steps what the step found and the norm before."""
        norm, parameters = None, [parameter for group in optimizer.param_groups for parameter in group["params"]]
        by_norm = gradient_clip_algorithm in (None, GradClipAlgorithmType.NORM)
        if gradient_clip_val and gradient_clip_val > 0 and by_norm and type(self.trainer.precision_plugin) is Precision:
            # As Lightning does, but the norm is to be had.
            norm = torch.nn.utils.clip_grad_norm_(parameters, gradient_clip_val)
        else:
            if self._found:
                norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        if self._found and norm is not None:
            self._log_train(**self._found, grad_norm=norm)
            self._found = {}

    def setup(self, stage: str) -> None:
        """Look at how the trainer computes.

        Raises:
            ValueError: If it would train in float16 alone.
        """
        if stage == "fit" and self.trainer.precision == "16-true":
            raise ValueError(
                "Expected a precision in which QLearner can learn, got 16-true: steps of its optimizer vanish or"
                " overflow in float16, and nothing scales its gradients. Take 16-mixed, bf16-mixed or bf16-true."
            )

    def configure_optimizers(self) -> Any:
        """One optimizer for agent and mixer, and the decay of its learning rate if there is one."""
        hp, parameters = self.hparams, list(self.loss.parameters())
        optimizer: Optimizer
        if hp["optimizer"] == "adam":
            # One kernel for many; in mixed precision Lightning would not clip gradients for it.
            fused = self.device.type == "cuda" and not isinstance(self.trainer.precision_plugin, MixedPrecision)
            optimizer = Adam(parameters, lr=hp["learning_rate"], fused=fused or None)
        else:
            optimizer = RMSprop(parameters, lr=hp["learning_rate"], alpha=0.99, eps=1e-5)
        # In the same breath as its steps: what Lightning saves after one is consistent.
        self.target_update.follow(optimizer)
        if hp["final_learning_rate"] is None:
            return optimizer
        scheduler = decaying(optimizer, hp, self.trainer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    _configure_optimizers = configure_optimizers  # as they are defined here

    def validation_step(self, batch: TensorDict, batch_idx: int) -> None:
        """Count battles ``[B, T + 1]`` that were just played greedily."""
        self._evaluate(batch, "val")

    def test_step(self, batch: TensorDict, batch_idx: int) -> None:
        """Count battles ``[B, T + 1]`` that were just played greedily."""
        self._evaluate(batch, "test")

    def on_validation_epoch_end(self) -> None:
        """Keep the evaluation's figures with their intervals."""
        self._summarise()

    def on_test_epoch_end(self) -> None:
        """Keep the test's figures with their intervals."""
        self._summarise()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note the task, so that a checkpoint is not mistaken for one of another."""
        checkpoint["task"] = asdict(self.spec)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse the checkpoint of another task, agent or mixer; keep this learner's discounts and learning rate.

        Raises:
            ValueError: If the checkpoint's task or networks have other sizes than these, or it is not of a QLearner, or
                training would go on with another optimizer.
        """
        refuse_other_task(checkpoint.get("task"), self.spec)
        # Discounts are options, not networks: those of this learner hold.
        state, options = checkpoint["state_dict"], "loss._value_estimator."
        for name in [name for name in state if name.startswith(options)]:
            del state[name]
        state.update({name: value for name, value in self.state_dict().items() if name.startswith(options)})
        refuse_other_networks(state, self.state_dict())
        fits = self._trainer is not None and self.trainer.state.fn == "fit"
        if fits and is_own(self, "configure_optimizers", QLearner._configure_optimizers):
            refuse_other_optimizer(checkpoint, self.hparams)
            keep_own_rate(checkpoint, self.hparams, self.trainer.max_steps)

    @property
    def _greedy_agent(self) -> AbstractAgent:
        return self.agent if self.hparams["greedy_network"] == "online" else self.target_agent

    def _schedule(self) -> tuple[Hashable, ...]:
        return tuple(self.hparams[f"epsilon_{part}"] for part in ("start", "end", "steps"))

    def _autocast(self) -> AbstractContextManager[object]:
        """What Lightning opens around its steps in mixed precision; battles are played outside of them."""
        if self._fabric is not None:
            return self._fabric.autocast()
        if self._trainer is None:  # To be told so by an exception takes much longer.
            return nullcontext()
        plugin = self.trainer.precision_plugin
        return plugin.autocast_context_manager() if isinstance(plugin, MixedPrecision) else nullcontext()

    def _evaluate(self, battles: TensorDict, stage: str) -> None:
        mask, info = battles[MASK], battles.get(INFO, {})
        self.metrics["return"].update(battles[REWARD], mask)
        self.metrics["episode_length"].update(mask)
        logged = ["return", "episode_length"]
        for name, key in OUTCOMES.items():
            if key in info:
                self.metrics[name].update(final_value(info[key], mask))
                logged.append(name)
        for name in logged:
            self.log(f"{stage}/{name}", self.metrics[name], on_step=False, on_epoch=True, batch_size=len(mask))

    def _summarise(self) -> None:
        played = {name: metric for name, metric in self.metrics.items() if metric.update_called}
        self.evaluation = {name: (float(metric.compute()), *metric.interval()) for name, metric in played.items()}

    def _log_train(self, **scalars: Tensor) -> None:
        values = torch.stack(list(scalars.values())).detach()
        if self.trainer.world_size > 1:
            values = self.trainer.strategy.reduce(values, reduce_op="mean")
        # Where whoever asks for what `log` was told finds it; but that does its accounts at every step from then on.
        names = [f"train/{name}" for name in scalars]
        self.trainer.callback_metrics.update(zip(names, values, strict=True))
        write(self.trainer, dict(zip(names, values.tolist(), strict=True)), self.global_step)

    def _shares(self, batch: TensorDict, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """What this process's mean over steps, and its weighted mean, count in the mean over all processes.

        Parts of a batch have different numbers of steps, so that the mean of their means is not the mean of the batch.
        """
        mask, key = batch[MASK], self.loss.tensor_keys.priority_weight
        weight = mask if key is None else mask * batch[key]
        ours = torch.stack([mask.sum().to(dtype), weight.sum().to(dtype)])
        mean: Tensor = self.trainer.strategy.reduce(ours.clone(), reduce_op="mean")
        steps, weighted = ours / mean
        return steps, weighted
