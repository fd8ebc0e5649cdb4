import io

import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

from qmix_lightning.logger import EnvStepLogger


def points(folder, tag):
    events = EventAccumulator(str(folder))
    events.Reload()
    return [(point.step, point.value) for point in events.Scalars(tag)]


def test_scalars_are_written_against_the_environment_steps(tmp_path):
    logger = EnvStepLogger("game", str(tmp_path))
    collected = iter([640, 1280])
    logger.env_steps = lambda: next(collected)
    logger.log_metrics({"val/return": 1.0}, step=4)
    logger.log_metrics({"val/return": 2.0}, step=9)
    logger.finalize("success")
    assert points(tmp_path / "game" / "version_0", "val/return") == [(640, 1.0), (1280, 2.0)]


def test_without_a_monitor_to_tell_them_it_writes_against_the_updates(tmp_path):
    logger = EnvStepLogger("game", str(tmp_path))
    logger.log_metrics({"val/return": 1.0}, step=4)
    logger.finalize("success")
    assert points(tmp_path / "game" / "version_0", "val/return") == [(4, 1.0)]


def test_scalars_that_come_together_are_one_record_and_lightnings_points(tmp_path):
    folders = []
    scalars = {"a/one": 0.1, "two": 3, "three": torch.tensor([1e30]), "four": float("nan"), "five": True}
    for kind, version in ((EnvStepLogger, "ours"), (TensorBoardLogger, "theirs")):
        logger = kind(name="game", save_dir=str(tmp_path), version=version)
        logger.log_metrics(scalars, step=640)
        logger.log_metrics({}, step=641)
        logger.finalize("success")
        folders.append(tmp_path / "game" / version)
    ours, theirs = ({tag: points(folder, tag) for tag in scalars} for folder in folders)
    assert str(ours) == str(theirs)
    (path,) = folders[0].glob("events.*")
    assert len(list(LegacyEventFileLoader(str(path)).Load())) == 2, "the version of the file, and one record"


def test_what_is_no_number_is_written_as_lightning_does(tmp_path):
    logger = EnvStepLogger("game", str(tmp_path), version="mine")
    logger.log_metrics({"both": {"one": 1.0, "two": 2.0}}, step=4)
    with pytest.raises(ValueError, match="you tried to log words which is currently not supported"):
        logger.log_metrics({"some": "words"})
    logger.finalize("success")
    assert points(tmp_path / "game" / "mine" / "both_one", "both") == [(4, 1.0)]


def test_every_run_has_a_folder_of_its_own(tmp_path):
    for version in ("version_0", "version_1"):
        logger = EnvStepLogger("game", str(tmp_path))
        logger.log_metrics({"val/return": 1.0})
        logger.finalize("success")
        assert logger.log_dir == str(tmp_path / "game" / version)
    assert EnvStepLogger("game", str(tmp_path), version="mine").log_dir == str(tmp_path / "game" / "mine")


def test_runs_that_start_at_the_same_time_have_folders_of_their_own(tmp_path):
    loggers = [EnvStepLogger("game", str(tmp_path)) for _ in range(3)]
    folders = [str(tmp_path / "game" / f"version_{version}") for version in range(3)]
    assert [logger.log_dir for logger in loggers] == folders


@pytest.fixture
def board(tmp_path):
    logger = EnvStepLogger("game", str(tmp_path), version="mine")
    logger.env_steps = lambda: 640
    return logger


def read(logger):
    logger.finalize("success")
    return EventAccumulator(logger.log_dir).Reload()


def test_histograms_are_written_against_the_environment_steps(board):
    board.log_histograms({"q": torch.tensor([[0.5, 2.0], [2.0, 3.0]])})
    (point,) = read(board).Histograms("q")
    shown = point.histogram_value
    assert (point.step, shown.num, shown.min, shown.max, shown.sum) == (640, 4, 0.5, 3.0, 7.5)


def test_what_is_not_finite_is_left_out_of_a_histogram(board):
    board.log_histograms({"some": torch.tensor([1.0, torch.nan, torch.inf, -1e30]), "none": torch.tensor([torch.nan])})
    found = read(board)
    assert found.Histograms("some")[0].histogram_value.num == 1
    assert found.Tags()["histograms"] == ["some"]


def moving(frames, width, height):
    file = io.BytesIO()
    pictures = [Image.new("RGB", (width, height), (80 * frame, 0, 0)) for frame in range(frames)]
    pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:], duration=100)
    return file.getvalue()


def test_an_animation_comes_back_as_it_was(board):
    gif = moving(frames=3, width=40, height=24)
    board.log_animation("val/battle", gif)
    (point,) = read(board).Images("val/battle")
    assert (point.step, point.width, point.height, point.encoded_image_string) == (640, 40, 24, gif)
    assert Image.open(io.BytesIO(point.encoded_image_string)).n_frames == 3


def test_what_is_no_animation_is_refused(board):
    with pytest.raises(ValueError, match=r"Expected the content of a GIF file for 'val/battle', got .*PNG"):
        board.log_animation("val/battle", b"\x89PNG....")


def test_options_that_nothing_came_of_are_no_curve(board):
    board.log_hyperparams({"gamma": 0.9})
    board.log_metrics({"val/return": 1.0})
    assert read(board).Tags()["scalars"] == ["val/return"]
