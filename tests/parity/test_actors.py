"""torchrl's QValueModule, QValueActor and SafeSequential do the same, and work together with ours."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule, TensorDictSequential
from torch import nn

from qmix_lightning.actors.action_spaces import find_action_space
from qmix_lightning.actors.qvalue import QValueModule
from qmix_lightning.actors.qvalue_actor import QValueActor
from qmix_lightning.actors.safe_sequential import SafeSequential
from qmix_lightning.actors.specs import composite_like

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what torchrl's own imports deprecate
    pytest.importorskip("torchrl")
    import torchrl.modules as rl
    from torchrl.collectors import Collector
    from torchrl.data import Binary, Bounded, Categorical, Composite, MultiCategorical, MultiOneHot, OneHot, Unbounded
    from torchrl.envs import TicTacToeEnv
    from torchrl.modules import ValueOperator
    from torchrl.objectives import DQNLoss

A = 5
ACTION, VALUE, CHOSEN = ("agents", "action"), ("agents", "action_value"), ("agents", "chosen_action_value")


def agents_spec(action: Any, *batch: int) -> Any:
    """The spec of three agents' actions, as an environment of torchrl makes it."""
    return Composite(agents=Composite(action=action, shape=(*batch, 3)), shape=batch)


SPECS = {
    "categorical": Categorical(A),
    "one-hot": OneHot(A),
    "mult-one-hot": MultiOneHot([2, 3]),
    "composite": Composite(action=OneHot(A)),
    "batched": Composite(action=OneHot(A, shape=(6, A)), shape=(6,)),
    "unknown": Composite(action=Categorical(A), action_value=Unbounded(A), chosen_action_value=None),
}


def same(ours: TensorDict, theirs: TensorDict) -> bool:
    """Equal entries of equal dtypes in the same order."""
    pairs = zip(ours.items(True, True), theirs.items(True, True), strict=True)
    return all(a == b and x.dtype == y.dtype and torch.equal(x, y) for (a, x), (b, y) in pairs)


def values(*batch: int, masked: bool = False) -> TensorDict:
    torch.manual_seed(0)
    td = TensorDict(action_value=torch.randn(*batch, A), observation=torch.randn(*batch, 4), batch_size=batch)
    if masked:
        td["mask"] = (torch.rand(*batch, A) < 0.5) | torch.tensor([True, False, True, False, False])
    return td


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("safe", [False, True])
@pytest.mark.parametrize("name", SPECS)
def test_the_module_with_a_spec_is_torchrls(name: str, safe: bool, masked: bool) -> None:
    options: dict[str, Any] = {"spec": SPECS[name], "safe": safe, "action_mask_key": "mask" if masked else None}
    if name == "mult-one-hot":
        options["var_nums"] = [2, 3]
    ours, theirs = QValueModule(**options), rl.QValueModule(**options)
    assert (ours.in_keys, ours.out_keys, ours.spec, ours.action_space, ours.safe) == (
        theirs.in_keys, theirs.out_keys, theirs.spec, theirs.action_space, theirs.safe
    )  # fmt: skip
    assert same(ours(values(6, masked=masked)), theirs(values(6, masked=masked)))


@pytest.mark.parametrize("spec", [Categorical(A, shape=(3,)), OneHot(A, shape=(3, A))], ids=["categorical", "one-hot"])
def test_agents_with_a_nested_spec_are_torchrls(spec: Any) -> None:
    options: dict[str, Any] = {
        "spec": agents_spec(spec),
        "action_value_key": VALUE,
        "out_keys": [ACTION, VALUE, CHOSEN],
    }
    ours, theirs = QValueModule(**options), rl.QValueModule(**options)
    assert ours.spec == theirs.spec
    td = TensorDict({"agents": TensorDict({"action_value": torch.randn(6, 3, A)}, [6, 3])}, [6])
    assert same(ours(td.clone()), theirs(td.clone()))


@pytest.mark.parametrize("strict_shape", [True, None, "auto", False])
@pytest.mark.parametrize("shape", [(1,), (2, 3), ()], ids=str)
@pytest.mark.parametrize("batch", [(6,), (), (2, 3)], ids=str)
def test_shapes_are_judged_as_torchrl_does(batch: Any, shape: Any, strict_shape: Any) -> None:
    ours, theirs = (
        cls(spec=Categorical(A, shape=shape), strict_shape=strict_shape) for cls in (QValueModule, rl.QValueModule)
    )
    try:
        expected = theirs(values(*batch))
    except RuntimeError as error:
        with pytest.raises(RuntimeError, match="^" + str(error).split(" torch")[0]):
            ours(values(*batch))
    else:
        assert same(ours(values(*batch)), expected)


def test_an_action_that_cannot_be_reshaped_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"Cannot reshape action from torch\.Size\(\[6\]\) to .* of one action"):
        QValueModule(spec=Categorical(A, shape=(2,)), strict_shape="auto")(values(6))
    with pytest.raises(RuntimeError, match=r"does not match expected shape .*per-sample spec shape: .*\[2\].*'auto'"):
        QValueModule(spec=Categorical(A, shape=(2,)))(values(6))


