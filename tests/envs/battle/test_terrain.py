from dataclasses import replace

import numpy as np
import pytest

from qmix_lightning.envs.battle.scenario import load_scenario
from qmix_lightning.envs.battle.terrain import BLOCKED, OPEN, WALKABLE, cell_is_walkable, fits, ground_of


@pytest.fixture(scope="module")
def ground():
    """A walkable block of five by five cells, from (2, 2) up to (7, 7)."""
    walkable = np.zeros((10, 10), dtype=bool)
    walkable[2:7, 2:7] = True
    return ground_of(replace(load_scenario("3m"), walkable=tuple(map(tuple, walkable.tolist()))))


def test_an_open_cell_has_walkable_neighbours_all_around(ground):
    assert [int(kind) for kind in ground[:, 4]] == [BLOCKED] * 2 + [WALKABLE] + [OPEN] * 3 + [WALKABLE] + [BLOCKED] * 3
    assert (ground == OPEN).sum() == 9


def test_cells_on_the_edge_of_the_map_are_not_open():
    assert ground_of(load_scenario("3m"))[0].max() == WALKABLE


def test_beyond_the_map_nothing_can_be_walked_on(ground):
    assert cell_is_walkable(ground, 2, 2)
    assert not any(cell_is_walkable(ground, x, y) for x, y in [(1, 2), (-1, 4), (4, -1), (10, 4), (4, 10)])


@pytest.mark.parametrize(("x", "legal"), [(2.5, True), (2.375, True), (2.374, False), (6.625, True), (6.626, False)])
def test_a_body_may_touch_what_it_may_not_enter(ground, x, legal):
    assert fits(ground, x, 4.5, 0.375) == legal
    assert fits(ground, 4.5, x, 0.375) == legal


def test_a_body_must_fit_with_all_four_corners(ground):
    assert not fits(ground, 2.3, 2.3, 0.375)
    assert not fits(ground, -0.5, 4.5, 0.375)


def test_the_outer_band_is_a_row_wider_on_either_side():
    inner, outer = (ground_of(load_scenario("3m", pathing)) for pathing in ("inner", "outer"))
    rows = [np.flatnonzero(ground[16] != BLOCKED) for ground in (inner, outer)]
    assert [(row[0], row[-1]) for row in rows] == [(8, 23), (7, 24)]
