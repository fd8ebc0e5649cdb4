import torch

from qmix_lightning.envs.games.batch import GameBatch
from qmix_lightning.envs.games.board import Board, Seat
from qmix_lightning.rollout.diary import Diary
from qmix_lightning.rollout.episodes import EpisodeRecorder
from qmix_lightning.spec import ACTION_MASK, MASK
from tests.games import CountingGame

GAMES = 3


def first_legal(mask):
    return mask.int().argmax(-1)


def test_episodes_are_those_of_the_recorder_of_games_that_advance_together():
    env = GameBatch(CountingGame, GAMES, seed=3)
    recorder, diary = EpisodeRecorder(env.spec, GAMES), Diary(env._board, env.spec)
    everyone = [*range(GAMES)]
    recorder.begin(env.reset())
    diary.begin(everyone)
    compared = 0
    for _ in range(30):
        action = first_legal(env._view[ACTION_MASK])
        outcome = env.step(action)
        which = recorder.record(action, outcome)
        diary.record(everyone)
        if which is not None:
            _, episodes = recorder.take()
            ours = torch.cat([diary.episode(game) for game in which.tolist()])
            assert set(ours.keys(True, True)) == set(episodes.keys(True, True))
            for key in episodes.keys(True, True):
                assert ours[key].dtype == episodes[key].dtype
                assert torch.equal(ours[key], episodes[key]), key
            compared += len(which)
            recorder.begin(env.reset(outcome["done"].flatten().clone()), which)
            diary.begin(which.tolist())
    assert compared > 20


def test_games_at_different_steps_do_not_touch_each_other():
    spec = CountingGame.spec
    board = Board(spec, CountingGame.info_keys, 2)
    seats = [Seat(CountingGame(), board, place) for place in range(2)]
    diary = Diary(board, spec)
    for place, seat in enumerate(seats):
        seat.reset(4)
        diary.begin([place])
        for _ in range(5 - 2 * place):
            seat.step()
            diary.record([place])
    assert diary.length.tolist() == [5, 3]
    assert diary.episode(0)[MASK].sum() == 5
    assert diary.episode(1)[MASK].sum() == 3
    assert diary.nothing().batch_size == (0, 6)
