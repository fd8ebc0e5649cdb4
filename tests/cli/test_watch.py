import re
import sys
from functools import partial

import pytest
from PIL import Image

from qmix_lightning.agents.mlp import MLPAgent
from qmix_lightning.cli.watch import main
from qmix_lightning.envs.battle.env import BattleEnvironment
from qmix_lightning.envs.battle.filming import film
from qmix_lightning.envs.battle.scripted.registry import scripted_policy
from qmix_lightning.envs.battle.viewer.html import html_of
from qmix_lightning.envs.battle.viewer.video import encoder
from qmix_lightning.mixers.qmix import QMixer
from qmix_lightning.module import QLearner
from tests.training import LIGHTNINGS_OWN_WARNING, ROOT, SMALL, qmix

pytestmark = pytest.mark.filterwarnings(LIGHTNINGS_OWN_WARNING)

RECIPE = ROOT / "recipes/battle/3m.yaml"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a short run of 3m."""
    folder = tmp_path_factory.mktemp("watched")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        qmix("fit", "--config", RECIPE, *SMALL, "--film.every=0")
    return folder


@pytest.fixture
def watch(trained, tmp_path, monkeypatch, capsys):
    """Watches in a folder of its own, which has the run's logs; what is said."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logs").symlink_to(trained / "logs")

    def run(*words):
        qmix("watch", *words)
        return capsys.readouterr().out

    return run


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def run(*words):
        with pytest.raises(SystemExit) as exit_:
            qmix("watch", *words)
        assert exit_.value.code == 2
        assert not [path for path in tmp_path.iterdir() if path.is_file()]
        said = capsys.readouterr().err.strip()
        assert said.startswith("qmix: ")
        assert len(said.splitlines()) == 1
        return said

    return run


def test_a_trained_team_is_watched_as_its_checkpoint_plays(watch, trained, tmp_path):
    said = watch("--config", RECIPE, "--ckpt_path", "last", "--seed", "7", "--team", "ours")
    assert re.search(r"3m, ours, (won|lost|out of time) after \d+ steps: 3m\.html \(\d+ KiB\)", said)
    learner = QLearner.load_from_checkpoint(
        trained / "logs/battle-3m/version_0/checkpoints/last.ckpt",
        agent=partial(MLPAgent, hidden_size=128),
        mixer=partial(QMixer, hypernet_layers=2),
        weights_only=True,
    )
    battle = film(BattleEnvironment("3m", seed=7), learner.eval(), "ours")
    assert (tmp_path / "3m.html").read_text() == html_of([battle])


def test_without_a_checkpoint_the_team_is_called_untrained(watch):
    assert "3m, untrained QMixer, " in watch("--config", RECIPE)


def test_a_scripted_team_is_watched_as_it_plays(watch, tmp_path):
    assert re.search(r"3s_vs_3z, scripted hit-and-run, won", watch(
        "--env", "battle/3s_vs_3z", "--policy", "hit-and-run", "--only", "won"
    ))  # fmt: skip
    env = BattleEnvironment("3s_vs_3z", seed=7)
    battle = film(env, scripted_policy("closest", env.spec), "theirs")
    watch("--env", "battle/3s_vs_3z", "--policy", "closest", "--seed", "7", "--team", "theirs", "--out", "a.html")
    assert (tmp_path / "a.html").read_text() == html_of([battle])


def test_a_scripted_team_plays_a_recipe_s_map_by_its_options(watch, tmp_path):
    options = {"obs_last_action": True, "spawn_jitter": 0.0}
    watch("--config", RECIPE, "--data.env_options", str(options), "--policy", "focus", "--seed", "7", "--team", "a")
    env = BattleEnvironment("3m", seed=7, **options)
    assert (tmp_path / "3m.html").read_text() == html_of(
        [film(env, scripted_policy("focus", env.spec, **options), "a")]
    )


def test_the_ending_says_what_is_made(watch, tmp_path):
    for ending in ("png", "gif", "html"):
        said = watch("--env", "battle/3m", "--out", f"films/a.{ending}", "--width", "320")
        assert re.search(rf"3m, random play, lost after \d+ steps: films/a\.{ending} \(\d+ KiB\)", said)
    with Image.open(tmp_path / "films/a.png") as still, Image.open(tmp_path / "films/a.gif") as moving:
        assert still.size == moving.size
        assert still.width == 320
        assert moving.n_frames > 20
    assert (tmp_path / "films/a.html").read_text().startswith("<!doctype html>")


def test_an_mp4_is_made_where_there_is_an_encoder(watch, tmp_path):
    try:
        encoder()
    except ImportError as error:
        pytest.skip(str(error))
    watch("--env", "battle/3m", "--out", "a.mp4", "--width", "320")
    assert (tmp_path / "a.mp4").read_bytes()[4:8] == b"ftyp"


