"""torchrl's EGreedyModule replaces the same actions by the same ones."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictSequential
from torch import nn

from qmix_lightning.actors.qvalue_actor import QValueActor
from qmix_lightning.exploration.egreedy import EGreedyModule

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what torchrl's own imports deprecate
    pytest.importorskip("torchrl")
    import torchrl.modules as rl
    from torchrl.data import Binary, Bounded, Categorical, Composite, MultiCategorical, MultiOneHot, OneHot
    from torchrl.envs import TicTacToeEnv
    from torchrl.envs.utils import ExplorationType, set_exploration_type

A, AGENTS = 5, 3
ACTION, MASK = ("agents", "action"), ("agents", "mask")
OPENING = torch.tensor([True, False, True, False, False])

DISCRETE = {
    "categorical": Categorical(A),
    "categorical int32": Categorical(A, dtype=torch.int32),
    "categorical of each agent": Categorical(A, shape=(AGENTS,)),
    "one-hot": OneHot(A),
    "one-hot int64": OneHot(A, dtype=torch.int64),
    "one-hot of each agent": OneHot(A, shape=(AGENTS, A)),
    "mult-one-hot": MultiOneHot([2, 3]),
}
OTHERS = {"bounded": Bounded(-1, 1, (2,)), "binary": Binary(4), "multi-categorical": MultiCategorical([2, 3])}


def played(spec: Any, *batch: int, masked: bool = False) -> TensorDict:
    """What agents chose who all choose the first action."""
    per_agent = spec.shape if spec.shape[:1] != (AGENTS,) else spec.shape[1:]
    torch.manual_seed(0)
    agents = TensorDict({"action": torch.zeros(*batch, AGENTS, *per_agent, dtype=spec.dtype)}, [*batch, AGENTS])
    if masked:
        agents["mask"] = (torch.rand(*batch, AGENTS, A) < 0.5) | OPENING
    return TensorDict({"agents": agents}, batch)


def after(lib: Any, spec: Any, td: TensorDict, **options: Any) -> TensorDict:
    torch.manual_seed(3)
    return lib(copy.deepcopy(spec), action_key=ACTION, **options)(td.clone())


def assert_same(spec: Any, td: TensorDict, **options: Any) -> None:
    ours, theirs = after(EGreedyModule, spec, td, **options), after(rl.EGreedyModule, spec, td, **options)
    assert ours[ACTION].dtype == theirs[ACTION].dtype
    assert torch.equal(ours[ACTION], theirs[ACTION])


@pytest.mark.parametrize("eps", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("batch", [[], [1], [64], [4, 8]], ids=str)
@pytest.mark.parametrize("name", DISCRETE)
def test_the_same_seed_draws_the_same_legal_actions(name: str, batch: list[int], masked: bool, eps: float) -> None:
    options = {"action_mask_key": MASK} if masked else {}
    assert_same(DISCRETE[name], played(DISCRETE[name], *batch, masked=masked), eps_init=eps, eps_end=eps, **options)


@pytest.mark.parametrize("name", OTHERS)
def test_the_same_seed_draws_the_same_from_any_other_spec(name: str) -> None:
    assert_same(OTHERS[name], played(OTHERS[name], 64), eps_init=0.5)


def test_the_same_seed_draws_the_same_without_a_spec() -> None:
    td = played(Categorical(A), 64, masked=True)
    ours = after(EGreedyModule, A, td, action_mask_key=MASK)
    assert torch.equal(ours[ACTION], after(rl.EGreedyModule, Categorical(A), td, action_mask_key=MASK)[ACTION])
    td = played(OneHot(A, dtype=torch.int64), 64, masked=True)
    ours = after(EGreedyModule, A, td, action_mask_key=MASK, action_space="one-hot")
    assert torch.equal(ours[ACTION], after(rl.EGreedyModule, OneHot(A), td, action_mask_key=MASK)[ACTION])


@pytest.mark.parametrize(
    "spec",
    [
        Composite({ACTION: Categorical(A)}),
        Composite(agents=Composite(action=Categorical(A, shape=(AGENTS,)), shape=(AGENTS,))),
        Composite(agents=Composite(action=Categorical(A, shape=(64, AGENTS)), shape=(64, AGENTS)), shape=(64,)),
    ],
    ids=["flat", "agents", "batched"],
)
def test_the_spec_of_an_environment_will_do(spec: Any) -> None:
    assert_same(spec, played(Categorical(A), 64, masked=True), action_mask_key=MASK)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.float32])
def test_actions_come_back_in_torchrls_dtype(dtype: torch.dtype) -> None:
    for spec in (Categorical(A), OneHot(A)):
        assert_same(spec, played(spec, 9).to(dtype))


def test_agents_that_share_a_batch_explore_together() -> None:
    td = TensorDict({"action": torch.zeros(64, AGENTS, dtype=torch.int64)}, [64])
    drawn = []
    for lib in (EGreedyModule, rl.EGreedyModule):
        torch.manual_seed(0)
        drawn.append(lib(Categorical(A), eps_init=0.5)(td.clone())["action"])
    assert torch.equal(*drawn)


def test_a_mask_neither_stays_in_the_users_spec_nor_hides_the_specs_own() -> None:
    spec = Categorical(A, shape=(4, AGENTS))
    after(EGreedyModule, spec, played(Categorical(A), 4, masked=True), action_mask_key=MASK)
    assert spec.mask is None
    for masked in (Categorical(A, mask=OPENING), OneHot(A, mask=OPENING), OneHot(A, shape=(AGENTS, A), mask=OPENING)):
        drawn = after(EGreedyModule, masked, played(masked, 200), eps_end=1.0)[ACTION]
        shares = (nn.functional.one_hot(drawn.long(), A) if masked.shape == () else drawn).double().mean((0, 1))
        assert torch.equal(shares > 0, OPENING)


def test_a_module_is_exploring_when_torchrl_says_so() -> None:
    for kind in (*ExplorationType, None):
        with set_exploration_type(kind):
            assert_same(Categorical(A), played(Categorical(A), 64))
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        assert (after(EGreedyModule, A, played(Categorical(A), 64))[ACTION] == 0).all()


@pytest.mark.parametrize("init", [1.0, 0.7])
def test_epsilon_falls_as_torchrls_does(init: float) -> None:
    ours, theirs = (lib(OneHot(A), init, 0.05, 900) for lib in (EGreedyModule, rl.EGreedyModule))
    for _ in range(20):
        ours.step()
        theirs.step()
        assert torch.equal(ours.eps, theirs.eps)
    for frames in (100, 500, 279, 1, 50):
        ours.step(frames)
        theirs.step(frames)
        # torchrl rounds a number below 1 in every frame, by 2**-25 at the most.
        torch.testing.assert_close(ours.eps, theirs.eps, rtol=0, atol=900 * 2**-25)
    assert torch.equal(ours.eps, theirs.eps)


@pytest.mark.filterwarnings("ignore:eps_init should be a float:UserWarning")
@pytest.mark.parametrize("init", [1.0, 1])
def test_checkpoints_are_exchangeable(init: float) -> None:
    ours, theirs = EGreedyModule(A, init), rl.EGreedyModule(OneHot(A), init)
    theirs.step(100)
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    for name, value in theirs.state_dict().items():
        assert ours.state_dict()[name].dtype == value.dtype
        assert torch.equal(ours.state_dict()[name], value)


def test_its_spec_is_torchrls() -> None:
    for spec in (*DISCRETE.values(), *OTHERS.values(), Composite({ACTION: Categorical(A)}), None):
        for options in ({}, {"action_key": ACTION}, {"device": torch.device("cpu")}):
            ours, theirs = EGreedyModule(spec, **options), rl.EGreedyModule(spec, **options)
            assert (ours.spec, ours.in_keys, ours.out_keys) == (theirs.spec, theirs.in_keys, theirs.out_keys)
    assert pickle.loads(pickle.dumps(EGreedyModule(OneHot(A)))).spec == rl.EGreedyModule(OneHot(A)).spec


def test_a_policy_of_either_library_is_explored_in_an_environment() -> None:
    env = TicTacToeEnv()
    network = nn.Linear(9, 9)

    def seen(board: torch.Tensor) -> torch.Tensor:
        return network(board.flatten(-2).float())

    games = []
    for actor, explore in ((QValueActor, rl.EGreedyModule), (rl.QValueActor, EGreedyModule)):
        policy = TensorDictSequential(
            actor(seen, in_keys=["board"], spec=env.action_spec, action_mask_key="mask"),
            explore(env.action_spec, eps_init=0.5, action_mask_key="mask"),
        )
        torch.manual_seed(0)
        env.set_seed(0)
        games.append(torch.stack([torch.cat([env.rollout(9, policy)["action"], torch.zeros(9)])[:9] for _ in range(5)]))
    assert torch.equal(*games)


def test_it_compiles_to_one_graph_with_a_spec() -> None:
    explore = EGreedyModule(OneHot(A), 1.0, 1.0, action_key=ACTION, action_mask_key=MASK)
    td = played(OneHot(A), 9)
    td[MASK] = (torch.arange(A) == 3).expand(9, AGENTS, A)
    assert torch.compile(explore, fullgraph=True, backend="eager")(td)[ACTION][..., 3].all()


def test_what_does_not_fit_the_spec_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Action spec shape does not match .*: expected .* 4.*, got \[9, 3\]"):
        after(EGreedyModule, OneHot(4), played(Categorical(A), 9))
    with pytest.raises(ValueError, match=r"Cannot expand mask to the desired shape: .* \(9, 3, 4\), got \(9, 3, 5\)"):
        after(EGreedyModule, Categorical(4), played(Categorical(A), 9, masked=True), action_mask_key=MASK)
    with pytest.raises(ValueError, match=r"(?s)a finite number of them, got spec=Bounded.*Leave action_mask_key"):
        after(EGreedyModule, Bounded(-1, 1, ()), played(Bounded(-1, 1, ()), 9, masked=True), action_mask_key=MASK)
    with pytest.raises(KeyError, match=r"No spec of .*'action'.* among \['a'\]\. Name the action by action_key"):
        after(EGreedyModule, Composite(a=OneHot(A)), played(OneHot(A), 9))
    with pytest.raises(ValueError, match=r"TorchRL's specs tell the action space: leave out action_space='one-hot'"):
        EGreedyModule(OneHot(A), action_space="one-hot")
    td = played(OneHot(A), 9, masked=True)
    td[MASK][4, 1] = False
    with pytest.raises(RuntimeError, match=r"invalid multinomial distribution: .* at index \[4, 1\]\. .*\"no-op\""):
        after(EGreedyModule, OneHot(A), td, action_mask_key=MASK)
