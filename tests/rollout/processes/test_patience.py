import pytest

from qmix_lightning.rollout.processes.patience import Losses, Patience


def test_the_first_failure_is_tried_again_at_once_and_further_ones_after_twice_the_time():
    patience = Patience(pause=2.0)
    assert [patience.pause_after(failures) for failures in (1, 2, 3, 4, 20)] == [0.0, 2.0, 4.0, 8.0, 60.0]


def test_only_faults_in_a_row_are_held_against_a_game():
    losses = Losses("fake", 2, Patience(retries=1, pause=0.0))
    assert losses.failed(0, "step", "crash", "it fell") == 0.0
    losses.succeeded(0)
    assert losses.failed(0, "step", "crash", "it fell") == 0.0
    assert losses.failed(1, "reset", "hang", "nothing") == 0.0
    assert losses.failed(0, "step", "crash", "it fell") is None
    losses.recycled()
    assert losses.restarts == {"crash in step": 3, "hang in reset": 1, "recycled": 1}
    assert losses.total == 4


def test_the_obituary_tells_counts_and_last_words():
    losses = Losses("fake", 1, Patience(retries=0))
    losses.failed(0, "reset", "crash", "it fell", "down the stairs")
    told = losses.obituary()
    assert "No game of fake is left to play: each failed 1 times in a row" in told
    assert told.endswith("(1 times crash in reset). The last said:\ncrash in reset: it fell\ndown the stairs")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step_deadline": 0.0}, "step_deadline must be positive, got 0.0"),
        ({"pause": -1.0}, "pause must be at least 0, got -1.0"),
        ({"step_dedline": 5.0}, r"no option 'step_dedline'. Did you mean 'step_deadline'\? They have reset_deadline, "),
    ],
)
def test_options_out_of_range_or_unknown_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Patience.of(options)
