from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

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
