from __future__ import annotations

import copy
import itertools

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule, TensorDictSequential
from torch import nn

from qmix_lightning.actors.qvalue import QValueModule
from qmix_lightning.mixers.qmix import QMixer
from qmix_lightning.objectives.estimators.base import ValueEstimators
from qmix_lightning.objectives.estimators.td_lambda import TDLambdaEstimator
from qmix_lightning.objectives.qmixer import QMixerLoss
from tests.objectives.worlds import (
    OBS,
    OBSERVATION,
    VALUE,
    A,
    N,
    S,
    as_transitions,
    assert_same,
    gradients,
    make_episodes,
    make_loss,
    pad,
)
from tests.oracles import pymarl_loss, rmsprop_step

# ------------------------------------------------------------------------------------------------------- identities


@pytest.mark.parametrize("estimator", ["TD0", "TD1", "TDLambda"])
@pytest.mark.parametrize("double_q", [False, True])
@pytest.mark.parametrize("mixer", ["qmix", "vdn"])
def test_episodes_equal_transitions_for_an_agent_without_memory(mixer: str, double_q: bool, estimator: str) -> None:
    losses = [make_loss(layout=layout, mixer=mixer, double_q=double_q) for layout in ("episode", "transition")]
    batches = [make_episodes(), as_transitions(make_episodes())]
    for loss in losses:
        loss.make_value_estimator(estimator, gamma=0.9)
    assert_same(*(gradients(loss, batch) for loss, batch in zip(losses, batches, strict=True)))
    torch.testing.assert_close(batches[0]["td_error"][:, :-1], batches[1]["td_error"])


@pytest.mark.parametrize("poison", [0.0, float("nan"), float("inf")])
@pytest.mark.parametrize("estimator", ["TD0", "TDLambda"])
@pytest.mark.parametrize("recurrent", [False, True])
def test_appending_padding_changes_nothing(recurrent: bool, estimator: str, poison: float) -> None:
    loss = make_loss(recurrent=recurrent, double_q=True, diagnostics=True).make_value_estimator(estimator)
    loss.set_keys(mask="mask")
    short, long = make_episodes(), pad(make_episodes(), 3, poison)
    expected, got = loss(short), loss(long)
    assert_same(dict(got.items()), dict(expected.items()))
    torch.testing.assert_close(long["td_error"][:, :7], short["td_error"])
    assert (long["td_error"][:, 6:] == 0).all()
    assert_same(gradients(loss, pad(make_episodes(), 3, poison)), gradients(loss, make_episodes()))


@pytest.mark.parametrize("layout", ["episode", "transition"])
def test_padded_rows_leave_the_other_rows_alone(layout: str) -> None:
    loss = make_loss(layout=layout)
    loss.set_keys(mask="mask")
    episodes = make_episodes()
    few = episodes[:3].clone()
    episodes["mask"][3] = False
    episodes["state"][3] = float("nan")
    batches = [few, episodes] if layout == "episode" else [as_transitions(few), as_transitions(episodes)]
    assert_same(gradients(loss, batches[1]), gradients(loss, batches[0]))


def test_no_mask_and_a_full_mask_are_the_same() -> None:
    plain, masked = make_loss(double_q=True), make_loss(double_q=True)
    masked.set_keys(mask="mask")
    assert_same(gradients(masked, make_episodes()), gradients(plain, make_episodes()))


@pytest.mark.parametrize("layout", ["episode", "transition"])
def test_double_q_equals_single_q_when_target_is_online(layout: str) -> None:
    batch = make_episodes() if layout == "episode" else as_transitions(make_episodes())
    single, double = (make_loss(layout=layout, perturbed=False, double_q=double_q) for double_q in (False, True))
    assert_same(gradients(double, batch), gradients(single, batch))
    different = [make_loss(layout=layout, double_q=double_q)(batch)["loss"] for double_q in (False, True)]
    assert different[0] != different[1]


def test_lambda_0_is_td0_and_lambda_1_is_td1() -> None:
    def value(name: str, **options: float) -> torch.Tensor:
        result: torch.Tensor = make_loss().make_value_estimator(name, **options)(make_episodes())["loss"]
        return result

    torch.testing.assert_close(value("tdlambda", lmbda=0), value("td0"))
    torch.testing.assert_close(value("tdlambda", lmbda=1), value("td1"))


