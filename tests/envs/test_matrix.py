import pytest
import torch

from qmix_lightning.envs.checking import check_env
from qmix_lightning.envs.matrix import MatrixGame, TwoStepGame
from qmix_lightning.spec import ACTION_MASK, OBSERVATION, STATE


def joint_actions(n_actions):
    return torch.cartesian_prod(torch.arange(n_actions), torch.arange(n_actions))


@pytest.mark.parametrize("game", [MatrixGame(num_envs=5), MatrixGame([[1, 2], [3, 4]]), TwoStepGame(num_envs=5)])
def test_the_games_keep_the_contract(game):
    check_env(game, steps=20)


def test_the_matrix_pays_its_entries_and_is_over():
    payoff = torch.tensor([[8.0, -12, -12], [-12, 0, 0], [-12, 0, 0]])
    game = MatrixGame(num_envs=9)
    game.reset()
    outcome = game.step(joint_actions(3))
    assert torch.equal(outcome["reward"].view(3, 3), payoff)
    assert outcome["done"].all()
    assert outcome["terminated"].all()


def test_rows_are_the_first_agents_actions():
    game = MatrixGame([[1.0, 2.0], [3.0, 4.0]])
    game.reset()
    assert game.step(torch.tensor([[1, 0]]))["reward"].item() == 3.0


@pytest.mark.parametrize(("choice", "payoff"), [(0, [[7.0, 7.0], [7.0, 7.0]]), (1, [[0.0, 1.0], [1.0, 8.0]])])
@pytest.mark.parametrize("other", [0, 1])
def test_the_first_agent_chooses_the_matrix_that_both_play(choice, payoff, other):
    game = TwoStepGame(num_envs=4)
    game.reset()
    chosen = game.step(torch.tensor([choice, other]).expand(4, 2))
    assert not chosen["reward"].any()
    assert not chosen["done"].any()
    assert torch.equal(chosen[STATE], torch.eye(3)[1 + choice].expand(4, 3))
    paid = game.step(joint_actions(2))
    assert torch.equal(paid["reward"].view(2, 2), torch.tensor(payoff))
    assert paid["terminated"].all()


def test_every_agent_sees_the_state_and_may_do_anything():
    view = TwoStepGame(num_envs=2).reset()
    assert torch.equal(view[OBSERVATION], torch.tensor([1.0, 0.0, 0.0]).expand(2, 2, 3))
    assert view[ACTION_MASK].all()


def test_games_restart_one_by_one():
    game = TwoStepGame(num_envs=2)
    game.reset()
    game.step(torch.tensor([[0, 0], [1, 0]]))
    assert torch.equal(game.reset(torch.tensor([True, False]))[STATE], torch.eye(3)[[0, 2]])


@pytest.mark.parametrize("game", [MatrixGame(num_envs=2), TwoStepGame(num_envs=2)])
@pytest.mark.parametrize("wrong", [-1, 3])
def test_an_illegal_action_is_refused_by_name(game, wrong):
    game.reset()
    with pytest.raises(ValueError, match=f"Episode 1, agent 0: action {wrong} is illegal, expected one of 0 to"):
        game.step(torch.tensor([[0, 0], [wrong, 0]]))


def test_a_payoff_that_is_not_square_is_refused():
    with pytest.raises(ValueError, match=r"payoff of \[A, A\] with A >= 2, got \[2, 3\]"):
        MatrixGame([[1, 2, 3], [4, 5, 6]])
