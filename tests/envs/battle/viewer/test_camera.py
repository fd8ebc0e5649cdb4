import pytest
from hypothesis import given
from hypothesis import strategies as some

from qmix_lightning.envs.battle.viewer.camera import MARGIN, SMALLEST, camera_over
from tests.envs.battle.viewer.drawn import MARINE, recording, standing

cells = some.floats(1, 31)


@given(places=some.lists(some.tuples(cells, cells), min_size=2, max_size=5), width=some.sampled_from([64, 320, 640]))
def test_everybody_is_in_the_picture_and_a_cell_is_as_wide_as_high(places, width):
    camera = camera_over(recording(standing(*((MARINE, x, y) for x, y in places), loops=0)), width, 46)
    assert camera.width == width
    assert (camera.top + camera.height) % 2 == 0
    rim = MARGIN * camera.scale - 1  # pixels are whole
    for x, y in places:
        across, down = camera.place(x, y)
        assert rim <= across <= width - rim
        assert 46 + rim <= down <= 46 + camera.height - rim
        assert camera.cell(across, down) == pytest.approx((x, y), abs=1e-4)
    (x0, y0), (x1, y1) = camera.place(5, 5), camera.place(6, 6)
    assert x1 - x0 == pytest.approx(y0 - y1) == pytest.approx(camera.scale)


def test_north_is_up_and_east_is_right():
    camera = camera_over(recording(standing((MARINE, 9, 9), (MARINE, 20, 12))), 640, 46)
    (x0, y0), (x1, y1) = camera.place(9, 9), camera.place(20, 12)
    assert x1 > x0
    assert y1 < y0


def test_places_of_the_dead_do_not_count_and_a_duel_is_not_blown_up():
    frames = standing((MARINE, 16, 16), (MARINE, 2, 30))
    frames["health"][:, 1] = 0
    camera = camera_over(recording(frames), 640, 0)
    assert camera.width / camera.scale == pytest.approx(SMALLEST[0])
    assert camera.place(16, 16) == pytest.approx((320, camera.height / 2), abs=1)


def test_a_finer_picture_shows_the_same():
    camera = camera_over(recording(standing((MARINE, 9, 9), (MARINE, 20, 12))), 640, 46)
    assert camera.magnified(3).place(11, 10) == pytest.approx(tuple(3 * at for at in camera.place(11, 10)))