def test_gamma_0_is_the_reward() -> None:
    loss = make_loss(diagnostics=True).make_value_estimator(gamma=0)
    episodes = make_episodes()
    torch.testing.assert_close(loss(episodes)["target"], episodes["next", "reward"][:, :-1].mean())


def test_running_out_of_time_bootstraps_and_termination_does_not() -> None:
    loss = make_loss(diagnostics=True)
    batch = make_episodes(1, 1)
    batch["next", "done"][:], batch["next", "terminated"][:] = True, True
    assert loss(batch)["target"] == batch["next", "reward"][0, 0, 0]
    batch["next", "terminated"][:] = False
    assert loss(batch)["target"] != batch["next", "reward"][0, 0, 0]


def test_b_episodes_equal_b_times_one_episode() -> None:
    loss, episodes = make_loss(recurrent=True), make_episodes()
    alone = [loss(episodes[b : b + 1].clone())["loss"] for b in range(4)]
    torch.testing.assert_close(loss(episodes)["loss"], torch.stack(alone).mean())


# ------------------------------------------------------------------------------------------------------------ oracle


def test_an_update_is_pymarls_written_out() -> None:
    loss = make_loss(recurrent=True, double_q=True)
    loss.set_keys(mask="mask")
    episodes = make_episodes(3, 4)
    episodes["mask"][1, 2:] = False
    episodes["next", "terminated"][1, 1] = episodes["next", "done"][1, 1] = True

    def cells(tree: TensorDict, *path: str) -> dict[str, torch.Tensor]:
        flat = {".".join(key): value for key, value in tree["module"].items(True, True)}
        return {name.replace("_l0", "") if path else name: value.detach().clone() for name, value in flat.items()}

    agent, mixer = cells(loss.local_value_network_params), cells(loss.mixer_network_params)
    targets = cells(loss.target_local_value_network_params), cells(loss.target_mixer_network_params)
    leaves = [value.requires_grad_() for value in (*agent.values(), *mixer.values())]
    columns = {"reward": ("next", "reward"), "terminated": ("next", "terminated"), "played": "mask"}
    batch = {name: episodes[key].squeeze(-1) for name, key in columns.items()}
    batch |= {"observation": episodes[OBSERVATION], "state": episodes["state"]}
    batch |= {"action": episodes["agents", "action"], "legal": episodes["agents", "action_mask"]}
    expected, errors = pymarl_loss(agent, mixer, *targets, batch, gamma=0.99)

    got = loss(episodes)["loss"]
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)
    expected_errors = torch.tensor(errors, dtype=torch.float64)
    torch.testing.assert_close(episodes["td_error"].squeeze(-1), expected_errors, rtol=1e-6, atol=1e-6)

    wanted = torch.autograd.grad(expected, leaves)
    options = {"lr": 5e-4, "alpha": 0.99, "eps": 1e-5}
    after = rmsprop_step([leaf.detach() for leaf in leaves], wanted, clip=10, **options)
    optimizer = torch.optim.RMSprop(loss.parameters(), **options)
    got.backward()
    nn.utils.clip_grad_norm_(loss.parameters(), 10)
    optimizer.step()
    names = [name for name, _ in itertools.chain(agent.items(), mixer.items())]
    ours = cells(loss.local_value_network_params) | cells(loss.mixer_network_params)
    for name, value in zip(names, after, strict=True):
        torch.testing.assert_close(ours[name], value, rtol=1e-5, atol=1e-5)
        assert not torch.equal(value, (agent | mixer)[name]), f"{name} did not move"


# ------------------------------------------------------------------------------------------------------- the details


@pytest.mark.parametrize("action_space", ["categorical", "one-hot"])
def test_the_head_of_the_local_network_may_stay(action_space: str) -> None:
    """A masked value of an illegal action is the smallest float; none reaches the mixer."""
    bare = make_loss(layout="transition", perturbed=False)
    keys = [("agents", "action"), VALUE, ("agents", "chosen_action_value")]
    head = QValueModule(action_space, VALUE, ("agents", "action_mask"), keys)
    mixer = bare.mixer_network.module
    whole = QMixerLoss(TensorDictSequential(bare.local_value_network, head), mixer)
    whole.has_target_update = True
    batch = as_transitions(make_episodes())
    batch["agents", "action_mask"][..., 2:] = False
    batch["agents", "action"][:] = 3
    expected = bare(batch.clone())["loss"]
    if action_space == "one-hot":
        batch["agents", "action"] = nn.functional.one_hot(batch["agents", "action"], A)
    torch.testing.assert_close(whole.double()(batch)["loss"], expected)


