import re

import pytest
import torch

from qmix_lightning.cli.yardsticks import Row, main, markdown
from qmix_lightning.envs.battle.scripted.registry import SCRIPTS
from qmix_lightning.rollout.scoring import Outcomes

HALF = Outcomes(torch.tensor([True, False] * 8), torch.tensor([20.0, 10.0] * 8), torch.tensor([30, 50] * 8))


def test_a_table_has_win_rates_with_intervals_returns_and_lengths(capsys):
    main(["2m_vs_1z", "--battles", "2", "--policies", "stop,random"])
    said = capsys.readouterr().out
    assert re.search(r"2m_vs_1z\s*│ stop\s*│ 0 \(0–66\)\s*│ 0.0\s*│ \d+", said)
    assert re.search(r"│ random\s*│ 0 \(0–66\)", said)


def test_a_table_for_markdown_has_a_row_a_map_and_a_column_a_team():
    lines = list(markdown([Row("3m", {"stop": HALF}), Row("8m", {"stop": HALF})]))
    assert lines == [
        "| map | stop |", "|---|---|", "| 3m | **50 (28–72)** 15.0, 40 |", "| 8m | **50 (28–72)** 15.0, 40 |",
    ]  # fmt: skip


def test_battles_of_a_seed_are_the_same_in_every_call(capsys):
    said = []
    for _ in range(2):
        main(["2m_vs_1z", "--battles", "3", "--markdown"])
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert all(name in said[0] for name in SCRIPTS)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--policies", "stop,focused"], "There is no scripted team 'focused'. Known are random, stop, closest"),
        (["--battles", "0"], "--battles must be positive, got 0."),
        (["3n"], "There is no map '3n'. Known are 10m_vs_11m, "),
    ],
)
def test_bad_input_is_refused_in_a_line(words, message, capsys):
    with pytest.raises(SystemExit):
        main(words)
    assert message in capsys.readouterr().err
