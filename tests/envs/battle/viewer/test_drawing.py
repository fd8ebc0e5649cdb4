import numpy as np
import pytest
from PIL import ImageChops

from qmix_lightning.envs.battle.state import ATTACK, MOVE
from qmix_lightning.envs.battle.viewer.bodies import FADES_FOR
from qmix_lightning.envs.battle.viewer.colours import ALLY, ENEMY, GROUND, HEAL, SHIELD, TEXT, WALL
from qmix_lightning.envs.battle.viewer.drawing import AFTER_THE_END, BattlePainter
from tests.envs.battle.viewer.drawn import (
    BANELING,
    COLOSSUS,
    MARINE,
    MEDIVAC,
    STALKER,
    ZEALOT,
    recording,
    standing,
)


def painter(frames, kinds=(MARINE,), *, ranges=False, orders=False, n_agents=1, outcome="won", **options):
    return BattlePainter(
        recording(frames, kinds, n_agents=n_agents, outcome=outcome), ranges=ranges, orders=orders, **options
    )


def near(colour, other, tolerance=40):
    return max(abs(a - b) for a, b in zip(colour, other, strict=True)) <= tolerance


class Picture:
    """A moment as it is painted, asked by cells."""

    def __init__(self, painted, loop=0):
        self.image, self.camera = painted.paint(loop), painted.camera

    def __getitem__(self, place):
        return self.image.getpixel(tuple(map(int, self.camera.place(*place))))

    def around(self, place, radius):
        """Colours on a circle of so many cells, clockwise from the north."""
        turns = np.linspace(0, 2 * np.pi, 72, endpoint=False) + 0.02
        return [self[place[0] + radius * np.sin(turn), place[1] + radius * np.cos(turn)] for turn in turns]

    def share(self, place, radius, colour, tolerance=60):
        return np.mean([near(seen, colour, tolerance) for seen in self.around(place, radius)])


DUEL = ((MARINE, 12, 16), (MARINE, 19, 16))


def test_units_stand_where_they_are_in_their_teams_colour():
    frames = standing(*DUEL)
    frames["x"][8:, 0], frames["y"][8:, 0] = 14, 18
    drawn = painter(frames, width=960)
    before, after = Picture(drawn, 0), Picture(drawn, 8)
    beside = (0.15, -0.12)  # the middle has a number on it
    assert before[12 + beside[0], 16 + beside[1]] == ALLY == after[14 + beside[0], 18 + beside[1]]
    assert before[19, 16] == ENEMY == after[19, 16]
    assert not near(after[12.15, 15.88], ALLY)