@pytest.mark.parametrize(
    "options",
    [
        {"spec": Categorical(A)},
        {"spec": OneHot(A), "safe": True},
        {"spec": OneHot(A), "action_space": "one-hot", "action_mask_key": "mask"},
        {"spec": Composite(action=OneHot(A))},
        {"action_space": "categorical"},
        {"spec": OneHot(A), "action_key": ("a", "action"), "action_value_key": "q", "chosen_action_value_key": "v"},
        {"action_space": "one-hot", "in_keys": ["action_value"]},
    ],
    ids=lambda options: " ".join(options),
)
def test_the_actor_is_torchrls(options: dict[str, Any]) -> None:
    network = nn.Linear(A if "in_keys" in options else 4, A)
    ours, theirs = QValueActor(network, **options), rl.QValueActor(network, **options)
    assert (ours.in_keys, ours.out_keys, ours.action_space, str(ours)) == (
        theirs.in_keys, theirs.out_keys, theirs.action_space, str(theirs)
    )  # fmt: skip
    assert list(ours.state_dict()) == list(theirs.state_dict())
    if "spec" in options:
        assert ours.spec == theirs.spec
        assert ours[1].spec == theirs[1].spec
    assert same(ours(values(6, masked=True)), theirs(values(6, masked=True)))


def test_an_action_may_be_called_as_one_likes() -> None:
    for key in ("act", ("agents", "choice")):
        actor = QValueActor(nn.Linear(4, A), spec=OneHot(A), action_key=key)
        assert actor(values(6))[key].sum() == 6
        assert actor.spec[key] == OneHot(A)
    spec = Composite({("archers", "action"): OneHot(3), ("riders", "action"): Categorical(A)})
    out_keys = [("riders", "action"), "action_value", ("archers", "action")]
    assert QValueModule(spec=spec, out_keys=out_keys).action_space == "categorical"


def test_a_spec_of_several_components_says_how_many_actions_each_has() -> None:
    actor = QValueActor(nn.Linear(4, A), spec=MultiOneHot([2, 3]))
    td = actor(values(6))
    assert torch.equal(td["action"][:, :2].sum(-1), td["action"][:, 2:].sum(-1))
    assert torch.equal(td["action"].sum(-1), torch.full((6,), 2))


@pytest.mark.parametrize(
    "makes",
    [
        lambda lib: QValueModule if lib is None else lib.QValueModule,
        lambda lib: lambda **options: (QValueActor if lib is None else lib.QValueActor)(nn.Linear(4, A), **options),
    ],
    ids=["module", "actor"],
)
@pytest.mark.parametrize(
    "options",
    [
        {"spec": Categorical(A), "action_space": "one-hot"},
        {"spec": Composite(other=OneHot(A))},
        {"spec": Composite(action=OneHot(A), other=OneHot(A))},
        {"spec": Composite(), "action_space": "one-hot"},
        {"spec": MultiCategorical([2, 3])},
        {"spec": Bounded(-1, 1, (A,))},
        {"spec": Composite(action=None), "action_space": "one-hot", "safe": True},
        {"action_space": OneHot(A)},
        {"action_space": "nonsense"},
        {},
    ],
    ids=str,
)
def test_what_torchrl_refuses_is_refused_in_its_words(makes: Any, options: dict[str, Any]) -> None:
    with pytest.raises(Exception) as theirs:  # noqa: PT011
        makes(rl)(**options)
    with pytest.raises(theirs.type) as ours:
        makes(None)(**options)
    words = 4
    assert str(ours.value).split()[:words] == str(theirs.value).split()[:words]


def test_entries_that_nobody_writes_are_refused_with_those() -> None:
    with pytest.raises(RuntimeError, match=r"spec keys and out_keys do not match, .*Leave \['other'\] out of the spec"):
        QValueModule(spec=Composite(action=OneHot(A), other=OneHot(A)))
    with pytest.raises(RuntimeError, match=r"(?s)got more than one out_key .*but only one spec\. Use a Composite"):
        SafeSequential(QValueModule(spec=OneHot(A))).register_spec(safe=False, spec=OneHot(A))
    with pytest.raises(TypeError, match=r"spec must be a TensorSpec subclass, got int\. Give one of TorchRL's specs"):
        composite_like(3, {})


def test_classes_of_specs_name_action_spaces_too() -> None:
    for cls, name in ((OneHot, "one_hot"), (Binary, "binary"), (MultiCategorical, "multi_categorical")):
        assert find_action_space(cls) == name
    assert QValueModule(OneHot).action_space == rl.QValueModule(OneHot).action_space == "one_hot"


def test_an_action_at_the_top_is_the_action() -> None:
    spec = Composite(agents=Composite(action=OneHot(3)), action=Categorical(4))
    assert find_action_space(spec) == "categorical"


