"""Everything that TensorBoard shows of a run."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from qmix_lightning.callbacks.evaluation import EvaluationMonitor
from qmix_lightning.callbacks.film import BattleFilm
from qmix_lightning.callbacks.hyperparameters import HyperParameters
from qmix_lightning.callbacks.monitor import TrainingMonitor
from qmix_lightning.callbacks.networks import NetworkMonitor
from qmix_lightning.callbacks.replay import ReplayMonitor
from qmix_lightning.callbacks.stages import StageTimes
from qmix_lightning.logger import boards

Layout = dict[str, dict[str, list[Any]]]


class CockpitLayout(Callback):
    """Groups the curves of a run in TensorBoard's tab CUSTOM SCALARS.

    The groups are Outcome, Greedy play, Learning, Exploration and replay, and Speed. Charts of what a run does not
    have, like wins in a matrix game, are left out.

    Example:
        >>> trainer = Trainer(callbacks=[CockpitLayout()], logger=False, accelerator="cpu")
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the layout."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        if trainer.is_global_zero:
            for board in boards(trainer):
                board.log_layout(layout("battle_won" in data.rollout.info_keys, data.prioritised))


def cockpit(
    *, every: int = 10, agent: str | None = None, mixer: str | None = None, film: BattleFilm | None = None
) -> list[Callback]:
    """The callbacks that fill TensorBoard, in the order in which they belong.

    Args:
        every: Logging steps from one histogram to the next.
        agent: What made the agents, as the tab HPARAMS shall show it; None shows the name of their class.
        mixer: Likewise for the mixer.
        film: Shows battles; None shows one at every evaluation.

    Raises:
        ValueError: If ``every`` is not positive.

    Example:
        >>> from qmix_lightning.logger import EnvStepLogger
        >>> trainer = Trainer(callbacks=cockpit(), logger=EnvStepLogger("3m", "logs"), accelerator="cpu")
    """
    return [
        StageTimes(),
        TrainingMonitor(),
        ReplayMonitor(every),
        NetworkMonitor(every),
        EvaluationMonitor(),
        film or BattleFilm(),
        HyperParameters(agent, mixer),
        CockpitLayout(),
    ]


def layout(battles: bool, prioritised: bool) -> Layout:
    """The charts of the tab CUSTOM SCALARS.

    Args:
        battles: Whether episodes are won or lost.
        prioritised: Whether replay is prioritised.

    Returns:
        By the names of groups and of their charts, what :meth:`~qmix_lightning.logger.EnvStepLogger.log_layout` takes.

    Example:
        >>> list(layout(battles=True, prioritised=False))
        ['Outcome', 'Greedy play', 'Learning', 'Exploration and replay', 'Speed']
    """
    # TensorBoard shows lines before margins, and margins from the last to the first.
    outcome = {"return, with its 95 % interval": _margin("val/return")}
    greedy = {"length of an episode": _lines("val/episode_length")}
    if battles:
        outcome["win rate, with its 95 % interval"] = _margin("val/win_rate")
        greedy["dead allies and enemies"] = _lines("val/dead_allies", "val/dead_enemies")
    replay = {
        "ε": _lines("train/epsilon"),
        "fill of the replay": _lines("train/replay_fill"),
        "age of its episodes, in environment steps": _lines("train/replay_age"),
        "episodes played": _lines("train/episodes"),
    }
    if prioritised:
        replay["largest priority of a batch"] = _lines("train/priority_max")
        replay["β"] = _lines("train/beta")
    return {
        "Outcome": outcome,
        "Greedy play": greedy,
        "Learning": {
            "value and target": _lines("train/value", "train/target"),
            "value above the realised return": _lines("val/overestimation"),
            "TD error": _lines("train/td_error"),
            "loss": _lines("train/loss"),
            "norm of the gradient": _lines("train/grad_norm"),
            "slope of the mixer in each agent's value": _lines(r"mixer/slope_agent_\d+"),
        },
        "Exploration and replay": replay,
        "Speed": {
            "share of the wall time": _lines(r"speed/\w+_share"),
            "overall: environment steps a second": _lines("speed/env_steps_per_second"),
            "overall: updates a second": _lines("speed/updates_per_second"),
            "collecting: environment steps a second": _lines("speed/collect_env_steps_per_second"),
            "sampling: batches a second": _lines("speed/sample_batches_per_second"),
            "updating: batches a second": _lines("speed/update_batches_per_second"),
            "evaluating: battles a second": _lines("speed/evaluate_battles_per_second"),
        },
    }


def _lines(*tags: str) -> list[Any]:
    return ["Multiline", [f"^{tag}$" for tag in tags]]


def _margin(tag: str) -> list[Any]:
    return ["Margin", [tag, f"{tag}_low", f"{tag}_high"]]