def test_the_dead_fade_and_leave_a_cross():
    frames = standing((MARINE, 12, 16), (MARINE, 16, 16), (MARINE, 20, 16), loops=40)
    frames["health"][8:, 2] = 0
    drawn = painter(frames, n_agents=2)
    assert Picture(drawn, 7)[20, 16] == ENEMY
    seen = [Picture(drawn, loop)[20 - 0.2, 16][0] for loop in (8, 8 + FADES_FOR // 2, 8 + FADES_FOR)]
    assert seen == sorted(seen, reverse=True)
    gone = Picture(drawn, 8 + FADES_FOR)
    assert near(gone[20 - 0.2, 16], GROUND, 12)
    assert not near(gone[20, 16], GROUND, 12)


def test_the_ground_can_be_told_from_what_cannot_be_walked_on():
    picture = Picture(painter(standing((MARINE, 12, 4), (MARINE, 19, 4))))
    assert picture[14.5, 3.5] == GROUND
    assert picture[14.5, 2.5] == WALL


@pytest.mark.parametrize("share", [1.0, 0.75, 0.5, 0.25])
def test_the_ring_of_a_unit_is_as_long_as_its_health(share):
    frames = standing((BANELING, 12, 16), (MARINE, 19, 16))
    frames["health"][:, 0] = BANELING.health * share
    picture = Picture(painter(frames, (BANELING, MARINE), width=1280, detail=4))
    rim = BANELING.radius - 0.035
    full = [near(colour, (145, 206, 241), 50) for colour in picture.around((12, 16), rim)]
    assert np.mean(full) == pytest.approx(share, abs=0.06)
    assert full == sorted(full, reverse=True), "clockwise from the north"


@pytest.mark.parametrize("share", [1.0, 0.5, 0.0])
def test_a_shield_is_a_second_ring(share):
    frames = standing((ZEALOT, 12, 16), (MARINE, 19, 16))
    frames["shield"][:, 0] = 50 * share
    picture = Picture(painter(frames, (ZEALOT, MARINE), width=1280, detail=4))
    outside = ZEALOT.radius + 0.04
    assert picture.share((12, 16), outside, SHIELD) == pytest.approx(share, abs=0.08)


def test_agents_bear_their_numbers():
    frames = standing((MARINE, 12, 16), (MARINE, 12, 18), (MARINE, 19, 16))
    picture = Picture(painter(frames, n_agents=2, width=1280))
    boxes = []
    for y in (16, 18):
        across, down = map(int, picture.camera.place(12, y))
        boxes.append(picture.image.crop((across - 14, down - 14, across + 14, down + 14)))
    assert ImageChops.difference(*boxes).getbbox() is not None
    assert all(any(near(pixel, TEXT, 60) for _, pixel in box.getcolors(9999)) for box in boxes)


def test_weapons_tint_the_ground_as_far_as_they_reach():
    frames = standing((MARINE, 8, 16), (MARINE, 26, 16))
    plain, tinted = (Picture(painter(frames, ranges=ranges)) for ranges in (False, True))
    rim = 8 + MARINE.radius + MARINE.range
    for x in (rim - 0.3, rim - 3):
        assert plain[x, 16.05] != tinted[x, 16.05]
    assert plain[rim + 0.3, 16.05] == tinted[rim + 0.3, 16.05] == GROUND
    brightest = max(tinted[rim + offset, 16.05][2] for offset in np.arange(-0.12, 0.06, 0.01))
    assert brightest > tinted[rim - 0.4, 16.05][2] + 10, "the outline"


def test_a_unit_without_a_weapon_tints_nothing():
    frames = standing((MEDIVAC, 12, 16), (MARINE, 30, 16))
    bare = MEDIVAC.__class__(**{**vars(MEDIVAC), "range": 0.0})
    frames["health"][:, 1] = 0
    images = [Picture(painter(frames, (bare, MARINE), ranges=ranges)).image for ranges in (False, True)]
    assert ImageChops.difference(*images).getbbox() is None


def brighter(one, other, place):
    return sum(one[place]) > sum(other[place]) + 20


def test_an_attack_order_is_a_line_to_the_target_and_a_move_order_one_to_the_goal():
    frames = standing((MARINE, 12, 16), (MARINE, 19, 16))
    plain = Picture(painter(frames, orders=True))
    frames["target"][:, 0], frames["order"][:, 0] = 1, ATTACK
    assert brighter(Picture(painter(frames, orders=True)), plain, (15.5, 16))
    assert not brighter(Picture(painter(frames, orders=False)), plain, (15.5, 16))
    frames = standing((MARINE, 12, 16), (MARINE, 19, 16))
    frames["order"][:, 0], frames["goal_x"][:, 0], frames["goal_y"][:, 0] = MOVE, 12, 18
    moving = Picture(painter(frames, orders=True))
    assert brighter(moving, plain, (12, 17.2))
    assert not brighter(moving, plain, (15.5, 16))


def fired(gun, victim, **fields):
    """A shot let go in loop 4, at 7 cells to the east."""
    frames = standing((gun, 12, 16), (victim, 19, 16))
    frames["target"][:, 0] = frames["flight_target"][:, 0] = 1
    frames["cooldown"][4:, 0] = 20 - np.arange(13)
    for name, values in fields.items():
        frames[name][4 : 4 + len(values), 0] = values
    return painter(frames, tuple(dict.fromkeys((gun, victim))))


def test_a_shot_is_a_line_that_fades():
    drawn = fired(MARINE, MARINE)
    seen = [sum(Picture(drawn, loop)[15.5, 16]) for loop in (3, 4, 5, 6, 7, 8)]
    assert seen[0] == seen[-1]
    assert seen[1:] == sorted(seen[1:], reverse=True)
    assert seen[1] > seen[0] + 200


def test_a_missile_is_on_its_way_from_the_muzzle_to_the_target():
    drawn = fired(STALKER, MARINE, flight=[4, 3, 2, 1])
    muzzle = 12 + STALKER.radius
    for loop, share in ((5, 0.25), (6, 0.5), (7, 0.75)):
        places = np.arange(13, 18.5, 0.05)
        bright = [sum(Picture(drawn, loop)[x, 16]) for x in places]
        assert places[np.argmax(bright)] == pytest.approx(muzzle + (19 - muzzle) * share, abs=0.2)


def test_beams_sweep_the_line_across_their_target():
    drawn = fired(COLOSSUS, MARINE, flight=[6, 5, 4, 3, 2, 1])
    before, begun, over = Picture(drawn, 3), Picture(drawn, 4), Picture(drawn, 10)
    for side in (1.1, -1.1):
        assert brighter(over, before, (19, 16 + side))
        assert not brighter(over, before, (19, 16 + 1.6 * side))
    assert not brighter(begun, before, (19, 16.8))


def test_blades_strike_sparks_and_no_lines():
    drawn = fired(ZEALOT, MARINE)
    before, after = Picture(drawn, 3), Picture(drawn, 4)
    assert not brighter(after, before, (15.5, 16))
    assert brighter(after, before, (19 - 0.8 * MARINE.radius, 16))


def test_healing_is_a_beam_of_its_colour():
    frames = standing((MEDIVAC, 12, 16), (MARINE, 15, 16), (MARINE, 21, 16))
    frames["target"][:, 0], frames["energy"][:, 0] = 1, 100 - np.arange(17)
    picture = Picture(painter(frames, (MEDIVAC, MARINE), n_agents=2), 5)
    assert near(picture[13.5, 16], HEAL, 60)


def test_a_burst_covers_the_ground_that_it_hurts():
    frames = standing((BANELING, 12, 16), (MARINE, 21, 16), loops=24)
    frames["health"][8:, 0] = 0
    frames["health"][:, 1] = 45
    drawn = painter(frames, (BANELING, MARINE))
    before, after, late = (Picture(drawn, loop) for loop in (7, 12, 24))
    assert brighter(after, before, (12, 16 + 1.5))
    assert not brighter(after, before, (12, 16 + 2.5))
    assert not brighter(late, before, (12, 16 + 1.5))


def test_who_flies_is_drawn_over_who_stands_on_the_ground():
    frames = standing((MEDIVAC, 16, 16), (MARINE, 16.2, 16))
    assert near(Picture(painter(frames, (MEDIVAC, MARINE)))[16.3, 16.1], ALLY)


@pytest.mark.parametrize("team", [0, 1])
@pytest.mark.parametrize("share", [1.0, 0.5, 0.0])
def test_bars_are_as_long_as_health_and_shields_of_a_team(team, share):
    frames = standing((ZEALOT, 12, 16), (ZEALOT, 19, 16))
    frames["health"][:, team], frames["shield"][:, team] = 125 * share, 25 * share
    frames["health"][0, team] = 100  # else there is nobody to look at
    image = painter(frames, (ZEALOT,)).paint(1)
    row = [near(image.getpixel((x, 32)), (ALLY, ENEMY)[team]) for x in range(14, 626)]
    assert sum(row) == pytest.approx((0.42 * 640 - 14) * share, abs=4)


@pytest.mark.parametrize(("outcome", "colour"), [("won", ALLY), ("lost", ENEMY), ("out of time", TEXT)])
def test_a_banner_says_how_it_ended_but_not_before(outcome, colour):
    drawn = painter(standing(*DUEL), outcome=outcome)
    band = [drawn.camera.top + drawn.camera.height // 2 + dy for dy in (-37, 37)]
    assert drawn.last == 16 + AFTER_THE_END
    for y in band:
        assert drawn.paint(drawn.last).getpixel((40, y)) == colour
        assert not near(drawn.paint(16).getpixel((40, y)), colour)


def test_before_the_start_is_the_start():
    drawn = painter(standing(*DUEL))
    assert ImageChops.difference(drawn.paint(-3), drawn.paint(0)).getbbox() is None


def test_smooth_pictures_are_rough_ones_with_shades_on_the_edges():
    rough, smooth = (painter(standing(*DUEL), detail=detail).paint(0) for detail in (1, 3))
    assert rough.size == smooth.size
    difference = np.abs(np.asarray(rough, dtype=int) - np.asarray(smooth, dtype=int)).mean()
    assert 0 < difference < 3
    assert len(smooth.getcolors(99999)) > 1.3 * len(rough.getcolors(99999))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"width": 641}, "width must be even and at least 64 pixels, got 641"),
        ({"width": 32}, "width must be even and at least 64 pixels, got 32"),
        ({"detail": 0}, "detail must be at least 1, got 0"),
    ],
)
def test_pictures_that_cannot_be_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        painter(standing(*DUEL), **options)
