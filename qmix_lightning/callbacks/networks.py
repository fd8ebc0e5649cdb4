"""What the networks make of a batch."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from tensordict import TensorDict
from torch import Tensor

from qmix_lightning.agents.inputs import previous_action
from qmix_lightning.callbacks.stages import counted
from qmix_lightning.logger import boards, is_logging_step, write
from qmix_lightning.module import QLearner
from qmix_lightning.spec import ACTION, MASK, OBSERVATION, STATE

_LOOKED_AT = 512
"""Steps of a batch, evenly spread, at which the mixer is looked at."""


class NetworkMonitor(Callback):
    r"""Logs histograms of each agent's values in a batch, and how the mixer weighs them.

    At every ``every``-th logging step, of the batch just trained on: the histograms ``q/agent_0`` and so on, of the
    values of the actions taken; what the mixer shows of its weights at the batch's states, for QMIX the histograms
    ``mixer/w_1`` and ``mixer/w_final``; and ``mixer/slope_agent_0`` and so on, the mean of

    .. math:: \frac{\partial Q_{tot}}{\partial Q_i}

    by which agents count alike, or do not. It costs a third of an update, on the first process only.

    Args:
        every: Logging steps from one histogram to the next.

    Raises:
        ValueError: If ``every`` is not positive.

    Example:
        >>> trainer = Trainer(callbacks=[NetworkMonitor()], logger=False, accelerator="cpu")
    """

    def __init__(self, every: int = 10) -> None:
        if every < 1:
            raise ValueError(f"every counts logging steps and must be positive, got {every}.")
        self.every = every

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: TensorDict, batch_idx: int
    ) -> None:
        """Log at every ``every``-th logging step."""
        if not (is_logging_step(trainer, self.every) and trainer.is_global_zero):
            return
        learner: QLearner = pl_module  # type: ignore[assignment]
        with counted(trainer, "log"):
            mask = batch[MASK].squeeze(-1)
            chosen = chosen_values(learner, batch)[mask]
            histograms = {f"q/agent_{agent}": values for agent, values in enumerate(chosen.unbind(1))}
            some = slice(None, None, -(-len(chosen) // _LOOKED_AT))
            state = batch[STATE][mask][some]
            with torch.no_grad():
                weights = learner.mixer.mixing_weights(state) or {}
            histograms |= {f"mixer/{name}": weight for name, weight in weights.items()}
            for board in boards(trainer):
                board.log_histograms(histograms)
            slopes = _slopes(learner, chosen[some], state).tolist()
            write(trainer, {f"mixer/slope_agent_{agent}": slope for agent, slope in enumerate(slopes)})


@torch.no_grad()
def chosen_values(learner: QLearner, episodes: TensorDict) -> Tensor:
    """The values ``[B, T, N, 1]`` of the actions taken in episodes ``[B, T]``, by a learner's online agents."""
    action = episodes[ACTION]
    values: Tensor = learner.agent(episodes[OBSERVATION], previous_action(action))
    return values.gather(-1, action.unsqueeze(-1))


def joint_value(learner: QLearner, chosen: Tensor, state: Tensor) -> Tensor:
    """The value ``[*B, 1]`` of joint actions with values ``[*B, N, 1]`` at states ``[*B, S]``, by the online mixer."""
    mixer = learner.mixer
    joint: Tensor = mixer(chosen, state) if mixer.needs_state else mixer(chosen)
    return joint


def _slopes(learner: QLearner, chosen: Tensor, state: Tensor) -> Tensor:
    """The mean derivative of the joint value by each agent's, ``[N]``."""
    with torch.enable_grad():
        chosen = chosen.detach().requires_grad_()
        (slope,) = torch.autograd.grad(joint_value(learner, chosen, state).sum(), chosen)
    return slope.mean(0).squeeze(-1)
