"""Losses of episodes whose padding is not computed are those of episodes whose padding is, and thrown away."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule, TensorDictSequential
from torch import Tensor, nn

from qmix_lightning.agents.gru import GRUAgent
from qmix_lightning.agents.inputs import previous_action
from qmix_lightning.agents.mlp import MLPAgent
from qmix_lightning.mixers.qmix import QMixer
from qmix_lightning.mixers.vdn import VDNMixer
from qmix_lightning.objectives.qmixer import QMixerLoss
from qmix_lightning.spec import ACTION, ACTION_MASK, ACTION_VALUE, LAST_ACTION, MASK, OBSERVATION, TaskSpec

SPEC = TaskSpec("fake", n_agents=3, n_actions=4, observation_size=5, state_size=6, episode_limit=30)
T = SPEC.episode_limit
LENGTHS = {
    "random": torch.randint(1, T + 1, (12,), generator=torch.Generator().manual_seed(0)).tolist(),
    "one long": [2] * 11 + [T],
    "one step": [1] * 6 + [T, T - 1] * 3,
    "none at all": [0] * 6 + [T, T - 5] * 3,
    "alike": [8] * 12,
}


class Padded(nn.Module):
    """A network that nobody knows can do without padding."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> Any:
        return self.network(*inputs)


def episodes(lengths: list[int], poison: float = 0.0) -> TensorDict:
    """Episodes of these lengths in float64, with poison and nonsense in their padding."""
    torch.manual_seed(1)
    shape = (len(lengths), T + 1)
    length, step = torch.tensor(lengths).view(-1, 1, 1), torch.arange(T + 1).view(1, -1, 1)
    played, seen, last = step < length, (step <= length) & (length > 0), step == length - 1
    legal = torch.rand(*shape, SPEC.n_agents, SPEC.n_actions) < 0.6
    legal[..., 1] = True
    action = torch.where(torch.rand(*shape, SPEC.n_agents) < 0.5, 1, legal.int().argmax(-1))

    def floats(*event: int) -> Tensor:
        where = seen.view(*shape, *[1] * len(event))
        return torch.where(where, torch.randn(*shape, *event, dtype=torch.float64), poison)

    out_of_time = torch.arange(len(lengths)).view(-1, 1, 1) % 2 == 0
    return TensorDict(
        {
            OBSERVATION: floats(SPEC.n_agents, SPEC.observation_size),
            ACTION_MASK: legal & seen.unsqueeze(-1),
            ACTION: torch.where(played, action, 0),
            "state": floats(SPEC.state_size),
            MASK: played,
            "weight": torch.rand(*shape, 1, dtype=torch.float64),
            "present": torch.rand(*shape, SPEC.n_agents) < 0.8,
            "is_init": (step == 0) | (step == 7).expand(*shape, 1),
            "next": {
                "reward": torch.where(played, torch.randn(*shape, 1, dtype=torch.float64), poison),
                "done": last,
                "terminated": last & ~out_of_time,
            },
        },
        shape,
    )


def make_loss(
    agent: Callable[[TaskSpec], nn.Module] = GRUAgent,
    mixer: type[nn.Module] = QMixer,
    *,
    wrap: Callable[[nn.Module], nn.Module] = lambda network: network,
    keys: tuple[str, ...] = (),
    estimator: str = "TDLambda",
    **options: Any,
) -> QMixerLoss:
    """A loss in float64 whose targets differ from its networks."""
    torch.manual_seed(0)
    reads = [OBSERVATION, LAST_ACTION, *(["is_init"] if "is_init" in keys else [])]
    network = TensorDictSequential(
        TensorDictModule(previous_action, [ACTION], [LAST_ACTION]),
        TensorDictModule(wrap(agent(SPEC)), reads, [ACTION_VALUE]),
    )
    made = mixer(SPEC)
    mixes = [("agents", "chosen_action_value"), *(["state"] if made.needs_state else [])]
    loss = QMixerLoss(
        network, TensorDictModule(wrap(made), mixes, ["chosen_action_value"]), layout="episode", **options
    )
    named = {"weight": "priority_weight", "present": "agent_mask", "is_init": "is_init"}
    loss.set_keys(mask=MASK, **{named[key]: key for key in keys})
    loss.make_value_estimator(estimator, gamma=0.9)
    loss.has_target_update = True
    loss.double()
    if loss.delay_value:
        with torch.no_grad():
            for name in ("local_value_network", "mixer_network"):
                for buffer in loss.target_params(name).buffers():
                    if buffer.is_floating_point():
                        buffer.add_(torch.randn_like(buffer), alpha=0.3)
    return loss


