from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from qmix_lightning.cli.run import main
from tests.training import ROOT


def test_words_behind_a_script_are_the_scripts(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import json, os, sys\n"
        "told = {name: value for name, value in os.environ.items() if name.startswith('LT_')}\n"
        "json.dump([sys.argv[1:], told, os.environ['MASTER_PORT']], open(f'{os.environ[\"RANK\"]}.json', 'w'))\n"
    )
    command = [sys.executable, "-m", "qmix_lightning", "run", "--accelerator=cpu", "--devices", "2", str(script)]
    subprocess.run([*command, "fit", "--devices", "3", "--", "a.py"], cwd=tmp_path, check=True, timeout=120)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    words, told, port = first
    assert words == ["fit", "--devices", "3", "--", "a.py"]
    assert told == {"LT_CLI_USED": "1", "LT_ACCELERATOR": "cpu", "LT_DEVICES": "2", "LT_NUM_NODES": "1"}
    assert port != "29400"


def test_the_status_is_that_of_the_process_that_failed(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("raise SystemExit(7)\n")
    command = [sys.executable, "-m", "qmix_lightning", "run", "script.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 7
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "Expected something to run, got none. For example: qmix run --devices 2 --config recipes/battle/3m.yaml"),
        (["--devices"], "argument --devices: expected one argument. qmix run --help lists the options."),
        (["--precision", "8", "train.py"], "argument --precision: invalid choice: '8'"),
        (["train.py"], "There is no script train.py."),
        (["--device", "2", str(ROOT / "recipes" / "train.py")], "Expected options of the launcher before"),
        (["--devices", "two", "--config", "x.yaml"], "--devices two: "),
        (["--strategy", "dpd", "--config", "x.yaml"], "Unknown --strategy dpd. Known are "),
    ],
    ids=str,
)
def test_words_that_start_nothing_are_refused(
    words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(words)
    assert exit_.value.code == 2
    assert complaint in capsys.readouterr().err