def test_half_precision_networks_are_compared_in_single_precision() -> None:
    loss = make_loss().bfloat16()
    batch = make_episodes().apply(lambda x: x.bfloat16() if x.is_floating_point() else x)
    assert loss(batch)["loss"].dtype == torch.float32


def test_keys_are_in_the_same_order_in_every_process_and_complete() -> None:
    loss = make_loss()
    outcome = [("next", "reward"), ("next", "done"), ("next", "terminated")]
    assert loss.in_keys == [("agents", "action"), *outcome, OBSERVATION, "state", ("agents", "action_mask")]
    loss.set_keys(mask="mask")
    assert set(make_episodes().keys(True, True, is_leaf=None)) == set(loss.in_keys)
    loss(make_episodes().select(*loss.in_keys))
    assert loss.out_keys == ["loss"]
    assert make_loss(diagnostics=True).out_keys == ["loss", "value", "target"]
    assert "double_q=False, layout='episode', value_estimator=TD0Estimator(gamma=0.99))" in repr(loss)


def test_own_keys_are_read_and_none_restores_the_default() -> None:
    loss, episodes = make_loss(), make_episodes()
    expected = loss(episodes)["loss"]
    episodes.rename_key_(("next", "reward"), ("next", "team", "reward"))
    loss.set_keys(reward=("team", "reward"))
    assert loss(episodes)["loss"] == expected
    loss.set_keys(reward=None)
    assert loss.tensor_keys.reward == "reward"


# ----------------------------------------------------------------------------------------------------------- options


def test_the_mean_and_the_sum_are_those_of_the_distances() -> None:
    for layout, batch in (("episode", make_episodes()), ("transition", as_transitions(make_episodes()))):
        each = make_loss(layout=layout, reduction="none")(batch)["loss"]
        assert each.shape == (4, 6)
        torch.testing.assert_close(make_loss(layout=layout)(batch)["loss"], each.mean())
        torch.testing.assert_close(make_loss(layout=layout, reduction="sum")(batch)["loss"], each.sum())
    # Padding is 0 in its place.
    loss, padded = make_loss(reduction="none"), pad(make_episodes(), 2, torch.nan)
    loss.set_keys(mask="mask")
    torch.testing.assert_close(loss(padded)["loss"][:, :6], make_loss(reduction="none")(make_episodes())["loss"])
    assert (loss(padded)["loss"][:, 6:] == 0).all()


def test_the_absolute_error_is_the_root_of_the_squared() -> None:
    squared, absolute = make_episodes(), make_episodes()
    make_loss()(squared)
    make_loss(td_error="absolute")(absolute)
    torch.testing.assert_close(absolute["td_error"].square(), squared["td_error"])


def test_tensors_may_come_by_name_or_in_order() -> None:
    for layout, batch in (("episode", make_episodes()), ("transition", as_transitions(make_episodes()))):
        loss = make_loss(layout=layout, diagnostics=True)
        expected = loss(batch)
        tensors = [batch[key] for key in loss.in_keys if key in batch]
        names = ["_".join(key) if isinstance(key, tuple) else key for key in loss.in_keys if key in batch]
        for result in (loss(*tensors), loss(**dict(zip(names, tensors, strict=True)))):
            assert result == tuple(expected[name] for name in ("loss", "value", "target"))
        loss.select_out_keys("loss")
        assert loss(*tensors) == expected["loss"]
        loss.reset_out_keys()
        assert list(loss(batch).keys()) == ["loss", "value", "target"]
        with pytest.raises(KeyError, match=r"expected the key \('next', 'reward'\)"):
            loss(**{name: t for name, t in zip(names, tensors, strict=True) if name != "next_reward"})


@pytest.mark.parametrize("mixer", ["qmix", "vdn"])
@pytest.mark.parametrize("layout", ["episode", "transition"])
@pytest.mark.parametrize("estimator", ["TD0", "TDLambda"])
def test_it_compiles_to_one_graph(estimator: str, layout: str, mixer: str) -> None:
    torch.compiler.reset()
    batch = make_episodes() if layout == "episode" else as_transitions(make_episodes())
    for loss in (make_loss(layout=layout, mixer=mixer, double_q=True), copy.deepcopy(make_loss(layout=layout))):
        loss.set_keys(mask="mask")
        loss.make_value_estimator(estimator)
        compiled = torch.compile(loss, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(batch)["loss"], loss(batch)["loss"])