def outcome(loss: Any, batch: TensorDict) -> dict[str, Any]:
    """All that the loss says of a batch, and the gradients."""
    batch = batch.clone()
    out = loss(batch)
    loss.zero_grad()
    out["loss"].sum().backward()
    return {**out, "error": batch["td_error"], "gradients": [parameter.grad for parameter in loss.parameters()]}


def rows_computed(loss: QMixerLoss, batch: TensorDict) -> tuple[int, int]:
    """For how many steps agent and mixer computed something."""
    counts = {"agent": 0, "mixer": 0}

    def count(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            counts[name] += output.shape[:-1].numel()

        return hook

    agent, mixer = loss.local_value_network[1].module, loss.mixer_network.module
    hooks = [
        getattr(agent, "network", agent).input.register_forward_hook(count("agent")),
        getattr(mixer, "network", mixer).V.register_forward_hook(count("mixer")),
    ]
    loss(batch.clone())
    for hook in hooks:
        hook.remove()
    return counts["agent"] // SPEC.n_agents, counts["mixer"]


# ------------------------------------------------------------------------------------------------------- identities


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"double_q": True},
        {"mixer": VDNMixer},
        {"agent": partial(MLPAgent, hidden_size=8), "double_q": True},
        {"keys": ("weight",), "double_q": True, "loss_function": "smooth_l1"},
        {"keys": ("present",), "double_q": True},
        {"keys": ("is_init",)},
        {"delay_value": False, "estimator": "TD0"},
        {"reduction": "none", "td_error": "absolute", "estimator": "TD1"},
    ],
    ids=str,
)
def test_losses_errors_and_gradients_are_those_with_the_padding_computed(lengths: list[int], options: Any) -> None:
    options = {"diagnostics": True, **options}
    padded, spared = make_loss(wrap=Padded, **options), make_loss(**options)
    expected = outcome(padded, episodes(lengths))
    torch.testing.assert_close(outcome(spared, episodes(lengths, torch.nan)), expected, rtol=1e-6, atol=1e-9)
    assert expected["error"].any()


@pytest.mark.parametrize("double_q", [False, True])
def test_the_order_of_episodes_does_not_matter(double_q: bool) -> None:
    loss, batch = make_loss(double_q=double_q), episodes(LENGTHS["random"])
    order = torch.randperm(len(batch))
    expected, got = outcome(loss, batch), outcome(loss, batch[order])
    torch.testing.assert_close(got["gradients"], expected["gradients"])
    torch.testing.assert_close(got["error"], expected["error"][order])


def test_each_episode_counts_as_it_would_alone() -> None:
    loss, batch = make_loss(reduction="sum", double_q=True), episodes(LENGTHS["random"])
    whole = outcome(loss, batch)
    alone = [outcome(loss, batch[row : row + 1, : length + 1]) for row, length in enumerate(LENGTHS["random"])]
    torch.testing.assert_close(whole["loss"], sum(each["loss"] for each in alone))
    for number, gradient in enumerate(whole["gradients"]):
        torch.testing.assert_close(gradient, sum(each["gradients"][number] for each in alone))


# -------------------------------------------------------------------------------------------------- what is computed


