import copy
import pickle

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import InteractionType, TensorDictSequential, set_interaction_type

from qmix_lightning.actors.qvalue import QValueModule
from qmix_lightning.exploration.egreedy import EGreedyModule
from qmix_lightning.spec import TaskSpec

AGENTS = 3
ACTION = ("agents", "action")


def played(*batch, agents=True, n_actions=5):
    """Agents that all chose action 0, of which 0 and 1 are illegal."""
    agents_shape = [*batch, AGENTS] if agents else list(batch)
    chosen = torch.zeros(*batch, AGENTS, dtype=torch.int64)
    legal = torch.arange(n_actions).expand(*batch, AGENTS, n_actions) > 1
    return TensorDict({"agents": TensorDict({"action": chosen, "legal": legal}, agents_shape)}, batch)


def test_epsilon_0_changes_nothing():
    td = EGreedyModule(5, 0.0, 0.0, action_key=ACTION, action_mask_key=("agents", "legal"))(played(100))
    assert (td[ACTION] == 0).all()


def test_epsilon_1_draws_evenly_among_the_legal_actions():
    torch.manual_seed(0)
    td = EGreedyModule(5, 1.0, 1.0, action_key=ACTION, action_mask_key=("agents", "legal"))(played(20_000))
    shares = td[ACTION].flatten().bincount(minlength=5) / 60_000
    expected = torch.tensor([0, 0, 1 / 3, 1 / 3, 1 / 3])
    assert ((shares - expected).abs() <= 5 * (expected * (1 - expected) / 60_000).sqrt()).all()


def test_epsilon_is_the_share_of_actions_that_are_replaced():
    torch.manual_seed(0)
    td = EGreedyModule(5, 0.3, 0.3, action_key=ACTION, action_mask_key=("agents", "legal"))(played(20_000))
    assert abs((td[ACTION] != 0).double().mean() - 0.3) < 5 * (0.3 * 0.7 / 60_000) ** 0.5


def test_agents_explore_each_on_its_own_if_their_tensordict_has_a_dimension_for_them():
    torch.manual_seed(0)
    explore = EGreedyModule(5, 0.5, 0.5, action_key=ACTION, action_mask_key=("agents", "legal"))
    strayed = (explore(played(20_000))[ACTION] != 0).double()
    assert torch.corrcoef(strayed.T).triu(1).abs().max() < 5 / 20_000**0.5
    strayed = explore(played(20_000, agents=False))[ACTION] != 0
    assert (strayed == strayed[:, :1]).all()


def test_a_policy_that_is_asked_for_its_best_actions_is_left_alone():
    explore = EGreedyModule(5, 1.0, 1.0, action_key=ACTION, action_mask_key=("agents", "legal"))
    for kind in (InteractionType.MODE, InteractionType.MEAN, InteractionType.DETERMINISTIC):
        with set_interaction_type(kind):
            assert (explore(played(9))[ACTION] == 0).all()
    for kind in (InteractionType.RANDOM, None):
        with set_interaction_type(kind):
            assert (explore(played(9))[ACTION] > 1).all()


def test_a_task_and_its_number_of_actions_mean_the_same():
    task = TaskSpec("battle/3m", AGENTS, n_actions=5, observation_size=4, state_size=6, episode_limit=8)
    drawn = []
    for spec in (5, task):
        torch.manual_seed(0)
        drawn.append(EGreedyModule(spec, action_key=ACTION)(played(50))[ACTION])
        assert EGreedyModule(spec).spec is spec
    assert torch.equal(*drawn)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.bool, torch.float32])
def test_one_hot_actions_stay_one_hot_and_keep_their_dtype(dtype):
    chosen = torch.tensor([1, 0, 0, 0], dtype=dtype).expand(500, 4)
    td = EGreedyModule(4, 0.5, 0.5, action_space="one-hot")(TensorDict(action=chosen, batch_size=[500]))
    assert td["action"].dtype == dtype
    assert (td["action"].sum(-1) == 1).all()
    assert (td["action"].double().mean(0) > 0).all()


@pytest.mark.parametrize("batch", [[], [0], [2, 4]], ids=str)
def test_any_batch_will_do(batch):
    td = EGreedyModule(5, action_key=ACTION, action_mask_key=("agents", "legal"))(played(*batch))
    assert td[ACTION].shape == (*batch, AGENTS)
    assert (td[ACTION] > 1).all()


def test_it_explores_after_a_policy():
    policy = TensorDictSequential(
        QValueModule("categorical", action_mask_key="m"), EGreedyModule(4, action_mask_key="m")
    )
    assert policy.in_keys == ["action_value", "m"]
    mask = torch.tensor([False, True, False, False]).expand(9, 4)
    assert (policy(TensorDict(action_value=torch.randn(9, 4), m=mask, batch_size=[9]))["action"] == 1).all()


def test_many_frames_at_once_are_as_many_one_by_one():
    at_once, one_by_one = EGreedyModule(2, 0.9, 0.2, 700), EGreedyModule(2, 0.9, 0.2, 700)
    for frames in (0, 1, 2, 97, 400, 199):
        at_once.step(frames)
        for _ in range(frames):
            one_by_one.step()
        # Each frame on its own rounds a number below 1, by 2**-25 at the most.
        torch.testing.assert_close(at_once.eps, one_by_one.eps, rtol=0, atol=700 * 2**-25)
    assert at_once.eps == pytest.approx(0.9 - 699 * 0.7 / 700)