def test_a_sequence_gathers_specs_as_torchrls_does() -> None:
    def modules(lib: Any) -> list[Any]:
        first = TensorDictModule(nn.Linear(4, A), ["observation"], ["action_value"])
        last = TensorDictModule(nn.Identity(), ["action"], [("deep", "copy")])
        return [first, (lib or rl).QValueModule(spec=OneHot(A)) if lib else QValueModule(spec=OneHot(A)), last]

    torch.manual_seed(0)
    ours = SafeSequential(*modules(None))
    torch.manual_seed(0)
    theirs = rl.SafeSequential(*modules(rl))
    assert ours.spec == theirs.spec
    assert str(ours) == str(theirs)
    assert same(ours(values(6)), theirs(values(6)))


def test_random_actions_come_from_the_spec() -> None:
    actor = QValueActor(nn.Linear(4, A), spec=OneHot(A))
    for td in (actor.random(values(6)), actor.random_sample(values(6))):
        assert SPECS["one-hot"].is_in(td["action"][0])
        assert td["action"].shape == (6, A)


def test_specs_go_along_with_copies_and_stay_whole_numbers() -> None:
    actor = QValueActor(nn.Linear(4, A), spec=Categorical(A))
    for other in (copy.deepcopy(actor), pickle.loads(pickle.dumps(actor)), actor.to(torch.float64).to("cpu").float()):
        assert other.spec == rl.QValueActor(nn.Linear(4, A), spec=Categorical(A)).spec
    assert actor.to("meta").spec["action"].device.type == "meta"


def test_specs_can_be_exchanged_for_other_composites() -> None:
    module = QValueModule(spec=Categorical(A))
    module.spec = Composite(action=Categorical(A, shape=(1,)))
    with pytest.raises(RuntimeError, match=r"does not match expected shape"):
        module(values(6))
    with pytest.raises(RuntimeError, match=r"object of type .* but expected a Composite instance\. Wrap it"):
        module.spec = Categorical(A)


@pytest.mark.parametrize("safe", [False, True])
def test_a_compiled_actor_with_a_spec_is_one_graph(safe: bool) -> None:
    actor = QValueActor(nn.Linear(4, A), spec=OneHot(A), safe=safe, action_mask_key="mask")
    compiled = torch.compile(actor, fullgraph=True, backend="eager")
    assert same(compiled(values(6, masked=True)), actor(values(6, masked=True)))


def body() -> TensorDictModule:
    torch.manual_seed(0)
    return TensorDictModule(nn.Linear(4, A), ["observation"], ["action_value"])


def test_modules_of_both_make_one_sequence() -> None:
    expected = rl.SafeSequential(body(), rl.QValueModule(spec=OneHot(A)))
    for sequence in (SafeSequential, rl.SafeSequential, TensorDictSequential):
        for head in (QValueModule, rl.QValueModule):
            mixed = sequence(body(), head(spec=OneHot(A)))
            assert same(mixed(values(6)), expected(values(6)))
            if sequence is not TensorDictSequential:
                assert mixed.spec == expected.spec
    assert rl.SafeSequential(body(), QValueModule("one-hot")).spec == Composite(dict.fromkeys(expected.out_keys))


@pytest.mark.parametrize("options", [{"spec": Categorical(A)}, {"action_space": "categorical"}], ids=["spec", "name"])
def test_torchrls_losses_ask_our_actor_for_its_action_space(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    loss = DQNLoss(QValueActor(nn.Linear(4, A), **options), delay_value=False, double_dqn=False)
    assert loss.action_space == "categorical"
    td = values(6)
    td["action"] = torch.randint(A, (6,))
    after = {"observation": torch.randn(6, 4), "reward": torch.randn(6, 1)} | dict.fromkeys(
        ("done", "terminated"), torch.zeros(6, 1, dtype=torch.bool)
    )
    td["next"] = TensorDict(after, [6])
    torch.manual_seed(0)
    theirs = DQNLoss(rl.QValueActor(nn.Linear(4, A), spec=Categorical(A)), delay_value=False, double_dqn=False)
    assert torch.equal(loss(td.clone())["loss"], theirs(td.clone())["loss"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("known", [False, True], ids=["name", "spec"])
def test_torchrls_environments_and_collectors_are_played_by_our_actor(known: bool) -> None:
    env = TicTacToeEnv()
    network = nn.Linear(9, 9)
    options: dict[str, Any] = {"in_keys": ["board"], "action_mask_key": "mask"}
    options |= {"spec": env.action_spec} if known else {"action_space": "categorical"}

    def seen(board: torch.Tensor) -> torch.Tensor:
        return network(board.flatten(-2).float())

    ours, theirs = QValueActor(seen, **options), rl.QValueActor(seen, **options)
    env.set_seed(0)
    game = env.rollout(9, ours)
    env.set_seed(0)
    assert same(game.select("action", "board"), env.rollout(9, theirs).select("action", "board"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        collector = Collector(env, ours, frames_per_batch=20, total_frames=40)
    frames = [batch.numel() for batch in collector]
    collector.shutdown()
    assert frames == [20, 20]


def test_a_value_operator_reads_what_our_actor_writes() -> None:
    critic = ValueOperator(nn.Linear(A, 1), in_keys=["action_value"])
    assert SafeSequential(QValueActor(nn.Linear(4, A), spec=OneHot(A)), critic)(values(6))["state_value"].shape == (
        6,
        1,
    )