@pytest.mark.parametrize("agent", [GRUAgent, MLPAgent])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_agents_compute_little_more_than_was_seen_and_mixers_what_was_played(lengths: list[int], agent: Any) -> None:
    batch = episodes(lengths)
    by_agent, by_mixer = rows_computed(make_loss(agent), batch)
    seen, played = sum(length + (length > 0) for length in lengths), sum(lengths)
    # Both the online and the target network, whose hooks are its own, not these.
    assert by_mixer == played
    assert seen <= by_agent <= seen + 60 < batch.numel()


def test_batches_without_padding_are_run_over_as_they_are() -> None:
    batch = episodes([T] * 12)
    assert rows_computed(make_loss(), batch) == (batch.numel(), 12 * T)


def test_networks_that_take_no_packing_are_given_all_steps() -> None:
    batch = episodes(LENGTHS["random"])
    assert rows_computed(make_loss(wrap=Padded), batch) == (batch.numel(), 12 * T)


def test_networks_with_hooks_are_given_all_steps_and_no_nan() -> None:
    batch, shapes = episodes(LENGTHS["random"], torch.nan), []
    loss = make_loss(double_q=True)
    expected = outcome(loss, batch)
    for module in (loss.local_value_network[1], loss.mixer_network):
        module.register_forward_pre_hook(lambda module, args: shapes.append(args[0].shape))
    torch.testing.assert_close(outcome(loss, batch), expected)
    assert set(shapes) == {batch.shape, torch.Size([12, T])}


def test_a_network_beside_the_agent_is_not_given_what_padding_holds() -> None:
    torch.manual_seed(0)
    network = TensorDictSequential(
        TensorDictModule(previous_action, [ACTION], [LAST_ACTION]),
        TensorDictModule(GRUAgent(SPEC, hidden_size=8), [OBSERVATION, LAST_ACTION], ["remembered"]),
        TensorDictModule(nn.Linear(SPEC.observation_size, SPEC.n_actions), [OBSERVATION], ["seen"]),
        TensorDictModule(torch.add, ["remembered", "seen"], [ACTION_VALUE]),
    )
    loss = QMixerLoss(network, QMixer(SPEC), layout="episode").double()
    loss.set_keys(mask=MASK)
    loss.has_target_update = True
    loss(episodes(LENGTHS["random"], torch.nan))["loss"].backward()
    assert all(parameter.grad.isfinite().all() and parameter.grad.any() for parameter in network.parameters())


def test_a_mask_with_holes_leaves_everything_as_it_is() -> None:
    batch = episodes([T] * 6 + [10] * 6)
    batch[MASK][:2, 5:9] = False
    torch.testing.assert_close(outcome(make_loss(), batch), outcome(make_loss(wrap=Padded), batch))


def test_a_graph_is_compiled_whole_and_says_the_same() -> None:
    torch.compiler.reset()
    batch = episodes(LENGTHS["random"], torch.nan)
    loss = make_loss(partial(MLPAgent, hidden_size=8), double_q=True)
    expected = outcome(loss, batch)
    torch.testing.assert_close(outcome(torch.compile(loss, fullgraph=True, backend="eager"), batch), expected)


def test_mixed_precision_changes_little() -> None:
    batch = episodes(LENGTHS["random"], torch.nan).apply(lambda x: x.float() if x.is_floating_point() else x)
    loss = make_loss().float()
    expected = outcome(loss, batch)
    with torch.autocast("cpu", torch.bfloat16):
        got = outcome(loss, batch)
    torch.testing.assert_close(got["error"], expected["error"], rtol=0.1, atol=0.1)
    assert got["error"].dtype == torch.float32


# ------------------------------------------------------------------------------------------------------------ errors


def test_an_entry_that_has_not_all_steps_is_refused() -> None:
    batch = episodes(LENGTHS["random"]).auto_batch_size_(1)
    batch["state"] = batch["state"][:, :9]
    with pytest.raises(ValueError, match=r"Expected an entry for each step \[12, 31\], got one of shape \[12, 9, 6\]."):
        make_loss()(batch)
