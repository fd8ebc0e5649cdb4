"""A battle to look at, at every evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback, LightningModule, Trainer

from qmix_lightning.callbacks.stages import counted
from qmix_lightning.datamodule import ReplayDataModule
from qmix_lightning.envs.registry import make
from qmix_lightning.logger import boards
from qmix_lightning.module import QLearner

if TYPE_CHECKING:
    from qmix_lightning.envs.battle.env import BattleEnvironment

_PICTURES = 40
"""In an animation, at the most."""


class BattleFilm(Callback):
    """Shows a greedy battle as an animation, ``val/battle`` in TensorBoard's tab IMAGES, after evaluations of a fit.

    It is always the same battle: what changes from one evaluation to the next is how the team plays it. On the first
    process only, and only where :class:`~qmix_lightning.logger.EnvStepLogger` logs battles; a film takes about 0.1 s.

    Args:
        every: Evaluations from one film to the next; 0 films nothing.
        width: Of the animation, in pixels.

    Raises:
        ValueError: If ``every`` is negative, or ``width`` is odd or less than 64.

    Example:
        >>> trainer = Trainer(callbacks=[BattleFilm(every=5)], logger=False, accelerator="cpu")
    """

    def __init__(self, every: int = 1, width: int = 320) -> None:
        if every < 0:
            raise ValueError(f"every counts evaluations and must not be negative, got {every}. 0 films nothing.")
        if width < 64 or width % 2:
            raise ValueError(f"width must be even and at least 64 pixels, got {width}.")
        self.every, self.width = every, width
        self._evaluations = 0
        self._env: BattleEnvironment | None = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Film a battle, if it is time for one."""
        data: ReplayDataModule = trainer.datamodule  # type: ignore[attr-defined]
        if trainer.state.fn != "fit" or trainer.sanity_checking or not self.every or not data.env.startswith("battle/"):
            return
        due = self._evaluations % self.every == 0
        self._evaluations += 1
        if due and trainer.is_global_zero and (shown_by := boards(trainer)):
            with counted(trainer, "log"):
                gif = self._film(data, pl_module)  # type: ignore[arg-type]
                for board in shown_by:
                    board.log_animation("val/battle", gif)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give back the battle."""
        if self._env is not None:
            self._env.close()
            self._env = None

    def state_dict(self) -> dict[str, Any]:
        """How many evaluations there were."""
        return {"evaluations": self._evaluations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self._evaluations = state_dict["evaluations"]

    def _film(self, data: ReplayDataModule, learner: QLearner) -> bytes:
        # The simulator and the viewer are not loaded before they are needed: a matrix game has no use for them.
        from qmix_lightning.envs.battle.env import BattleEnvironment
        from qmix_lightning.envs.battle.filming import film
        from qmix_lightning.envs.battle.viewer.drawing import BattlePainter
        from qmix_lightning.envs.battle.viewer.gif import gif_of
        from qmix_lightning.envs.battle.viewer.reel import reel

        if self._env is None:
            env = make(data.env, **data.env_options)
            assert isinstance(env, BattleEnvironment), "The name says so."
            self._env = env
        self._env.seed(data.seed)
        battle = film(self._env, learner, type(learner.mixer).__name__)
        painter = BattlePainter(battle, width=self.width, detail=2)
        steps = -(-painter.last // (battle.step_loops * _PICTURES))
        return gif_of(*reel(painter, every=steps * battle.step_loops))
