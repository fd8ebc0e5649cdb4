import contextlib
import csv
import statistics
import struct
import sys
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from qmix_lightning.cli.plot import draw, main
from qmix_lightning.curves import LearningCurve, read_scalars

WINS = {
    "battle-3m/version_0/seed_1": [(1000, 0.0), (2000, 0.5), (3000, 1.0)],
    "battle-3m/version_0/seed_2": [(1100, 0.1), (2300, 0.25), (3100, 0.75)],
    "battle-3m/version_0/seed_3": [(900, 0.0), (2100, 0.125), (2900, 0.5)],
    "battle-3m/version_1": [(1000, 0.0), (2000, 0.25)],
    "battle-8m/version_0": [(1_500_000, 0.0), (3_000_000, 0.5)],
}
RETURNS = {"game/version_0": [(64, 7.0), (128, 8.0)]}


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plots")
    for tag, runs in (("val/win_rate", WINS), ("val/return", WINS | RETURNS)):
        for name, points in runs.items():
            writer = SummaryWriter(str(folder / "logs" / name))
            for step, value in points:
                writer.add_scalar(tag, value, step)
            writer.close()
    (folder / "logs/empty").mkdir()
    return folder


@pytest.fixture
def plot(logs, tmp_path, monkeypatch, capsys):
    """Plots runs of ``logs`` into a folder of its own; what it says, and the rows of its table."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logs").symlink_to(logs / "logs")

    def run(*words, table="plot.csv"):
        main(list(words))
        with (tmp_path / table).open() as file:
            return capsys.readouterr().out, list(csv.DictReader(file))

    return run


@pytest.fixture
def refused(logs, monkeypatch, capsys):
    monkeypatch.chdir(logs)

    def run(*words):
        before = files(logs)
        with pytest.raises(SystemExit) as exit_:
            main(list(words))
        assert exit_.value.code == 2
        assert files(logs) == before
        said = capsys.readouterr().err.strip()
        assert said.startswith("qmix: ")
        assert len(said.splitlines()) == 1
        return said

    return run


def between(points, step):
    """The value of a run at a step, by hand."""
    for (s0, v0), (s1, v1) in pairwise(points):
        if s0 <= step <= s1:
            return v0 + (v1 - v0) * (step - s0) / (s1 - s0)
    raise AssertionError("the run does not cover the step")


def test_the_table_holds_median_and_quartiles_of_what_tensorboard_reads(plot, logs):
    _, rows = plot("logs/battle-3m/version_0")
    runs = {}
    for seed in (1, 2, 3):
        events = EventAccumulator(str(logs / f"logs/battle-3m/version_0/seed_{seed}"))
        events.Reload()
        runs[f"seed_{seed}"] = [(point.step, point.value) for point in events.Scalars("val/win_rate")]
    assert list(rows[0]) == ["curve", "env_steps", "median", "q25", "q75", "n", *runs]
    assert [int(row["env_steps"]) for row in rows] == [1100, 2000, 2100, 2300, 2900]
    for row in rows:
        values = {name: between(points, int(row["env_steps"])) for name, points in runs.items()}
        q25, median, q75 = statistics.quantiles(values.values(), n=4, method="inclusive")
        expected = {**values, "q25": q25, "median": median, "q75": q75, "n": 3}
        assert {name: float(row[name]) for name in expected} == pytest.approx(expected)
        assert row["curve"] == "battle-3m/version_0"


def test_it_says_what_it_has_drawn_and_how(plot):
    said, _ = plot("logs/battle-3m/version_0")
    assert said.splitlines() == [
        "battle-3m/version_0: val/win_rate of 3 seeds, 62.5% (quartiles 56.2% and 78.8%) after 2,900 env steps",
        "seeds:   interpolated linearly to common env steps, within the range that all of them cover",
        "figure:  plot.png, plot.svg",
        "numbers: plot.csv",
    ]


def test_the_figure_is_a_png_and_an_svg(plot, tmp_path):
    plot("logs/battle-3m/version_0")
    png = (tmp_path / "plot.png").read_bytes()
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", png[16:24]) == (960, 600)
    assert ElementTree.parse(tmp_path / "plot.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_nothing_is_written_over(plot, tmp_path):
    (tmp_path / "plot.svg").write_text("mine")
    for name in ("plot-1", "plot-2"):
        before = files(tmp_path)
        said, _ = plot("logs/battle-3m/version_0", table=f"{name}.csv")
        assert f"figure:  {name}.png, {name}.svg\nnumbers: {name}.csv\n" in said
        assert before.items() <= files(tmp_path).items()


@pytest.mark.parametrize(
    ("out", "table"),
    [("new/3m", "new/3m.csv"), ("3m.png", "3m.csv"), ("there", "there/plot.csv"), ("a.b", "a.b.csv")],
)
def test_the_files_go_where_they_are_told_to(plot, tmp_path, out, table):
    (tmp_path / "there").mkdir()
    plot("logs/battle-3m/version_0", "--out", out, table=table)
    assert sorted(path.suffix for path in (tmp_path / table).parent.glob(f"{(tmp_path / table).stem}.*")) == [
        ".csv", ".png", ".svg",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("folders", "curves"),
    [
        (["logs/battle-3m"], ["version_0", "version_1"]),
        (["logs/battle-3m/*"], ["version_0", "version_1"]),
        (["logs/battle-3m/version_1", "logs/battle-3m", "logs/battle-3m/version_1"], ["version_1", "version_0"]),
        (["logs/battle-8m", "logs/battle-3m/version_1"], ["battle-8m/version_0", "battle-3m/version_1"]),
        (["logs/battle-3m/version_0/seed_2"], ["version_0/seed_2"]),
        (["logs/**/seed_[23]"], ["seed_2", "seed_3"]),
    ],
    ids=" ".join,
)
def test_every_run_and_every_sweep_is_a_curve(plot, folders, curves):
    _, rows = plot(*folders)
    assert list(dict.fromkeys(row["curve"] for row in rows)) == curves


def test_a_curve_has_nothing_to_say_of_anothers_seeds(plot):
    _, rows = plot("logs/battle-3m", "--labels", "QMIX,VDN")
    assert [(row["seed_1"] != "", row["version_1"] != "") for row in rows] == [(True, False)] * 5 + [(False, True)] * 2
    assert [row["curve"] for row in rows] == ["QMIX"] * 5 + ["VDN"] * 2


def test_a_game_without_victories_is_drawn_by_its_return(plot):
    said, rows = plot("logs/game")
    assert "game/version_0: val/return of 1 run, 8 after 128 env steps" in said
    assert [float(row["version_0"]) for row in rows] == [7.0, 8.0]
    assert "seeds:" not in said


def test_a_run_that_broke_off_ends_its_curve_and_is_named(plot, logs, tmp_path):
    for seed, last in ((1, 9), (2, 5)):
        writer = SummaryWriter(str(tmp_path / f"sweep/seed_{seed}"))
        for step in range(1, last + 1):
            writer.add_scalar("val/win_rate", step / 10, 1000 * step)
        writer.close()
    writer = SummaryWriter(str(tmp_path / "sweep/seed_3"))
    writer.add_scalar("train/loss", 1.0, 1000)
    writer.close()
    said, rows = plot("sweep")
    assert "cut off: seed_2 ends after 5,000 of 9,000 env steps, and the curve with it" in said
    assert "left out: seed_3, which logged no val/win_rate" in said
    assert [row["n"] for row in rows] == ["2"] * 5


def drawn(logs, tag, *folders):
    curves = []
    for folder in folders:
        curves.append(LearningCurve.over({folder: read_scalars(logs / "logs" / folder)[tag]}, folder))
    figure = draw(curves, tag)
    figure.canvas.draw()
    (axes,) = figure.axes
    return axes


def test_the_figure_speaks_of_win_rates_in_percent_and_of_steps_in_thousands_and_millions(logs):
    axes = drawn(logs, "val/win_rate", "battle-3m/version_1", "battle-8m/version_0")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("environment steps", "win rate, greedy play")
    assert {"0%", "100%"} <= {label.get_text() for label in axes.get_yticklabels()}
    assert "2M" in [label.get_text() for label in axes.get_xticklabels()]
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ["battle-3m/version_1: 25.0% (1 run)", "battle-8m/version_0: 50.0% (1 run)"]
    assert "k" in drawn(logs, "val/win_rate", "battle-3m/version_1").get_xticklabels()[-1].get_text()


def test_another_tag_has_an_axis_of_its_own(logs):
    axes = drawn(logs, "val/return", "game/version_0")
    assert axes.get_ylabel() == "return, greedy play"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["game/version_0: 8 (1 run)"]


def test_of_all_runs_in_a_folder_those_without_the_figure_are_left_out_and_named(plot):
    said, rows = plot("logs")
    assert "left out: game/version_0, which logged no val/win_rate\n" in said
    assert list(dict.fromkeys(row["curve"] for row in rows)) == [
        "battle-3m/version_0", "battle-3m/version_1", "battle-8m/version_0",
    ]  # fmt: skip


def test_many_curves_can_be_told_apart():
    steps = [0, 1]
    curves = [LearningCurve.over({"run": (steps, steps)}, str(k)) for k in range(20)]
    (axes,) = draw(curves, "val/return").axes
    looks = {(line.get_color(), str(line.get_linestyle())) for line in axes.lines}
    assert len(looks) == 20


@pytest.mark.parametrize("count", [1, 12, 13, 40])
def test_the_legend_of_many_curves_leaves_them_room(count):
    steps = [0, 1]
    figure = draw([LearningCurve.over({"run": (steps, steps)}, f"version_{k}") for k in range(count)], "val/win_rate")
    FigureCanvasAgg(figure).draw()
    (axes,) = figure.axes
    (legend,) = [*figure.legends, *filter(None, [axes.get_legend()])]
    assert len(legend.get_texts()) == count
    assert figure.bbox.contains(*legend.get_window_extent().min)
    assert figure.bbox.contains(*legend.get_window_extent().max)
    width, height = axes.get_window_extent().size / figure.dpi
    assert width > 4
    assert height > 3


def test_without_matplotlib_it_says_how_to_install_it(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    words = "qmix plot needs matplotlib. Install it: pip install 'qmix-lightning[plot]'"
    assert words in refused("logs/battle-3m")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["logs/battle-9m"], "There is no folder logs/battle-9m. Runs found below logs: logs/battle-3m/version_0, "),
        (["logs/battle-9*"], "There is no folder logs/battle-9*."),
        (["logs/empty"], "Nothing is logged in logs/empty: expected TensorBoard's files (events.out.tfevents"),
        (
            ["logs/battle-3m", "--tag", "val/win_rat"],
            "No run has logged 'val/win_rat'. Did you mean val/win_rate? Logged are val/return, val/win_rate.",
        ),
        (["logs/battle-3m", "logs/game", "--tag", "val/win_rate"], "game/version_0 has not logged 'val/win_rate'"),
        (
            ["logs/battle-3m", "--labels", "QMIX"],
            "Expected 2 --labels, for logs/battle-3m/version_0, logs/battle-3m/version_1, got 1.",
        ),
        (["logs/battle-3m", "--tags", "val/return"], "Unrecognized arguments: --tags val/return. qmix plot --help"),
        ([], "The following arguments are required: FOLDER. qmix plot --help lists the options."),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else "",
)
def test_what_cannot_be_drawn_is_refused_in_a_line(refused, words, said):
    assert said in refused(*words)


def test_seeds_without_common_steps_are_refused(refused, logs, tmp_path):
    for seed in (1, 2):
        writer = SummaryWriter(str(tmp_path / f"sweep/seed_{seed}"))
        writer.add_scalar("val/win_rate", 0.5, 1000 * seed)
        writer.close()
    with contextlib.chdir(tmp_path):
        assert "The runs of " in refused(str(tmp_path / "sweep"))
