import math
from importlib.resources import files
from itertools import combinations

import pytest
from PIL import Image, ImageChops, ImageDraw

from qmix_lightning.envs.battle.viewer.silhouettes import PLAIN, SILHOUETTES, silhouette

UNITS = sorted(f.name.removesuffix(".toml") for f in (files("qmix_lightning.envs.battle") / "data/units").iterdir())


def filled(name):
    """The shape in black and white, of 60 pixels radius."""
    picture = Image.new("1", (200, 200))
    for _, points in silhouette(name):
        ImageDraw.Draw(picture).polygon([(100 + 60 * x, 100 - 60 * y) for x, y in points], fill=1)
    return picture


def area(picture):
    return picture.convert("L").histogram()[255]


@pytest.mark.parametrize("name", UNITS)
def test_every_unit_has_a_shape_of_its_own(name):
    assert name in SILHOUETTES


def test_an_unknown_unit_has_a_plain_shape():
    assert silhouette("archon") == PLAIN


@pytest.mark.parametrize("name", SILHOUETTES)
def test_shapes_fill_their_circle_and_do_not_reach_far_beyond(name):
    reach = [math.hypot(x, y) for _, points in silhouette(name) for x, y in points]
    assert max(reach) <= 1.55
    assert area(filled(name)) > 0.25 * math.pi * 60**2


@pytest.mark.parametrize("name", SILHOUETTES)
def test_shapes_are_alike_on_both_sides(name):
    def corners(turned):
        return sorted(
            (tone, sorted((round(x, 9) + 0.0, round(turned * y, 9) + 0.0) for x, y in points))
            for tone, points in silhouette(name)
        )

    assert corners(1) == corners(-1)


def test_no_two_shapes_are_alike():
    for one, other in combinations(SILHOUETTES, 2):
        different = area(ImageChops.logical_xor(filled(one), filled(other)))
        assert different > 0.15 * min(area(filled(one)), area(filled(other))), (one, other)
