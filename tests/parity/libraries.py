"""Two libraries with the same names, and a world in which to compare them: the second one has the defects."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import Tensor, nn

import qmix_lightning

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what torchrl's own imports deprecate
    pytest.importorskip("torchrl")
    import torchrl.modules as rl_modules
    from torchrl.data import Categorical as Categorical
    from torchrl.modules.models import multiagent as rl_mixers
    from torchrl.objectives import HardUpdate as RLHardUpdate
    from torchrl.objectives import SoftUpdate as RLSoftUpdate
    from torchrl.objectives.multiagent import QMixerLoss as RLQMixerLoss


@dataclass(frozen=True)
class Library:
    QMixerLoss: Any
    Mixer: Any
    QMixer: Any
    VDNMixer: Any
    QValueModule: Any
    SafeSequential: Any
    EGreedyModule: Any
    SoftUpdate: Any
    HardUpdate: Any


NAMES: Final = tuple(Library.__dataclass_fields__)
OURS: Final = Library(**{name: getattr(qmix_lightning, name) for name in NAMES})
TORCHRL: Final = Library(
    RLQMixerLoss, rl_mixers.Mixer, rl_mixers.QMixer, rl_mixers.VDNMixer, rl_modules.QValueModule,
    rl_modules.SafeSequential, rl_modules.EGreedyModule, RLSoftUpdate, RLHardUpdate,
)  # fmt: skip

NOTHING_RAISED: Final = pytest.fail.Exception
"""How ``pytest.raises`` fails when an error, or its words, did not come."""

SILENCE: Final = pytest.mark.filterwarnings("ignore:No target network updater:UserWarning")

N, A, OBS, S = 3, 4, 5, 6
OBSERVATION, VALUE, CHOSEN = ("agents", "observation"), ("agents", "action_value"), ("agents", "chosen_action_value")
ACTION, ACTION_MASK = ("agents", "action"), ("agents", "action_mask")
PLAYED: Final = ("collector", "mask")
"""Where TorchRL's losses look for a mask of padding, by themselves."""


def both(*raises: type[BaseException]) -> pytest.MarkDecorator:
    """Run a test for each library: ours passes it, TorchRL's fails it with one of ``raises`` and with nothing else."""
    fails = pytest.mark.xfail(strict=True, raises=raises)
    return pytest.mark.parametrize(
        "lib", [pytest.param(OURS, id="ours"), pytest.param(TORCHRL, id="torchrl", marks=fails)]
    )


def opt_in(loss: Any, **keys: Any) -> None:
    """Name the keys of ours that TorchRL's losses are meant to find by themselves."""
    if isinstance(loss, OURS.QMixerLoss):
        loss.set_keys(**keys)


def transitions(*shape: int) -> TensorDict:
    """Random steps that hold their next step, terminated, out of time and neither."""
    torch.manual_seed(1)
    numbers = {"dtype": torch.float64}

    def step() -> dict[str, Any]:
        return {
            "agents": {"observation": torch.randn(*shape, N, OBS, **numbers)},
            "state": torch.randn(*shape, S, **numbers),
        }

    td = TensorDict(step(), shape)
    td[ACTION] = torch.randint(A, (*shape, N))
    terminated, truncated = (torch.rand(*shape, 1) < 0.2 for _ in range(2))
    outcome = {"reward": torch.randn(*shape, 1, **numbers), "terminated": terminated, "done": terminated | truncated}
    td["next"] = TensorDict(step() | outcome, shape)
    return td


@torch.no_grad()
def perturb(tensors: Iterable[Tensor]) -> None:
    for tensor in tensors:
        tensor += 0.3 * torch.randn_like(tensor)


class World:
    """A loss, its networks, and copies of what they were when it was made, which its targets still are."""

    def __init__(
        self,
        lib: Library,
        mixer: str = "qmix",
        *,
        net: nn.Module | None = None,
        head: str = "categorical",
        masked: bool = False,
        **options: Any,
    ) -> None:
        torch.manual_seed(0)
        self.lib = lib
        self.net = (nn.Sequential(nn.Linear(OBS, 8), nn.Tanh(), nn.Linear(8, A)) if net is None else net).double()
        self.mixer = (lib.QMixer((S,), 4, N, "cpu") if mixer == "qmix" else lib.VDNMixer(N, "cpu")).double()
        self.target_net, self.target_mixer = copy.deepcopy(self.net), copy.deepcopy(self.mixer)
        mask = ACTION_MASK if masked else None
        choice = lib.QValueModule(head, action_value_key=VALUE, action_mask_key=mask, out_keys=[ACTION, VALUE, CHOSEN])
        self.local = lib.SafeSequential(TensorDictModule(self.net, [OBSERVATION], [VALUE]), choice)
        keys = [CHOSEN, "state"] if mixer == "qmix" else [CHOSEN]
        self.mixing = TensorDictModule(self.mixer, keys, ["chosen_action_value"])
        self.loss = self.make_loss(**options)
        if self.loss.delay_value:
            self.perturb()

    def make_loss(self, **options: Any) -> Any:
        """Another loss of the same networks."""
        loss = self.lib.QMixerLoss(self.local, self.mixing, **{"action_space": "categorical", **options})
        loss.make_value_estimator("td0", gamma=0.5)
        return loss

    def perturb(self) -> None:
        """Change the networks, but not the copies in the targets."""
        perturb((*self.net.parameters(), *self.mixer.parameters()))

    @staticmethod
    def _mix(mixer: Any, chosen: Tensor, step: TensorDict) -> Tensor:
        return mixer(chosen, step["state"]) if mixer.needs_state else mixer(chosen)

    @torch.no_grad()
    def value(self, td: TensorDict) -> Tensor:
        """The joint value of what was done, ``[*B, 1]``."""
        return self._mix(self.mixer, self.net(td[OBSERVATION]).gather(-1, td[ACTION].unsqueeze(-1)), td)

    @torch.no_grad()
    def target(self, td: TensorDict, greedy: nn.Module | None = None) -> Tensor:
        """The one-step target ``[*B, 1]``, with the actions that ``greedy``, the target network if None, prefers."""
        after = td["next"]
        value = self.target_net(after[OBSERVATION])
        preferred = value if greedy is None else greedy(after[OBSERVATION])
        chosen = value.gather(-1, preferred.argmax(-1, keepdim=True))
        return after["reward"] + 0.5 * ~after["terminated"] * self._mix(self.target_mixer, chosen, after)

    def error(self, td: TensorDict, **options: Any) -> Tensor:
        """The squared temporal-difference error ``[*B, 1]``."""
        return (self.value(td) - self.target(td, **options)).square()


def td_error(loss: Any, td: TensorDict) -> Tensor:
    """What the loss writes for a batch, which stays as it is."""
    batch = td.clone()
    loss(batch)
    return batch["td_error"]


def leaves(params: Any) -> dict[Any, Tensor]:
    """Copies of all parameters and buffers of a network in a loss."""
    return {key: value.detach().clone() for key, value in sorted(params.items(True, True), key=str)}
