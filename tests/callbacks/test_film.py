from io import BytesIO

import pytest
from PIL import Image

from qmix_lightning.callbacks.film import BattleFilm
from tests.callbacks.boards import Diary, events, fitted
from tests.training import LIGHTNINGS_OWN_WARNING, quiet_trainer, small_data, small_learner

pytestmark = pytest.mark.filterwarnings(LIGHTNINGS_OWN_WARNING)


def films(folder):
    board = events(folder)
    return board.Images("val/battle") if "val/battle" in board.Tags()["images"] else []


def test_every_evaluation_shows_a_battle_that_moves(tmp_path):
    diary = Diary()
    trainer, *_ = fitted(tmp_path, callbacks=[diary])  # evaluated at every third of six updates
    shown = films(trainer.log_dir)
    assert [film.step for film in shown] == [diary.steps[2], diary.steps[5]]
    for film in shown:
        picture = Image.open(BytesIO(film.encoded_image_string))
        assert (picture.format, picture.size) == ("GIF", (film.width, film.height))
        assert film.width == 320
        assert 1 < picture.n_frames <= 42
        assert len(film.encoded_image_string) < 300_000


@pytest.mark.parametrize(("every", "count"), [(0, 0), (1, 4), (3, 2)])
def test_films_are_made_as_often_as_they_are_asked_for(tmp_path, every, count):
    film = BattleFilm(every=every)
    trainer, *_ = fitted(tmp_path, updates=4, val_check_interval=1, film=film)
    assert len(films(trainer.log_dir)) == count


def test_a_run_that_goes_on_counts_on(tmp_path):
    film = BattleFilm(every=3)
    film.load_state_dict(BattleFilm(every=3).state_dict() | {"evaluations": 2})
    trainer, *_ = fitted(tmp_path, updates=2, val_check_interval=1, film=film)
    assert len(films(trainer.log_dir)) == 1
    assert film.state_dict() == {"evaluations": 4}


def test_training_is_the_same_with_and_without_films(tmp_path):
    weights = []
    for every in (0, 1):
        _, learner, data = fitted(tmp_path / str(every), film=BattleFilm(every=every))
        weights.append([parameter.clone() for parameter in learner.parameters()] + [data.buffer.sample()["state"]])
    assert all((one == other).all() for one, other in zip(*weights, strict=True))


def test_it_is_the_same_battle_every_time(tmp_path):
    trainer, *_ = fitted(tmp_path, learner={"learning_rate": 1e-12})
    first, second = films(trainer.log_dir)
    assert first.encoded_image_string == second.encoded_image_string


def test_games_are_not_filmed_nor_runs_without_a_board(tmp_path):
    trainer, *_ = fitted(tmp_path, env="matrix/two_step", film=BattleFilm())
    assert films(trainer.log_dir) == []
    data = small_data("battle/3m")
    quiet_trainer(2, callbacks=[BattleFilm()], limit_val_batches=1, val_check_interval=1).fit(small_learner(data), data)


def test_an_evaluation_that_is_not_part_of_training_shows_nothing(tmp_path):
    data = small_data("battle/3m")
    film = BattleFilm()
    trainer = quiet_trainer(1, callbacks=[film], limit_val_batches=1)
    trainer.validate(small_learner(data), data, verbose=False)
    assert film.state_dict() == {"evaluations": 0}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"every": -1}, "every counts evaluations and must not be negative, got -1. 0 films nothing."),
        ({"width": 101}, "width must be even and at least 64 pixels, got 101."),
    ],
)
def test_films_that_cannot_be_made_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        BattleFilm(**options)
