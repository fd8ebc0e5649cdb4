import re
from io import StringIO

import pytest
from rich.console import Console

from qmix_lightning.callbacks.progress import BattleProgress
from tests.training import LIGHTNINGS_OWN_WARNING, quiet_trainer, small_data, small_learner

pytestmark = pytest.mark.filterwarnings(LIGHTNINGS_OWN_WARNING)


def shown(*, terminal=False, env="matrix/two_step", updates=4, width=200, **options):
    """What is drawn in the course of a training that is validated after every other update."""
    page = StringIO()
    bar = BattleProgress(Console(file=page, width=width, force_terminal=terminal, color_system=None))
    data = small_data(env)
    evaluated = {"limit_val_batches": 1, "val_check_interval": 2, **options}
    quiet_trainer(updates, callbacks=[bar], enable_progress_bar=True, **evaluated).fit(small_learner(data), data)
    return page.getvalue()


def test_where_there_is_no_terminal_it_prints_a_line_for_each_evaluation_and_no_bar():
    lines = shown().splitlines()
    assert len(lines) == 2
    for line in lines:
        assert re.fullmatch(r" +[\d,]+ env steps   return +\d\.\d\d   length +2\.0", line)


def test_of_a_battle_it_tells_the_win_rate():
    for line in shown(env="battle/3m").splitlines():
        assert re.fullmatch(r" +\d+ env steps   win rate +\d+\.\d%   return +\d+\.\d\d   length +\d+\.\d", line)


def test_in_a_terminal_it_draws_updates_steps_speed_return_and_loss():
    page = shown(terminal=True)
    assert re.search(r"4/4 updates .* env steps · [\d,]+/s · return \d\.\d\d · loss \S+ .*left", page)
    assert re.search(r" +[\d,]+ env steps   return", page)


def test_on_a_line_of_80_columns_updates_and_times_are_whole_and_what_does_not_fit_is_left_out():
    page = shown(terminal=True, env="battle/3m", width=80)
    assert "…" not in page
    assert re.search(r"4/4 updates \S+ +\d+ env steps · [\d,]+/s( · win \S+)? +\d:\d\d:\d\d left \d:\d\d:\d\d", page)


def test_where_time_ends_a_training_it_does_not_tell_of_how_many_updates():
    page = shown(terminal=True, updates=-1, max_epochs=1, limit_train_batches=4)
    assert "4 updates " in page
    assert not re.search(r"/\S+ updates", page)


def test_the_sanity_check_is_no_evaluation():
    assert len(shown(num_sanity_val_steps=1).splitlines()) == 2


def test_disabled_it_is_silent():
    page = StringIO()
    bar, data = BattleProgress(Console(file=page)), small_data()
    bar.disable()
    quiet_trainer(1, callbacks=[bar], enable_progress_bar=True).fit(small_learner(data), data)
    assert page.getvalue() == ""
    bar.enable()
    quiet_trainer(
        1, callbacks=[bar], enable_progress_bar=True, limit_val_batches=1, val_check_interval=1
    ).fit(small_learner(data), data)  # fmt: skip
    assert "env steps" in page.getvalue()


def test_after_a_failure_the_terminal_is_given_back():
    page = StringIO()
    bar, data = BattleProgress(Console(file=page, force_terminal=True, color_system=None)), small_data()
    learner = small_learner(data)
    learner.configure_optimizers = lambda: [][1]
    trainer = quiet_trainer(1, callbacks=[bar], enable_progress_bar=True)
    with pytest.raises(IndexError):
        trainer.fit(learner, data)
    assert bar._bar is None
