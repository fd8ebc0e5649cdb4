"""Every benchmark runs, at a tiny size, and prints its rows."""

from __future__ import annotations

import sys

import pytest
import torch

from benchmarks import contestants
from benchmarks.__main__ import main
from benchmarks.contestants import OURS, Case, LibraryLoss, PlainLoss, random_batch
from benchmarks.loss import cases
from benchmarks.timing import Samples, Table, interleave, verdict
from benchmarks.update import PlainLearner, assert_equal, make_learner, played_batch
from qmix_lightning.envs.registry import make


def run(arguments: str) -> None:
    main(arguments.split())


def rows_of(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines][2:]


def test_the_simulator_prints_a_row_for_each_combination(capsys):
    run("battle --maps 3m 8m --batches 1 4 --threads 1 2 --rounds 1 --block 0.001")
    rows = rows_of(capsys)
    # Two threads have nothing to share at one battle.
    sizes = [("1", "1"), ("4", "1"), ("4", "2")]
    assert [tuple(row[:3]) for row in rows] == [(name, *size) for name in ("3m", "8m") for size in sizes]
    assert all(float(row[3].replace(",", "")) > 0 for row in rows)


def test_rollouts_print_a_row_for_each_size_and_shares_of_the_whole(capsys):
    run("rollout --batches 1 3 --threads 1 2 --rounds 1 --env_steps 12")
    rows = rows_of(capsys)
    assert [row[1:3] for row in rows] == [["1", "1"], ["1", "2"], ["3", "1"], ["3", "2"]]
    assert all(98 <= sum(int(share.rstrip("%")) for share in row[-3:]) <= 102 for row in rows)


def test_the_loss_prints_a_row_for_each_case_against_plain_torch_and_torchrl(capsys):
    if contestants.find_torchrl() is None:
        pytest.skip("TorchRL is not installed")
    run("loss --episodes 1 --rounds 1 --block 0.001")
    rows = rows_of(capsys)
    assert [row[:2] for row in rows] == [[case.name, str(list(case.shape))] for case in cases(1)]
    for _, batch, plain, torchrl, ours, to_plain, to_torchrl, double_q in rows:
        assert float(to_plain) == pytest.approx(float(ours.split()[0]) / float(plain.split()[0]), rel=0.02)
        # TorchRL has no layout of episodes, and only there is double-Q compared with none.
        episodes = batch == "[1, 61]"
        assert [cell == "-" for cell in (torchrl, to_torchrl, double_q)] == [episodes, episodes, not episodes]


def test_the_loss_without_torchrl_says_so_and_leaves_it_out(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchrl", None)
    run("loss --episodes 1 --rounds 1 --block 0.001")
    printed = capsys.readouterr().out
    assert "TorchRL is not installed" in printed
    assert "| torchrl" not in printed
    assert "never slower than TorchRL" not in printed


@pytest.mark.parametrize("double_q", [False, True])
def test_contestants_that_compute_something_else_are_found_out(double_q):
    case = Case("", (2, 4), agent="gru", episodes=True)
    batch = random_batch(case)
    plain = PlainLoss(case, batch, double_q=double_q)
    contestants.assert_equal(plain, LibraryLoss(OURS, case, batch, layout="episode", double_q=double_q))
    with pytest.raises(AssertionError, match="Scalars are not close"):
        contestants.assert_equal(plain, LibraryLoss(OURS, case, batch, layout="episode", double_q=not double_q))


def test_the_update_prints_a_row_for_each_learner_against_the_plain_one(capsys):
    run("update --batch 2 --updates 2")
    rows = rows_of(capsys)
    assert [row[0] for row in rows] == ["plain", "loss", "trainer"]
    assert rows[0][5:7] == ["1.00", "1.00"]


def test_the_demo_prints_what_each_seed_cost_and_reached(capsys):
    tiny = "--trainer.max_steps 2 --trainer.val_check_interval 1 --data.val_episodes 2 --data.test_episodes 2"
    few = "--data.num_envs 2 --data.batch_size 2 --data.replay_ratio 100"
    run(f"demo --seeds 7 {tiny} {few}")
    ((seed, env_steps, updates, cpu, _, first, validations, test),) = rows_of(capsys)
    assert (seed, updates) == ("7", "2")
    assert int(env_steps.replace(",", "")) > 2
    assert int(cpu) > 0
    assert first == "-" or " steps, " in first
    assert len(validations.split()) == 2
    assert test.endswith("%")


def test_a_failing_demo_is_told_with_its_last_words():
    with pytest.raises(RuntimeError, match=r"(?s)Seed 1 failed with exit status 2: .*nonesuch"):
        run("demo --seeds 1 --data.env battle/nonesuch")


def test_unknown_arguments_are_refused(capsys):
    with pytest.raises(SystemExit):
        run("battle --map 3m")
    assert "unknown arguments --map 3m" in capsys.readouterr().err


def test_the_plain_loop_learns_what_the_loss_learns():
    batch, spec = played_batch("3m", 3), make("battle/3m").spec
    plain = PlainLearner(spec, make_learner(spec))
    assert_equal(plain, make_learner(spec), batch)
    with torch.no_grad():
        plain.online.head.bias[0] += 1
    with pytest.raises(AssertionError, match="Scalars are not close"):
        assert_equal(plain, make_learner(spec), batch)


def test_cases_take_turns_forth_and_back():
    order: list[str] = []

    def case(name: str) -> float:
        order.append(name)
        return float(len(order))

    samples = interleave({name: lambda name=name: case(name) for name in "abc"}, rounds=3)
    assert "".join(order) == "abccbaabc"
    assert (samples["a"].best, samples["a"].median) == (1, 6)


def test_a_table_is_markdown_with_aligned_columns():
    table = Table("Speed", ("map", "steps"), [("3m", "1,000"), ("27m_vs_30m", "9")], (verdict("fast", False),))
    assert str(table).splitlines() == [
        "## Speed",
        "",
        "| map        | steps |",
        "| ---------- | ----- |",
        "| 3m         | 1,000 |",
        "| 27m_vs_30m | 9     |",
        "",
        "Bar: fast: MISSED.",
    ]


def test_the_median_is_shown_beside_the_best():
    assert (Samples([3.0, 1.0, 2.0]).best, Samples([3.0, 1.0, 2.0]).median) == (1, 2)


def test_workers_print_a_row_for_each_number_of_games(capsys):
    run("workers --games 1 2 --step_us 0 --rounds 1 --env_steps 20")
    rows = rows_of(capsys)
    assert [row[1] for row in rows] == ["1", "2"]
    assert len({(row[2], row[-1]) for row in rows}) == 1, "both are compared with the same bare game and round trip"
    assert all(float(row[3].replace(",", "")) > 0 for row in rows)
    run("workers --games 1 --rounds 1 --env_steps 20 --env tests.games:CountingGame")
    assert rows_of(capsys)[0][0] == "tests.games:CountingGame"
