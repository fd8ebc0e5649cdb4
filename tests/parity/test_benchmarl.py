"""BenchMARL's way of building QMIX, with torchrl's specs and networks, trains to the same parameters."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule, TensorDictModuleBase, TensorDictSequential
from torch import nn

from tests.parity.libraries import OURS, SILENCE, TORCHRL, Library

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what torchrl's own imports deprecate
    from torchrl.data import Categorical, Composite, OneHot
    from torchrl.modules import MultiAgentMLP
    from torchrl.objectives import ValueEstimators

pytestmark = SILENCE

GROUP, N, A, OBS, S, B = "adversary", 3, 5, 7, 4, 32
OBSERVATION, ACTION, ACTION_MASK = (GROUP, "observation"), (GROUP, "action"), (GROUP, "action_mask")
VALUE, CHOSEN = (GROUP, "action_value"), (GROUP, "chosen_action_value")


class Model(TensorDictModuleBase):
    """A network with a forward of its own, whose parameters torchrl keeps as a tree."""

    def __init__(self, share_params: bool) -> None:
        super().__init__()
        self.in_keys, self.out_keys = [OBSERVATION], [VALUE]
        self.net = MultiAgentMLP(OBS, A, N, centralised=False, share_params=share_params, depth=2, num_cells=16)

    def forward(self, tensordict: TensorDict) -> TensorDict:
        return tensordict.set(VALUE, self.net(tensordict[OBSERVATION]))


def build(lib: Library, *, share_params: bool, masked: bool, state: bool, delay_value: bool, one_hot: bool) -> Any:
    """The loss, and what updates its targets, as BenchMARL's ``Qmix._get_loss`` makes them."""
    torch.manual_seed(0)
    leaf = OneHot(A, shape=(N, A)) if one_hot else Categorical(A, shape=(N,))
    action_spec = Composite({GROUP: Composite({"action": leaf}, shape=(N,))})
    choice = lib.QValueModule(
        action_value_key=VALUE,
        action_mask_key=ACTION_MASK if masked else None,
        out_keys=[ACTION, VALUE, CHOSEN],
        spec=action_spec,
        action_space=None,
    )
    state_shape, state_key = ((S,), "state") if state else ((N, OBS), OBSERVATION)
    qmixer = lib.QMixer(state_shape=torch.Size(state_shape), mixing_embed_dim=8, n_agents=N, device="cpu")
    mixer = TensorDictModule(qmixer, in_keys=[CHOSEN, state_key], out_keys=["chosen_action_value"])
    policy = TensorDictSequential(Model(share_params), choice)
    loss = lib.QMixerLoss(policy, mixer, delay_value=delay_value, loss_function="l2", action_space=action_spec)
    loss.set_keys(
        reward="reward", action=ACTION, done="done", action_value=VALUE, local_value=CHOSEN,
        global_value="chosen_action_value", priority="td_error",
    )  # fmt: skip
    loss.make_value_estimator(ValueEstimators.TD0, gamma=0.9)
    return loss, lib.SoftUpdate(loss, tau=0.05) if delay_value else None


def sample(seed: int, *, masked: bool, one_hot: bool) -> TensorDict:
    torch.manual_seed(seed)

    def step() -> dict[str, Any]:
        legal = (torch.rand(B, N, A) < 0.6) | (torch.arange(A) == 1)
        agents = {"observation": torch.randn(B, N, OBS)} | ({"action_mask": legal} if masked else {})
        return {GROUP: TensorDict(agents, [B, N]), "state": torch.randn(B, S)}

    td = TensorDict(step(), [B])
    action = td[ACTION_MASK].int().argmax(-1) if masked else torch.randint(A, (B, N))
    td[ACTION] = nn.functional.one_hot(action, A) if one_hot else action
    terminated = torch.rand(B, 1) < 0.2
    outcome = {"reward": torch.randn(B, N, 1).mean(-2), "done": terminated, "terminated": terminated}
    td["next"] = TensorDict(step() | outcome, [B])
    return td


@pytest.mark.parametrize("one_hot", [False, True], ids=["categorical", "one_hot"])
@pytest.mark.parametrize("delay_value", [True, False], ids=["delayed", "live"])
@pytest.mark.parametrize("state", [True, False], ids=["state", "observations"])
@pytest.mark.parametrize("masked", [False, True], ids=["all legal", "masked"])
@pytest.mark.parametrize("share_params", [True, False], ids=["shared", "own"])
def test_twenty_updates_end_in_the_same_parameters(
    share_params: bool, masked: bool, state: bool, delay_value: bool, one_hot: bool
) -> None:
    ends = []
    for lib in (OURS, TORCHRL):
        loss, update = build(
            lib, share_params=share_params, masked=masked, state=state, delay_value=delay_value, one_hot=one_hot
        )
        optimizer = torch.optim.Adam(loss.parameters(), lr=3e-3)
        errors = []
        for seed in range(20):
            td = sample(seed, masked=masked, one_hot=one_hot)
            loss(td)["loss"].backward()
            nn.utils.clip_grad_norm_(loss.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            if update is not None:
                update.step()
            errors.append(td["td_error"])
        ends.append((torch.stack(errors), dict(loss.state_dict())))
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-6, atol=1e-6)
