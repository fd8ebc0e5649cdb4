"""torchrl.objectives.multiagent.QMixerLoss computes the same numbers."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from tensordict import TensorDict, unravel_key
from tensordict.nn import TensorDictModule
from torch import nn

from qmix_lightning.actors.qvalue import QValueModule
from qmix_lightning.actors.safe_sequential import SafeSequential
from qmix_lightning.mixers.qmix import QMixer
from qmix_lightning.mixers.vdn import VDNMixer
from qmix_lightning.objectives.qmixer import QMixerLoss

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what torchrl's own imports deprecate
    pytest.importorskip("torchrl")
    import torchrl.modules as rl_modules
    from torchrl.data import Categorical, Composite, MultiOneHot, OneHot
    from torchrl.modules.models import multiagent as rl_mixers
    from torchrl.objectives import ValueEstimators as RLValueEstimators
    from torchrl.objectives.multiagent import QMixerLoss as RLQMixerLoss

pytestmark = pytest.mark.filterwarnings("ignore:No target network updater:UserWarning")

N, A, OBS, S = 3, 5, 7, 4
VALUE = ("agents", "action_value")
OUT = [("agents", "action"), VALUE, ("agents", "chosen_action_value")]


SPACES = ["categorical", "one-hot", "mult-one-hot"]
PARTS = [2, 3]


def batch(shape: list[int], action_space: str, *, masked: bool = False) -> TensorDict:
    torch.manual_seed(1)

    def step() -> dict[str, Any]:
        legal = (torch.rand(*shape, N, A) < 0.7) | (torch.arange(A) == 0) | (torch.arange(A) == PARTS[0])
        agents = {"observation": torch.randn(*shape, N, OBS, dtype=torch.float64)}
        return {
            "agents": agents | ({"action_mask": legal} if masked else {}),
            "state": torch.randn(*shape, S, dtype=torch.float64),
        }

    td = TensorDict(step(), shape)
    action = torch.randint(A, (*shape, N))
    if masked:
        action = td["agents", "action_mask"].int().argmax(-1)
    if action_space == "one-hot":
        action = nn.functional.one_hot(action, A)
    if action_space == "mult-one-hot":
        action = torch.cat([nn.functional.one_hot(torch.randint(n, (*shape, N)), n) for n in PARTS], -1)
    td["agents", "action"] = action
    terminated = torch.rand(*shape, 1) < 0.2
    reward = torch.randn(*shape, 1, dtype=torch.float64)
    outcome = {"reward": reward, "terminated": terminated, "done": terminated | (torch.rand(*shape, 1) < 0.2)}
    td["next"] = TensorDict(step() | outcome, shape)
    return td


def networks(mixer: str, action_space: str, *, rl: bool, masked: bool = False) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(OBS, 16), nn.Tanh(), nn.Linear(16, A))
    body = TensorDictModule(net, [("agents", "observation")], [VALUE])
    mask = ("agents", "action_mask") if masked else None
    parts = PARTS if action_space == "mult-one-hot" else None
    head_class = rl_modules.QValueModule if rl else QValueModule
    head = head_class(action_space, action_value_key=VALUE, action_mask_key=mask, out_keys=OUT, var_nums=parts)
    local = (rl_modules.SafeSequential if rl else SafeSequential)(body, head)
    family = rl_mixers if rl else None
    if mixer == "qmix":
        mix = (family.QMixer if rl else QMixer)(state_shape=(S,), mixing_embed_dim=8, n_agents=N, device="cpu")
    else:
        mix = (family.VDNMixer if rl else VDNMixer)(n_agents=N, device="cpu")
    keys = [("agents", "chosen_action_value")] + (["state"] if mixer == "qmix" else [])
    return local.double(), TensorDictModule(mix, keys, ["chosen_action_value"]).double()


def perturb_targets(loss: Any) -> None:
    generator = torch.Generator().manual_seed(2)
    for name in ("local_value_network", "mixer_network"):
        target = getattr(loss, f"target_{name}_params")
        for _, value in sorted(target.items(True, True)):
            value.data.add_(torch.randn(value.shape, generator=generator, dtype=value.dtype), alpha=0.3)


def both(mixer: str, action_space: str, *, masked: bool = False, **options: Any) -> tuple[Any, Any]:
    ours = QMixerLoss(*networks(mixer, action_space, rl=False, masked=masked), action_space=action_space, **options)
    theirs = RLQMixerLoss(*networks(mixer, action_space, rl=True, masked=masked), action_space=action_space, **options)
    if options.get("delay_value", True):
        perturb_targets(ours)
        perturb_targets(theirs)
    return ours, theirs


def assert_equal(ours: Any, theirs: Any, td: TensorDict) -> None:
    """Loss, priorities, gradients, and the parameters after a step of the optimizer."""
    our_td, their_td = td.clone(), td.clone()
    our_loss, their_loss = ours(our_td)["loss"], theirs(their_td)["loss"]
    torch.testing.assert_close(our_loss, their_loss, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(our_td["td_error"], their_td["td_error"], rtol=1e-6, atol=1e-6)
    our_loss.backward()
    their_loss.backward()
    our_grads, their_grads = ({k: p.grad for k, p in loss.named_parameters()} for loss in (ours, theirs))
    assert our_grads.keys() == their_grads.keys()
    assert any(grad.abs().max() > 0 for grad in our_grads.values())
    for name, grad in our_grads.items():
        torch.testing.assert_close(grad, their_grads[name], rtol=1e-6, atol=1e-6)
    for loss in (ours, theirs):
        torch.optim.Adam(loss.parameters(), lr=0.01).step()
    for (name, our_value), (their_name, their_value) in zip(
        ours.named_parameters(), theirs.named_parameters(), strict=True
    ):
        assert name == their_name
        torch.testing.assert_close(our_value, their_value, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("delay_value", [True, False], ids=["delayed", "live"])
@pytest.mark.parametrize("loss_function", ["l2", "l1", "smooth_l1"])
@pytest.mark.parametrize("action_space", SPACES)
@pytest.mark.parametrize("mixer", ["qmix", "vdn"])
@pytest.mark.parametrize(
    ("estimator", "shape"),
    [("TD0", []), *((e, shape) for e in ("TD0", "TD1", "TDLambda") for shape in ([6], [4, 5], [2, 3, 4]))],
    ids=str,
)
def test_losses_priorities_gradients_and_updates_are_torchrls(
    estimator: str, mixer: str, action_space: str, shape: list[int], loss_function: str, delay_value: bool
) -> None:
    td = batch(shape, action_space)
    if len(shape) == 1 and estimator != "TD0":
        td.names = ["time"]  # or ours refuses to take single steps in any order for a trajectory
    ours, theirs = both(mixer, action_space, delay_value=delay_value, loss_function=loss_function)
    for loss in (ours, theirs):
        loss.make_value_estimator(RLValueEstimators[estimator], gamma=0.9)
    assert_equal(ours, theirs, td)


@pytest.mark.parametrize("estimator", ["TD0", "TD1", "TDLambda"])
@pytest.mark.parametrize("group_key", [None, "group"])
def test_standardised_rewards_are_torchrls(estimator: str, group_key: str | None) -> None:
    td = batch([4, 5], "categorical")
    td["group"] = torch.arange(4).remainder(2).view(4, 1, 1).expand(4, 5, 1)
    ours, theirs = both("qmix", "categorical")
    for loss in (ours, theirs):
        loss.make_value_estimator(RLValueEstimators[estimator], average_rewards=True, group_key=group_key)
    assert_equal(ours, theirs, td)


def test_defaults_are_torchrls() -> None:
    assert_equal(*both("qmix", "categorical"), batch([4, 5], "categorical"))


@pytest.mark.parametrize("estimator", ["TD0", "TDLambda"])
def test_a_tensordict_that_knows_no_batch_is_read_as_torchrl_reads_it(estimator: str) -> None:
    td = batch([4, 5], "categorical")
    td = TensorDict(td.to_dict(), [])
    ours, theirs = both("qmix", "categorical")
    for loss in (ours, theirs):
        loss.make_value_estimator(RLValueEstimators[estimator], **({} if estimator == "TD0" else {"time_dim": 1}))
    assert_equal(ours, theirs, td)


@pytest.mark.parametrize("action_space", SPACES)
def test_masked_greedy_actions_are_torchrls(action_space: str) -> None:
    if action_space == "mult-one-hot":
        td = batch([4, 5], action_space, masked=True)
        td["agents", "action"] = td["agents", "action"].flip(-1) * 0 + torch.tensor([1, 0, 1, 0, 0])  # both legal
        assert_equal(*both("qmix", action_space, masked=True), td)
    else:
        assert_equal(*both("qmix", action_space, masked=True), batch([4, 5], action_space, masked=True))


def test_a_discount_for_each_step_is_torchrls() -> None:
    td = batch([6], "categorical")
    td["steps_to_next_obs"] = torch.arange(1, 7).unsqueeze(-1)
    assert_equal(*both("qmix", "categorical"), td)


def test_a_time_dimension_by_name_or_number_is_torchrls() -> None:
    td = batch([5, 4], "categorical")
    td.names = ["time", None]
    ours, theirs = both("qmix", "categorical")
    for loss in (ours, theirs):
        loss.make_value_estimator(RLValueEstimators.TDLambda, gamma=0.9, lmbda=0.7)
    assert_equal(ours, theirs, td)
    ours, theirs = both("qmix", "categorical")
    for loss in (ours, theirs):
        loss.make_value_estimator(RLValueEstimators.TD1, gamma=0.9, time_dim=0)
    assert_equal(ours, theirs, batch([5, 4], "categorical"))


def test_torchrls_own_parts_work_in_our_loss() -> None:
    theirs = RLQMixerLoss(*networks("qmix", "one-hot", rl=True), action_space="one-hot", delay_value=False)
    ours = QMixerLoss(*networks("qmix", "one-hot", rl=True), delay_value=False)
    assert ours.action_space == "one_hot"
    assert_equal(ours, theirs, batch([6], "one-hot"))


def test_the_same_seed_makes_the_same_mixer() -> None:
    torch.manual_seed(3)
    ours = QMixer((2, 3), 8, 4)
    torch.manual_seed(3)
    theirs = rl_mixers.QMixer((2, 3), 8, 4, "cpu")
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for name, value in ours.state_dict().items():
        assert torch.equal(value, theirs.state_dict()[name])
    q, state = torch.randn(5, 4, 1), torch.randn(5, 2, 3)
    torch.testing.assert_close(ours(q, state), theirs(q, state))


@pytest.mark.parametrize("mixer", ["qmix", "vdn"])
def test_checkpoints_are_exchangeable(mixer: str) -> None:
    ours, theirs = both(mixer, "categorical")
    ours.load_state_dict(theirs.state_dict())  # written before torchrl has made its estimator
    theirs(batch([6], "categorical"))
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    theirs.load_state_dict(ours.state_dict())


def test_keys_are_torchrls() -> None:
    ours, theirs = both("qmix", "categorical")
    assert set(ours.in_keys) == {unravel_key(key) for key in theirs.in_keys}
    for name, key in vars(theirs.tensor_keys).items():
        assert getattr(ours.tensor_keys, name) == key


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("action_space", ["categorical", "one-hot", "mult-one-hot"])
def test_the_q_value_module_is_torchrls(action_space: str, masked: bool) -> None:
    td = TensorDict({"action_value": torch.randn(6, 5)}, [6])
    td["mask"] = (torch.rand(6, 5) < 0.6) | torch.tensor([True, False, True, False, False])
    options: dict[str, Any] = {"action_mask_key": "mask" if masked else None}
    if action_space == "mult-one-hot":
        options["var_nums"] = [2, 3]
    expected = rl_modules.QValueModule(action_space, **options)(td.clone())
    ours = QValueModule(action_space, **options)(td.clone())
    assert ours.keys() == expected.keys()
    for key in expected.keys():  # noqa: SIM118 (a tensordict iterates over its rows)
        assert torch.equal(ours[key], expected[key])


def test_specs_tell_the_action_space() -> None:
    for spec, name in (
        (Categorical(4), "categorical"),
        (OneHot(4), "one_hot"),
        (MultiOneHot([2, 2]), "mult_one_hot"),
        (Composite(agents=Composite(action=Categorical(4))), "categorical"),
    ):
        assert QValueModule(spec=spec, out_keys=OUT, action_value_key=VALUE).action_space == name
        assert QValueModule(name, out_keys=OUT, action_value_key=VALUE).action_space == name
    with pytest.raises(ValueError, match=r"The action spec and the action space do not match"):
        QValueModule("one-hot", spec=Categorical(4))
    with pytest.raises(TypeError, match=r"Using specs in action_space is deprecated"):
        QValueModule(Categorical(4))


def test_an_action_of_another_shape_than_its_spec_is_refused_or_reshaped() -> None:
    spec = Categorical(4, shape=(1,))
    values = torch.randn(6, 4)
    with pytest.raises(RuntimeError, match=r"does not match expected shape"):
        QValueModule(spec=spec)(values)
    assert QValueModule(spec=spec, strict_shape="auto")(values)[0].shape == (6, 1)
    assert QValueModule(spec=spec, strict_shape=False)(values)[0].shape == (6,)


def test_a_deep_copy_computes_the_same_as_torchrls() -> None:
    ours, theirs = both("qmix", "categorical")
    assert_equal(copy.deepcopy(ours), copy.deepcopy(theirs), batch([6], "categorical"))
