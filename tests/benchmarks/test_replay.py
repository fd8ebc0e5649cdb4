"""The benchmarks of the replay run, at a tiny size, and print their rows."""

from __future__ import annotations

import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.sampling import MMM2, STORAGES, PlainReplay, assert_alike, random_episodes
from qmix_lightning.replay.buffer import ReplayBuffer
from qmix_lightning.spec import ACTION_MASK, DONE, MASK, OBSERVATION, REWARD


def rows_of(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_sampling_prints_a_row_for_each_way_to_keep_episodes(capsys):
    main(["sampling", "--cases", "3m", "--batch", "2", "--threads", "1", "--rounds", "1", "--gigabytes", "0.001"])
    rows = rows_of(capsys)[2:]
    assert [row[3] for row in rows] == ["plain", *STORAGES]
    size = {row[3]: float(row[4]) for row in rows}
    assert size["plain"] == size["memory"] == size["disk"] > size["packed"] > size["float16"] > size["units"]
    assert all(float(row[-1]) > 0 for row in rows)


def test_saving_prints_what_was_written_and_what_it_took(capsys):
    main(["saving", "--gigabytes", "0.01", "--rounds", "1"])
    written = {row[0]: row[1] for row in rows_of(capsys)[2:]}
    assert list(written) == [
        "archive: first save",
        "archive: 30 episodes later",
        "archive: resume",
        "torch.save",
        "torch.load",
    ]
    assert int(written["archive: first save"]) >= int(written["torch.save"]) - 1 >= 9
    assert written["archive: resume"] == ""


def test_random_episodes_are_laid_out_as_played_ones_are():
    episodes = random_episodes(MMM2, 9)
    length = episodes[MASK].sum((1, 2))
    assert len(length.unique()) > 3
    assert episodes[ACTION_MASK].any(-1).all()
    for battle, steps in enumerate(length.tolist()):
        assert episodes[DONE][battle].nonzero()[:, 0].tolist() == [steps - 1]
        assert not episodes[REWARD][battle, steps:].any()
        assert episodes[OBSERVATION][battle, steps].any()
        assert not episodes[OBSERVATION][battle, steps + 1 :].any()


def test_replays_that_draw_something_else_are_found_out():
    episodes = random_episodes(MMM2, 9)
    plain, buffer = PlainReplay(9, 3), ReplayBuffer(9, 3)
    for each in (plain, buffer):
        each.extend(episodes)
    assert_alike(buffer.sample(), plain.sample(), 0.0)
    buffer.load_state_dict({**buffer.state_dict(), "sampler": plain.sampler.state_dict()})
    wrong = buffer.sample()
    wrong[REWARD][0, 0] += 1
    with pytest.raises(AssertionError, match=r"are not (close|equal)"):
        assert_alike(wrong, plain.sample(), 0.0)
    assert torch.equal(plain.sample()[MASK].sum(1) >= 1, torch.ones(3, 1, dtype=torch.bool))
