from functools import partial

import numpy as np
import pytest
import torch

from qmix_lightning.envs.checking import check_env
from qmix_lightning.envs.games.base import GameFaultError
from qmix_lightning.envs.games.batch import GameBatch
from qmix_lightning.envs.games.board import Board, first_illegal
from qmix_lightning.envs.games.seeds import episode_seed
from qmix_lightning.spec import ACTION_MASK, STATE
from tests.games import CountingGame, length


class Forgetful(CountingGame):
    """Does not say in what an episode differs from another of the same seed."""

    def reset(self, seed):
        super().reset(seed)
        self._episode = 0


def play(env, steps):
    """The state of every game at every step."""
    seen = [env.reset()[STATE].clone()]
    for _ in range(steps):
        outcome = env.step(env._view[ACTION_MASK].int().argmax(-1))
        seen.append(env.reset(outcome["done"].flatten().clone())[STATE].clone())
    return torch.stack(seen)


def test_games_side_by_side_keep_the_contract_of_environments():
    check_env(GameBatch(Forgetful, 3, seed=1), steps=60)


def test_many_games_are_each_of_them_alone():
    whole = play(GameBatch(Forgetful, 4, seed=5), 20)
    parts = [play(GameBatch(Forgetful, 2, seed=5, first=first), 20) for first in (0, 2)]
    assert torch.equal(whole, torch.cat(parts, 1))
    assert not torch.equal(whole[:, 0], whole[:, 1])


def test_the_episode_limit_cuts_off_what_has_no_end():
    env = GameBatch(Forgetful, 1, seed=0)
    lengths = set()
    env.reset()
    for _ in range(20):
        steps, done = 0, False
        while not done:
            outcome = env.step(env._view[ACTION_MASK].int().argmax(-1))
            steps, done = steps + 1, bool(outcome["done"])
        lengths.add((steps, bool(outcome["terminated"])))
        env.reset()
    assert {steps for steps, _ in lengths} <= {1, 2, 3, 4, 5}
    assert all(decided == (steps < 5) for steps, decided in lengths)


def test_a_fault_is_an_exception_here(tmp_path):
    env = GameBatch(partial(CountingGame, diary=tmp_path / "diary", faults={"step 0": "crash"}))
    env.reset()
    with pytest.raises(GameFaultError, match="crash: told to in step 0"):
        env.step(env._view[ACTION_MASK].int().argmax(-1))


def test_closing_closes_the_games(tmp_path):
    env = GameBatch(partial(CountingGame, diary=tmp_path / "diary"), 2)
    env.close()
    assert (tmp_path / "diary").read_text().count("close") == 2


def test_arrays_of_a_board_do_not_overlap_and_begin_at_cache_lines():
    spec, keys = CountingGame.spec, CountingGame.info_keys
    memory = bytearray(Board.size(spec, keys, 3))
    board = Board(spec, keys, 3, memory)
    names = ("observation", "action_mask", "state", "action", "reward", "done", "terminated", "info")
    for number, name in enumerate(names, 1):
        array = getattr(board, name)
        assert array.ctypes.data % 64 == np.frombuffer(memory, np.uint8).ctypes.data % 64
        array[:] = number
    for number, name in enumerate(names, 1):
        array = getattr(board, name)
        assert (array == (number if array.dtype != np.bool_ else True)).all()
    again = Board(spec, keys, 3, memory)
    assert np.array_equal(again.info, board.info)


@pytest.mark.parametrize("wrong", [-1, 3, 2])
def test_an_illegal_action_is_found_with_what_would_be_legal(wrong):
    mask = np.array([[[True, True, False]] * 2] * 2)
    action = np.zeros((2, 2), dtype=np.int64)
    assert first_illegal(action, mask) is None
    action[1, 0] = wrong
    assert first_illegal(action, mask) == (1, 0, wrong, [0, 1])


def test_seeds_of_episodes_fit_everywhere_and_differ():
    seeds = [episode_seed(seed, game, episode) for seed in (0, -1, 2**40) for game in range(3) for episode in range(3)]
    assert len(set(seeds)) == 27
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert {length(seed) for seed in seeds} == {1, 2, 3, 4, 5}
