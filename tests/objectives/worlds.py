"""Batches and networks for the tests of losses."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import Tensor, nn

from qmix_lightning.mixers.qmix import QMixer
from qmix_lightning.mixers.vdn import VDNMixer
from qmix_lightning.objectives.qmixer import QMixerLoss

N, A, OBS, S = 3, 4, 5, 6
OBSERVATION, VALUE = ("agents", "observation"), ("agents", "action_value")


class GRUAgent(nn.Module):
    """A recurrent agent for ``[B, T, N, OBS]``, from a memory of zeros."""

    def __init__(self, hidden: int = 6) -> None:
        super().__init__()
        self.encode, self.decode = nn.Linear(OBS, hidden), nn.Linear(hidden, A)
        self.gru = nn.GRU(hidden, hidden, batch_first=True)

    def forward(self, observation: Tensor) -> Tensor:
        batch, steps, agents = observation.shape[:3]
        x = self.encode(observation).relu().transpose(1, 2).flatten(0, 1)
        return self.decode(self.gru(x)[0]).view(batch, agents, steps, A).transpose(1, 2)


def make_loss(
    *, layout: str = "episode", recurrent: bool = False, mixer: str = "qmix", perturbed: bool = True, **options: object
) -> QMixerLoss:
    """A loss in float64 whose targets differ from its networks."""
    torch.manual_seed(0)
    net = GRUAgent() if recurrent else nn.Sequential(nn.Linear(OBS, 8), nn.Tanh(), nn.Linear(8, A))
    mix = QMixer(S, 4, N, hypernet_layers=2, hypernet_embed=5) if mixer == "qmix" else VDNMixer(N)
    options.setdefault("action_space", "categorical")
    local = TensorDictModule(net, [OBSERVATION], [VALUE])
    loss: QMixerLoss = QMixerLoss(local, mix, layout=layout, **options).double()  # type: ignore[arg-type]
    if perturbed and loss.delay_value:
        with torch.no_grad():
            for name in ("local_value_network", "mixer_network"):
                for buffer in loss.target_params(name).buffers():
                    buffer.add_(torch.randn_like(buffer), alpha=0.3)
    loss.has_target_update = True
    return loss


def make_episodes(battles: int = 4, steps: int = 6, seed: int = 1) -> TensorDict:
    """Episodes of full length: terminated, out of time, and cut without being done."""
    torch.manual_seed(seed)
    shape = (battles, steps + 1)
    legal = torch.rand(*shape, N, A) < 0.6
    legal[..., 1] = True
    done = torch.zeros(*shape, 1, dtype=torch.bool)
    done[: battles // 2 + 1, steps - 1] = True
    terminated = done.clone()
    terminated[battles // 2 :] = False
    played = torch.ones(*shape, 1, dtype=torch.bool)
    played[:, -1] = False
    agents = {
        "observation": torch.randn(*shape, N, OBS, dtype=torch.float64),
        "action": torch.where(torch.rand(*shape, N) < 0.5, 1, legal.int().argmax(-1)),
        "action_mask": legal,
    }
    reward = torch.randn(*shape, 1, dtype=torch.float64)
    return TensorDict(
        {
            "agents": agents,
            "state": torch.randn(*shape, S, dtype=torch.float64),
            "next": {"reward": reward, "done": done, "terminated": terminated},
            "mask": played,
        },
        shape,
    )


def pad(episodes: TensorDict, extra: int, poison: float) -> TensorDict:
    """Append steps that were never played and hold ``poison``; no action is legal there."""
    longer = torch.cat([episodes, episodes[:, :extra].clone()], 1)
    padding = longer[:, episodes.shape[1] :]
    for key in (OBSERVATION, "state", ("next", "reward")):
        padding[key].fill_(poison)
    for key in ("mask", ("agents", "action_mask"), ("next", "done"), ("next", "terminated")):
        padding[key].fill_(False)
    longer["next", "reward"][:, episodes.shape[1] - 1] = poison
    padding["agents", "action"].fill_(-1)
    return longer


def gradients(loss: QMixerLoss, batch: TensorDict) -> dict[str, Tensor]:
    """Gradients of every parameter for a batch."""
    loss.zero_grad()
    loss(batch)["loss"].backward()
    return {name: parameter.grad.clone() for name, parameter in loss.named_parameters() if parameter.grad is not None}


def as_transitions(episodes: TensorDict) -> TensorDict:
    """The same steps, each with its next step stored beside it."""
    steps = episodes[:, :-1].clone()
    steps["next"].update(episodes[:, 1:].select("agents", "state").clone())
    return steps


def assert_same(ours: dict[str, Any], theirs: dict[str, Any], **tolerance: float) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], **tolerance)
