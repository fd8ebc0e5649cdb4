import bisect
import random
import statistics

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from qmix_lightning.curves import LearningCurve, find_runs, read_scalars


def write(folder, points, **options):
    """Log points ``(tag, step, value)`` in this order to an event file of its own."""
    writer = SummaryWriter(str(folder), **options)
    for tag, step, value in points:
        writer.add_scalar(tag, value, step)
    writer.close()


def points(pairs):
    return np.array([step for step, _ in pairs]), np.array([value for _, value in pairs], float)


def some_runs(n, seed=1):
    """Runs that are evaluated at nearly the same steps, not equally often."""
    rng = random.Random(seed)
    return {
        f"seed_{k}": [(1000 * i + rng.randrange(900), rng.random()) for i in range(1, rng.randrange(6, 9))]
        for k in range(1, n + 1)
    }


def on_the_line(pairs, step):
    """The value between two points, by hand."""
    steps = [s for s, _ in pairs]
    right = bisect.bisect_left(steps, step)
    if steps[right] == step:
        return pairs[right][1]
    (s0, v0), (s1, v1) = pairs[right - 1 : right + 1]
    return v0 + (v1 - v0) * (step - s0) / (s1 - s0)


def test_one_run_is_its_own_curve():
    steps, values = points([(100, 0.0), (250, 0.5), (300, 0.25)])
    curve = LearningCurve.over({"seed_1": (steps, values)}, "game")
    assert curve.env_steps.tolist() == steps.tolist()
    for line in (curve.values[0], curve.median, *curve.quartiles):
        assert line.tolist() == values.tolist()


def test_runs_evaluated_at_the_same_steps_are_taken_as_they_are():
    runs = {name: points([(100, value), (200, value + 1)]) for name, value in (("seed_1", 1), ("seed_2", 4))}
    curve = LearningCurve.over(runs, "game")
    assert curve.runs == ("seed_1", "seed_2")
    assert curve.values.tolist() == [[1, 2], [4, 5]]
    assert curve.median.tolist() == [2.5, 3.5]
    assert [quartile.tolist() for quartile in curve.quartiles] == [[1.75, 2.75], [3.25, 4.25]]


def test_the_order_of_the_seeds_does_not_matter():
    runs = {name: points(pairs) for name, pairs in some_runs(4).items()}
    one, other = LearningCurve.over(runs, "game"), LearningCurve.over(dict(reversed(runs.items())), "game")
    assert one.env_steps.tolist() == other.env_steps.tolist()
    assert one.median.tolist() == other.median.tolist()


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_a_curve_is_the_runs_straight_lines_at_every_evaluation_that_all_of_them_cover(n):
    runs = some_runs(n)
    curve = LearningCurve.over({name: points(pairs) for name, pairs in runs.items()}, "game")
    first, last = max(pairs[0][0] for pairs in runs.values()), min(pairs[-1][0] for pairs in runs.values())
    steps = sorted({step for pairs in runs.values() for step, _ in pairs if first <= step <= last})
    assert curve.env_steps.tolist() == steps
    for row, pairs in zip(curve.values, runs.values(), strict=True):
        np.testing.assert_allclose(row, [on_the_line(pairs, step) for step in steps], rtol=1e-12)
    for i, step in enumerate(steps):
        there = [on_the_line(pairs, step) for pairs in runs.values()]
        assert curve.median[i] == pytest.approx(statistics.median(there))
        if n > 1:
            q25, _, q75 = statistics.quantiles(there, n=4, method="inclusive")
            assert [quartile[i] for quartile in curve.quartiles] == pytest.approx([q25, q75])


def test_runs_without_common_steps_are_refused():
    runs = {"seed_1": points([(100, 0), (200, 0)]), "seed_2": points([(3000, 0), (4000, 0)])}
    words = r"The runs of game have no environment steps in common: seed_1 100 to 200, seed_2 3,000 to 4,000\. Plot"
    with pytest.raises(ValueError, match=words):
        LearningCurve.over(runs, "game")


def test_no_runs_and_runs_without_points_are_refused():
    with pytest.raises(ValueError, match="Expected at least one run of game, got none"):
        LearningCurve.over({}, "game")
    with pytest.raises(ValueError, match="Expected runs with at least one point, got none of seed_2"):
        LearningCurve.over({"seed_1": points([(1, 1)]), "seed_2": points([])}, "game")


def scalars_by_tensorboard(folder):
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(point.step, point.value) for point in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def scalars(folder):
    return {
        tag: list(zip(steps.tolist(), values.tolist(), strict=True))
        for tag, (steps, values) in read_scalars(folder).items()
    }


def test_scalars_are_those_that_tensorboard_reads(tmp_path):
    rng = random.Random(1)
    write(tmp_path, [(tag, step, rng.random()) for step in range(0, 3000, 7) for tag in ("val/return", "train/loss")])
    assert scalars(tmp_path) == scalars_by_tensorboard(tmp_path)
    assert len(scalars(tmp_path)["train/loss"]) == 429


def test_a_restart_that_names_its_step_takes_back_what_came_after_it_of_every_tag(tmp_path):
    write(tmp_path, [("val/return", step, step) for step in (100, 200, 300)] + [("train/loss", 250, 1.0)])
    write(tmp_path, [("val/return", 260, 7.0)], purge_step=200)
    assert scalars(tmp_path) == {"val/return": [(100, 100.0), (260, 7.0)]}
    assert scalars_by_tensorboard(tmp_path) == scalars(tmp_path) | {"train/loss": []}


def test_what_a_resumed_run_logs_again_supersedes_what_it_had_logged(tmp_path):
    write(tmp_path, [("val/return", step, 1.0) for step in (100, 200, 300, 400)])
    write(tmp_path, [("val/return", step, 2.0) for step in (200, 290)])
    assert scalars(tmp_path) == {"val/return": [(100, 1.0), (200, 2.0), (290, 2.0)]}


def test_a_file_that_was_cut_off_is_read_up_to_there(tmp_path):
    write(tmp_path, [("val/return", step, step) for step in (100, 200)])
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-3])
    assert scalars(tmp_path) == {"val/return": [(100, 100.0)]}


def test_pictures_and_histograms_are_no_scalars(tmp_path):
    writer = SummaryWriter(str(tmp_path))
    writer.add_histogram("q", np.arange(5.0), 1)
    writer.add_image("battle", np.zeros((3, 4, 4), np.uint8), 1)
    writer.close()
    assert scalars(tmp_path) == {}


def test_runs_are_found_with_their_seeds_together_in_the_order_of_their_numbers(tmp_path):
    folders = ["version_10/seed_2", "version_10/seed_10", "version_2", "version_2/checkpoints", "version_3/seed_1"]
    for folder in folders:
        (tmp_path / "battle-3m" / folder).mkdir(parents=True)
    for folder in ("version_10/seed_2", "version_10/seed_10", "version_2"):
        write(tmp_path / "battle-3m" / folder, [("val/return", 1, 1.0)])
    # Broken off, and put aside.
    write(tmp_path / "battle-3m/version_10/seed_2.broken_off_0", [("val/return", 1, 1.0)])
    base = tmp_path / "battle-3m"
    expected = {
        base / "version_2": {"version_2": base / "version_2"},
        base / "version_10": {f"seed_{k}": base / f"version_10/seed_{k}" for k in (2, 10)},
    }
    assert list(find_runs(tmp_path).items()) == list(expected.items())
    assert find_runs(base / "version_2") == {base / "version_2": {"version_2": base / "version_2"}}
    assert find_runs(base / "version_3") == {}
