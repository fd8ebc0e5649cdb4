"""Trainings in every precision that Lightning offers, 16-mixed included, which it has for GPUs only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric import Fabric
from lightning.pytorch import Callback
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor

from qmix_lightning.agents.gru import GRUAgent
from qmix_lightning.spec import TD_ERROR, TaskSpec
from tests.training import LIGHTNINGS_OWN_WARNING, quiet_trainer, small_data, small_learner

pytestmark = pytest.mark.filterwarnings(LIGHTNINGS_OWN_WARNING)

WIDTH = {"32-true": 32, "bf16-mixed": 32, "16-mixed": 32, "bf16-true": 16, "64-true": 64}
"""Bits of the parameters."""


def options(precision: str, **scaler: float) -> dict[str, Any]:
    if precision != "16-mixed":
        return {"precision": precision}
    return {"plugins": MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", **{"init_scale": 64.0, **scaler}))}


class _NotingAgent(GRUAgent):
    """An agent that notes in what precision it acts."""

    def __init__(self, spec: TaskSpec) -> None:
        super().__init__(spec, hidden_size=8)
        self.noted: set[tuple[torch.dtype, ...]] = set()

    def step(self, observation: Tensor, last_action: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        value, new = super().step(observation, last_action, memory)
        self.noted.add((memory.dtype, value.dtype))
        return value, new


class Errors(Callback):
    """Keeps the losses, and the types of what the loss wrote."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.types: set[torch.dtype] = set()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.losses.append(float(outputs["loss"]))
        self.types.add(batch[TD_ERROR].dtype)


def floats(tensors: Any) -> list[Tensor]:
    return [tensor for tensor in tensors if isinstance(tensor, Tensor) and tensor.is_floating_point()]


@pytest.mark.parametrize("precision", WIDTH)
def test_training_and_validation_run_in_every_precision(precision: str) -> None:
    data, errors = small_data("battle/3m"), Errors()
    learner = small_learner(data, learning_rate=0.01)
    before = [parameter.detach().clone() for parameter in learner.parameters()]
    trainer = quiet_trainer(
        3, callbacks=[errors], limit_val_batches=1, val_check_interval=1, gradient_clip_val=10.0, **options(precision)
    )
    trainer.fit(learner, data)
    assert all(not torch.equal(old, new) for old, new in zip(before, learner.parameters(), strict=True))
    assert {p.dtype.itemsize * 8 for p in learner.parameters()} == {WIDTH[precision]}
    states = [state for each in trainer.optimizers[0].state.values() for state in each.values() if state.ndim]
    assert {state.dtype.itemsize * 8 for state in states} == {WIDTH[precision]}
    assert all(tensor.isfinite().all() for tensor in (*floats(learner.state_dict().values()), *states))
    assert errors.types == {torch.float64 if precision == "64-true" else torch.float32}
    assert "win_rate" in learner.evaluation


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_mixed_precision_saves_single_precision(precision: str) -> None:
    data = small_data()
    learner = small_learner(data)
    quiet_trainer(2, **options(precision)).fit(learner, data)
    assert {tensor.dtype for tensor in floats(learner.state_dict().values())} == {torch.float32}


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed", "bf16-true", "64-true"])
def test_first_losses_are_those_of_single_precision_to_its_digits(precision: str) -> None:
    losses = {}
    for each in ("32-true", precision):
        data, errors = small_data("battle/3m"), Errors()
        quiet_trainer(1, callbacks=[errors], **options(each)).fit(small_learner(data), data)
        losses[each] = errors.losses
    assert losses[precision] == pytest.approx(losses["32-true"], rel=0.02)


@pytest.mark.parametrize(
    ("precision", "memory", "value"),
    [
        ("32-true", torch.float32, torch.float32),
        ("bf16-mixed", torch.float32, torch.float32),
        ("16-mixed", torch.float32, torch.float32),
        ("bf16-true", torch.bfloat16, torch.bfloat16),
        ("64-true", torch.float64, torch.float64),
    ],
)
def test_battles_are_played_in_the_chosen_precision(precision: str, memory: torch.dtype, value: torch.dtype) -> None:
    data = small_data("battle/3m")
    learner = small_learner(data, agent=_NotingAgent, greedy_network="online")
    quiet_trainer(1, limit_val_batches=1, val_check_interval=1, **options(precision)).fit(learner, data)
    assert learner.agent.noted == {(memory, value)}


def test_without_a_trainer_it_plays_in_the_precision_of_its_parameters() -> None:
    data = small_data("battle/3m")
    learner = small_learner(data, agent=_NotingAgent, greedy_network="online")
    data.rollout.play(learner, 2, seed=1)
    data.rollout.play(learner.double(), 2, seed=1)
    assert learner.agent.noted == {(torch.float32, torch.float32), (torch.float64, torch.float64)}


def test_target_updates_count_the_steps_that_were_made() -> None:
    data = small_data("battle/3m")
    learner = small_learner(data, target_update="hard", target_interval=2)
    # Nothing scaled so much fits into float16, until the scale falls.
    overflowing = options("16-mixed", init_scale=2.0**100, backoff_factor=2.0**-45)
    trainer = quiet_trainer(5, **overflowing)
    trainer.fit(learner, data)
    scaler = trainer.precision_plugin.scaler
    made = int(trainer.optimizers[0].state[learner.agent.head.bias]["step"])
    assert scaler.get_scale() < 2.0**100
    assert trainer.global_step == 5
    assert 0 < made < 5
    assert learner.target_update.counter == made


@pytest.mark.parametrize("then", ["32-true", "bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("first", ["32-true", "bf16-mixed", "16-mixed"])
def test_a_run_goes_on_in_any_precision_of_single_precision_parameters(first: str, then: str, tmp_path: Path) -> None:
    data = small_data()
    trainer = quiet_trainer(2, **options(first))
    trainer.fit(small_learner(data), data)
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    again, errors = small_data(), Errors()
    quiet_trainer(4, callbacks=[errors], **options(then)).fit(
        small_learner(again), again, ckpt_path=tmp_path / "two.ckpt"
    )
    assert len(errors.losses) == 2


def test_float16_alone_is_refused() -> None:
    data = small_data()
    with pytest.raises(ValueError, match=r"got 16-true: .* Take 16-mixed, bf16-mixed or bf16-true"):
        quiet_trainer(1, **options("16-true")).fit(small_learner(data), data)


@pytest.mark.parametrize(("precision", "dtype"), [("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)])
def test_a_learner_of_fabrics_plays_in_its_precision(precision: Any, dtype: torch.dtype) -> None:
    data, noted = small_data(), []
    learner = small_learner(data, agent=_NotingAgent)
    learner.agent.input.register_forward_hook(lambda module, given, out: noted.append(out.dtype))
    Fabric(accelerator="cpu", devices=1, precision=precision).setup_module(learner)
    data.rollout.step(learner, explore=True)
    assert noted == [dtype]