def test_a_picture_shows_the_step_that_is_asked_for(watch, tmp_path):
    for name, at in (("start", 0), ("later", 10), ("end", 999)):
        watch("--env", "battle/3m", "--out", f"{name}.png", "--at", str(at))
    assert len({(tmp_path / f"{name}.png").read_bytes() for name in ("start", "later", "end")}) == 3


def test_nothing_is_written_over_and_that_is_said(watch, tmp_path):
    (tmp_path / "3m.html").write_text("mine")
    said = watch("--env", "battle/3m")
    assert "3m-1.html (" in said
    assert "3m.html was there before" in said
    assert (tmp_path / "3m.html").read_text() == "mine"


def test_several_battles_share_a_page_or_have_a_file_each(watch, tmp_path):
    assert "3m, random play, 3 battles, 0 won: 3m.html" in watch("--env", "battle/3m", "--battles", "3")
    said = watch("--env", "battle/3m", "--battles", "3", "--out", "a.png")
    assert len(said.splitlines()) == 3
    assert "before" not in said
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["a-1.png", "a-2.png", "a.png"]
    watch("--env", "battle/3m", "--out", "b.png")
    assert (tmp_path / "b.png").read_bytes() == (tmp_path / "a.png").read_bytes(), "the first of the seed"


def test_only_the_battles_that_are_asked_for_are_shown(watch):
    assert "3m, random play, 2 battles, 0 won" in watch("--env", "battle/3m", "--battles", "2", "--only", "lost")


def test_what_never_happens_is_not_waited_for(refused, monkeypatch):
    monkeypatch.setattr("qmix_lightning.cli.watch._TRIES", 3)
    assert "Of 3 battles 0 were won, 1 were asked for. Take another --seed." in refused(
        "--env", "battle/3m", "--only", "won"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Expected a trained team, --config RECIPE --ckpt_path CHECKPOINT, or a map for random play, --env"),
        (["--env", "battle/3n"], "Unknown environment 'battle/3n'. Did you mean 'battle/3m'"),
        (["--env", "3m"], "Unknown environment '3m'. Did you mean 'battle/3m' or 'smac/3m'?"),
        (["--env", "matrix/two_step"], "qmix watch draws battles on a map, battle/…; matrix/two_step is none."),
        (
            ["--env", "qmix_lightning.envs.matrix:TwoStepGame"],
            "qmix watch draws battles on a map, battle/…; qmix_lightning.envs.matrix:TwoStepGame is none.",
        ),
        (
            ["--config", str(ROOT / "recipes/matrix/two_step_vdn.yaml")],
            "qmix watch draws battles on a map, battle/…; matrix/two_step is none.",
        ),
        (["--env", "battle/3m", "--out", "a.jpg"], "--out must end in .html, .gif, .mp4, .png, got a.jpg."),
        (["--env", "battle/3m", "--battles", "0"], "--battles counts what is shown and must be positive, got 0."),
        (["--env", "battle/3m", "--width", "333"], "--width must be even and at least 64 pixels, got 333."),
        (["--env", "battle/3m", "--at", "5"], "--at is the step, from 0, that a .png shows; got --at 5 for a page."),
        (["--env", "battle/3m", "--out", "a.png", "--at", "-5"], "--at is the step, from 0, that a .png shows; got"),
        (["--env", "battle/3m", "--only", "drawn"], "Argument --only: invalid choice: 'drawn'"),
        (
            ["--env", "battle/3m", "--ckpt_path", "last"],
            "--env plays without a recipe, but there is also --ckpt_path last. Leave out one of the two.",
        ),
        (["--config", str(RECIPE), "--ckpt_path", "best"], "There is no best checkpoint in logs/battle-3m."),
        (["--config", str(RECIPE), "--ckpt_path", "a.ckpt"], "There is no checkpoint a.ckpt. Found below logs: none."),
        (["--config", str(RECIPE), "--model.gama", "1"], "Unknown argument --model.gama. Did you mean --model.gamma?"),
        (
            ["--env", "battle/3m", "--policy", "focused"],
            "There is no scripted team 'focused'. Did you mean 'focus'? Known",
        ),
        (
            ["--config", str(RECIPE), "--policy", "focus", "--ckpt_path", "best"],
            "--policy is a team, and so is --ckpt_path. Leave out one of the two.",
        ),
        (["--config", "3m.yaml"], "There is no file 3m.yaml."),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else "",
)
def test_what_cannot_be_watched_is_refused_in_a_line(refused, words, said):
    assert said in refused(*words)


def test_an_mp4_without_an_encoder_is_refused_before_anything_is_played(refused, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    assert "MP4 needs an encoder, ffmpeg, and none was found." in refused("--env", "battle/3m", "--out", "a.mp4")


def test_the_help_says_what_it_does(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "as a page with a slider that any browser opens (.html)" in said