def test_it_falls_in_a_straight_line_and_stays_at_the_end_exactly():
    explore = EGreedyModule(2, 1.0, 0.05, 50_000)
    explore.step(25_000)
    assert explore.eps == pytest.approx(0.525)
    explore.step(10**9)
    explore.step()
    assert torch.equal(explore.eps, torch.tensor(0.05))


def test_equal_ends_make_a_constant():
    explore = EGreedyModule(2, 0.3, 0.3)
    explore.step(7)
    assert torch.equal(explore.eps, torch.tensor(0.3))


def test_epsilon_is_part_of_a_checkpoint():
    explore, other = EGreedyModule(2, 1.0, 0.0, 10), EGreedyModule(2, 0.5, 0.25, 10)
    explore.step(3)
    other.load_state_dict(explore.state_dict())
    other.step(2)
    assert other.eps == pytest.approx(0.5)
    for copied in (copy.deepcopy(explore), pickle.loads(pickle.dumps(explore))):
        assert torch.equal(copied.eps, explore.eps)
        copied.step()
        assert copied.eps < explore.eps


def test_it_compiles_to_one_graph():
    explore = EGreedyModule(5, 1.0, 1.0, action_key=ACTION, action_mask_key=("agents", "legal"))
    assert (torch.compile(explore, fullgraph=True, backend="eager")(played(9))[ACTION] > 1).all()


def refused(words, error=ValueError):
    return pytest.raises(error, match=words)


def test_an_epsilon_that_rises_or_is_no_probability_is_refused():
    with refused(r"eps should decrease over time or be constant, got eps_init=0\.1 and eps_end=0\.2", RuntimeError):
        EGreedyModule(4, eps_init=0.1, eps_end=0.2)
    for ends in ((1.5, 0.1), (0.5, -0.5), (float("nan"), 0.1)):
        with refused(rf"a probability, expected numbers from 0 to 1, got eps_init={ends[0]} and eps_end={ends[1]}"):
            EGreedyModule(4, *ends)
    with pytest.warns(UserWarning, match=r"eps_init should be a float, got 1"):
        EGreedyModule(4, eps_init=1)


def test_a_way_without_length_is_refused():
    with refused(r"annealing_num_steps >= 1, got 0; for a constant, set eps_init = eps_end"):
        EGreedyModule(4, annealing_num_steps=0)
    with refused(r"frames >= 0, got -1"):
        EGreedyModule(4).step(-1)


def test_what_is_no_space_of_actions_is_refused():
    with refused(r"a number of actions, a TaskSpec or one of TorchRL's specs, got 'four'", TypeError):
        EGreedyModule("four")
    with refused(r"at least one action, 'categorical' or 'one-hot', got 0 actions"):
        EGreedyModule(0)
    with refused(r"in the action_space='mult_one_hot'\. Others need one of TorchRL's specs"):
        EGreedyModule(4, action_space="mult-one-hot")
    with refused(r"not specified/not compatible .*Got action_space=nonsense\. Choose one of"):
        EGreedyModule(4, action_space="nonsense")
    with refused(r"spec must be provided to the exploration wrapper\. Pass the number of actions", RuntimeError):
        EGreedyModule(None)(played(2))


def test_missing_entries_are_refused_by_their_keys():
    with refused(r"Action key action not found in TensorDict.*Run the policy first", KeyError):
        EGreedyModule(5)(played(2))
    with refused(r"Action key \('units', 'action'\) not found in TensorDict", KeyError):
        EGreedyModule(5, action_key=("units", "action"))(played(2))
    with refused(r"Action mask key m not found in TensorDict", KeyError):
        EGreedyModule(5, action_key=ACTION, action_mask_key="m")(played(2))


def test_an_agent_without_a_legal_action_is_refused():
    td = played(2)
    td["agents", "legal"] = torch.zeros(2, AGENTS, 5, dtype=torch.bool)
    with refused(r"invalid multinomial distribution: .* none at index \[0, 0\]\. .*\"no-op\"", RuntimeError):
        EGreedyModule(5, action_key=ACTION, action_mask_key=("agents", "legal"))(td)


def test_actions_and_masks_of_another_shape_are_refused():
    with refused(r"Cannot expand mask to the desired shape: .* \(2, 3, 4\), got \(2, 3, 5\)"):
        EGreedyModule(4, action_key=ACTION, action_mask_key=("agents", "legal"))(played(2))
    with refused(r"Action spec shape does not match the action shape: expected actions with 4 entries, got \(2, 3\)"):
        EGreedyModule(4, action_key=ACTION, action_space="one-hot")(played(2))


def test_actions_on_another_device_are_refused():
    with refused(r"on the same device, but got action\.device=.*meta.* device=cpu\. Move the module", RuntimeError):
        EGreedyModule(5)(TensorDict(action=torch.zeros(2, device="meta"), batch_size=[2]))
