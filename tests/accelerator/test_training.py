"""Training on a device whose memory is its own; test_without_hardware.py runs this file in a process of its own."""

import os
from copy import deepcopy
from functools import partial
from itertools import pairwise

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.strategies import SingleDeviceStrategy

from qmix_lightning import GRUAgent, MLPAgent, QLearner, QMixer, ReplayDataModule, ReplayPriorities, VDNMixer
from qmix_lightning.envs.registry import make
from qmix_lightning.exploration.epsilon_greedy import epsilon_greedy
from qmix_lightning.functional.graphs import GRAPHS
from qmix_lightning.rollout import batched
from qmix_lightning.rollout.distant import STEPS_UNSEEN
from qmix_lightning.spec import MASK
from tests.training import LIGHTNINGS_OWN_WARNING, quiet_trainer

pytestmark = [
    pytest.mark.skipif("QMIX_LIGHTNING_FAR_DEVICE" not in os.environ, reason="test_without_hardware.py runs these"),
    pytest.mark.filterwarnings(LIGHTNINGS_OWN_WARNING),
]
if "QMIX_LIGHTNING_FAR_DEVICE" in os.environ:
    from tests.accelerator.battles import FarBattles
    from tests.accelerator.device import DEVICE, WAITS, FarGraph, FarTensor, moved


class FarAccelerator(Accelerator):
    """As much of an accelerator as a trainer asks for."""

    def setup_device(self, device):
        pass

    def teardown(self):
        pass

    def get_device_stats(self, device):
        return {}

    @staticmethod
    def parse_devices(devices):
        return devices

    @staticmethod
    def get_parallel_devices(devices):
        return [DEVICE]

    @staticmethod
    def auto_device_count():
        return 1

    @staticmethod
    def is_available():
        return True

    @staticmethod
    def name():
        return "far"


class FarStrategy(SingleDeviceStrategy):
    """Trains on the device a module whose networks were made there."""

    def __init__(self):
        super().__init__(device=DEVICE, accelerator=FarAccelerator())

    def model_to_device(self):
        learner = self.lightning_module
        learner._device = DEVICE
        learner.metrics.to(DEVICE)
        for part in learner.modules():
            for name, buffer in part._buffers.items():
                part._buffers[name] = None if buffer is None else buffer.to(DEVICE)

    def teardown(self):
        pass


class Record(pl.Callback):
    """Notes losses and where they are, the environment steps, and how often the host waited for the device since."""

    def __init__(self):
        self.losses, self.devices, self.env_steps, self.waits = [], set(), [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.waits.append(dict(WAITS))
        self.env_steps.append(trainer.datamodule.env_steps)
        self.losses.append(outputs["loss"].item())
        self.devices |= {outputs["loss"].device} | {parameter.device for parameter in pl_module.parameters()}
        WAITS.clear()


@pytest.fixture(autouse=True)
def exploring_as_on_the_cpu(monkeypatch):
    """torch has no random numbers for a device that is written in Python: those of the CPU are sent there."""
    monkeypatch.setattr(batched, "Generator", lambda device: torch.Generator())


def train(device, agent, mixer, *, steps=6, evaluate=True, battles="battle/3m", kind=QLearner, **options):
    """Train for some updates; what was recorded, and how the last evaluation ended."""
    pl.seed_everything(1)
    far = device != "cpu"
    data = ReplayDataModule(battles, seed=1, num_envs=8, batch_size=8, val_episodes=8, **options)

    def made(network):
        return lambda spec: moved(network(spec)) if far else network(spec)

    learner, record = kind(data.spec, made(agent), made(mixer)), Record()
    trainer = quiet_trainer(
        steps,
        callbacks=[record, *[ReplayPriorities()] * options.get("prioritised", False)],
        gradient_clip_val=10.0,
        log_every_n_steps=50,
        **({"val_check_interval": 3, "limit_val_batches": 1.0} if evaluate else {}),
        **({"strategy": FarStrategy(), "accelerator": "auto"} if far else {}),
    )
    trainer.fit(learner, data)
    return record, {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}


@pytest.mark.parametrize(
    ("agent", "mixer"), [(GRUAgent, QMixer), (partial(MLPAgent, hidden_size=32), VDNMixer)], ids=["gru", "mlp"]
)
@pytest.mark.parametrize(
    "options",
    [{}, {"prioritised": True}, {"compact": False, "replay_device": "far"}],
    ids=["uniform", "priorities", "there"],
)
def test_training_there_is_training_here(agent, mixer, options):
    here, ours = train("cpu", agent, mixer, **{name: o for name, o in options.items() if name != "replay_device"})
    there, theirs = train("far", agent, mixer, **options)
    assert here.devices == {torch.device("cpu")}
    assert there.devices == {DEVICE}
    assert there.losses == pytest.approx(here.losses, rel=1e-5)
    assert theirs == pytest.approx(ours, rel=1e-5)
    assert "val/win_rate" in theirs


def test_an_update_waits_for_nothing_and_a_step_of_battles_on_the_cpu_for_its_actions():
    record, _ = train("far", GRUAgent, QMixer, steps=20, evaluate=False)
    played = [after - before for before, after in pairwise(record.env_steps)]
    assert sum(played) > 0
    # Behind the first batches, which collect and compile, and before the first logging step.
    assert [waits.get("_to_copy", 0) for waits in record.waits[3:]] == [steps // 8 for steps in played[2:]]
    assert all(set(waits) <= {"_to_copy"} for waits in record.waits[3:])


class WaitingLearner(QLearner):
    """Looks at what it does, which a graph cannot."""

    def act(self, *args, **options):
        action, memory = super().act(*args, **options)
        assert int(action.max()) >= 0
        return action, memory


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (QLearner, "The rollout step was recorded, and is replayed from a graph from now on."),
        (WaitingLearner, "The rollout step is not replayed from a graph: RuntimeError: _local_scalar_dense: operation"),
    ],
    ids=["replayed", "called"],
)
def test_battles_policy_replay_and_update_there_are_those_here(kind, told, monkeypatch, caplog):
    monkeypatch.setitem(GRAPHS, "far", FarGraph)
    caplog.set_level("INFO", "qmix_lightning.graphs")
    here, ours = train("cpu", GRUAgent, QMixer, steps=20, compact=False)
    there, theirs = train(
        "far", GRUAgent, QMixer, steps=20, compact=False, battles="tests.accelerator.battles:FarBattles", kind=kind
    )
    assert there.losses == pytest.approx(here.losses, rel=1e-4)
    assert there.env_steps == here.env_steps
    assert theirs == pytest.approx(ours, rel=1e-4)
    said = [record.getMessage() for record in caplog.records if record.name == "qmix_lightning.graphs"]
    assert said[0].startswith(told)
    assert said[1:] == ["The update was recorded, and is replayed from a graph from now on."]