def test_torchrls_names_for_masks_and_weights_work() -> None:
    loss = make_loss()
    assert loss.loss_mask_key == loss.use_prioritized_weights == "auto"
    loss.loss_mask_key, loss.use_prioritized_weights = ("collector", "mask"), True
    assert loss.tensor_keys.mask == loss.loss_mask_key == ("collector", "mask")
    assert loss.tensor_keys.priority_weight == "priority_weight"
    loss.loss_mask_key = loss.use_prioritized_weights = "auto"
    assert loss.tensor_keys == loss.default_keys()


def test_a_discount_set_on_the_loss_holds_until_an_estimator_is_chosen() -> None:
    episodes, loss = make_episodes(), make_loss()
    loss.gamma = 0.5
    assert loss(episodes)["loss"] == make_loss().make_value_estimator(gamma=0.5)(episodes)["loss"]
    loss.make_value_estimator("TD1")
    assert loss.value_estimator.gamma == 0.5
    loss.gamma = 0.1
    assert loss.value_estimator.gamma == 0.5
    estimator = TDLambdaEstimator(gamma=0.7, lmbda=0.3)
    loss.value_estimator = estimator
    assert loss.value_estimator is estimator
    assert loss.make_value_estimator(TDLambdaEstimator, gamma=0.7, lmbda=0.3, differentiable=True)
    with pytest.raises(TypeError, match="Expected no hyper-parameters beside an estimator that is made, got gamma"):
        loss.make_value_estimator(estimator, gamma=0.9)


# ------------------------------------------------------------------------------------------------------------ errors


def test_options_that_make_no_sense_are_refused_at_once() -> None:
    net, mixer = nn.Linear(OBS, A), QMixer(S, n_agents=N)
    for options, error, words in (
        ({"loss_function": "huber"}, ValueError, "Unknown loss_function 'huber'. Choose one of l2, l1, smooth_l1"),
        ({"layout": "episodes"}, ValueError, "Unknown layout 'episodes'. Choose one of transition, episode"),
        ({"reduction": "median"}, ValueError, "Unknown reduction 'median'. Choose one of mean, sum, none"),
        ({"td_error": "huber"}, ValueError, "Unknown td_error 'huber'. Choose one of squared, absolute"),
        ({"action_space": "binary"}, ValueError, "must be one of categorical, .* got 'binary'"),
        ({"gamma": 0.9}, TypeError, "Passing gamma / lambda parameters through the loss constructor is a deprecated"),
        ({"priority_key": "p"}, RuntimeError, "Setting 'priority' via the constructor is deprecated"),
        ({"action_space": "continuous"}, ValueError, "action_space was not specified/not compatible .*continuous"),
        ({}, ValueError, "could not be retrieved from the value network. Got action_space=None"),
    ):
        with pytest.raises(error, match=words):
            QMixerLoss(net, mixer, **options)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Expected a Mixer or a TensorDictModule as mixer_network, got Linear"):
        QMixerLoss(net, nn.Linear(1, 1), action_space="categorical")
    with pytest.raises(ValueError, match=r"local_value_network whose parameters have shapes.*Run lazy modules"):
        QMixerLoss(nn.LazyLinear(A), mixer, action_space="categorical")
    head = QValueModule("one-hot", VALUE, out_keys=["a", VALUE, "c"])
    local = TensorDictSequential(TensorDictModule(net, [OBSERVATION], [VALUE]), head)
    with pytest.raises(ValueError, match=r"told action_space='categorical', but the QValueModule .* 'one_hot'"):
        QMixerLoss(local, mixer, action_space="categorical")


def test_returns_that_make_no_sense_are_refused() -> None:
    loss = make_loss()
    with pytest.raises(ValueError, match=r"gamma must lie in \[0, 1\], got 1.2"):
        loss.make_value_estimator(gamma=1.2)
    with pytest.raises(NotImplementedError, match=r"is not implemented for loss QMixerLoss. Supported value types"):
        loss.make_value_estimator(ValueEstimators.GAE)
    with pytest.raises(KeyError, match=r"Unknown value estimator alias 'zzz'. Known aliases"):
        loss.make_value_estimator("zzz")
    with pytest.raises(TypeError, match=r"Expected a member of ValueEstimators, its name or an estimator, got 3"):
        loss.make_value_estimator(3)
    assert loss.value_type is ValueEstimators.TD0
