from itertools import combinations

import numpy as np
import pytest

from qmix_lightning.envs.battle.viewer.colours import ALLY, ENEMY, GROUND, HEAL, SHIELD, TEXT, WALL

# Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency", 2009:
# what is seen of linear red, green and blue without one of the three kinds of cones.
SEEN = {
    "all cones": np.eye(3),
    "no long": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "no medium": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "no short": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def linear(colour):
    share = np.array(colour) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def lab(colour, seen):
    """CIE L*a*b* under D65 of what is seen of a colour."""
    xyz = XYZ @ np.clip(SEEN[seen] @ linear(colour), 0, 1) / (XYZ @ np.ones(3))
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def luminance(colour):
    return XYZ[1] @ linear(colour)


@pytest.mark.parametrize("seen", SEEN)
def test_the_teams_stay_far_apart_whatever_cones_one_lacks(seen):
    assert np.linalg.norm(lab(ALLY, seen) - lab(ENEMY, seen)) > 50
    for one, other in combinations((ALLY, ENEMY, GROUND, SHIELD, HEAL), 2):
        assert np.linalg.norm(lab(one, seen) - lab(other, seen)) > 10, (one, other)


@pytest.mark.parametrize("colour", [ALLY, ENEMY, TEXT, SHIELD, HEAL])
@pytest.mark.parametrize("ground", [GROUND, WALL])
def test_everything_stands_out_from_the_ground(colour, ground):
    assert (luminance(colour) + 0.05) / (luminance(ground) + 0.05) > 4.5  # WCAG 2, level AA