def test_battles_policy_replay_and_update_there_wait_only_for_who_ended_and_how_long_their_episodes_are(monkeypatch):
    monkeypatch.setitem(GRAPHS, "far", FarGraph)
    options = {"compact": False, "battles": "tests.accelerator.battles:FarBattles", "evaluate": False}
    record, _ = train("far", GRUAgent, QMixer, steps=30, **options)
    played = [0, *(after - before for before, after in pairwise(record.env_steps))]
    assert sum(played) > 0
    for steps, waits in list(zip(played, record.waits, strict=True))[1:]:
        # Up to 16 steps of 8 battles are looked at once, and the lengths of what ended are asked for when it is kept.
        assert waits.get("_to_copy", 0) <= (2 if steps else 0)
        assert set(waits) <= {"_to_copy"}


def test_actions_are_chosen_where_the_values_are():
    value, legal = torch.randn(64, 3, 9), torch.rand(64, 3, 9) < 0.5
    legal[..., 0] = True
    for epsilon in (0.0, 0.5, 1.0):
        here = epsilon_greedy(value, legal, epsilon, torch.Generator().manual_seed(1))
        there = epsilon_greedy(value.to(DEVICE), legal.to(DEVICE), epsilon, torch.Generator().manual_seed(1))
        assert isinstance(there, FarTensor)
        assert torch.equal(here, there.cpu())


def test_a_policy_there_plays_the_battles_of_one_here():
    spec, played = make("battle/2s3z").spec, []
    pl.seed_everything(3)
    agent = GRUAgent(spec)
    for place in (lambda network: network, moved):
        learner = QLearner(spec, agent=lambda _, place=place: place(deepcopy(agent)))
        rollout = batched.BatchedRollout(make("battle/2s3z", num_envs=4, seed=5), seed=2, compact=True)
        played.append(rollout.step(learner, explore=True, times=60))
    assert len(played[0]) > 2
    assert (played[0] == played[1]).all()


@pytest.mark.parametrize("compact", [True, False])
def test_battles_there_are_recorded_without_a_look_at_each_step(compact):
    agent, rollouts = GRUAgent(make("battle/2s3z").spec), []
    for place, kind in ((lambda network: network, make), (moved, FarBattles)):
        learner = QLearner(make("battle/2s3z").spec, agent=lambda _, place=place: place(deepcopy(agent)))
        rollout = batched.BatchedRollout(kind("battle/2s3z", num_envs=4, seed=5), seed=2, compact=compact)
        rollouts.append((rollout, learner))
    (here, ours), (there, theirs) = rollouts
    for times in (1, 7, 16, 40):
        expected = here.step(ours, explore=True, times=times)
        WAITS.clear()
        episodes = there.step(theirs, explore=True, times=times)
        assert sum(WAITS.values()) == -(-times // STEPS_UNSEEN)  # one for each look
        assert (episodes is None) == (expected is None)
        if episodes is not None:
            assert episodes[MASK].device == DEVICE
            for key in expected.keys(True, True):
                assert torch.equal(episodes[key].cpu(), expected[key]), key
    assert there.episodes == here.episodes > 2
    assert torch.equal(there.play(theirs, 6, seed=3)[MASK].cpu(), here.play(ours, 6, seed=3)[MASK])


def test_tensors_of_both_places_are_refused():
    with pytest.raises(RuntimeError, match=r"add: expected all tensors on far:0, got one of \[2\] on the CPU"):
        torch.ones(2, device=DEVICE) + torch.ones(2)
