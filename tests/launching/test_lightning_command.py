from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from qmix_lightning.cli.lightning_command import main
from tests.training import ROOT

Output = pytest.CaptureFixture[str]


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The scripts folder of an environment, whose Python is this one under another name."""
    folder = tmp_path / "bin of mine"
    folder.mkdir()
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    return folder


def lightning(scripts: Path, *words: str, modules: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(modules)]), "COLUMNS": "120"}
    command = [str(scripts / "lightning"), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_lightning_run_is_qmix_run(scripts: Path, capsys: Output) -> None:
    main([])
    said = capsys.readouterr().out.splitlines()
    assert said == [
        f"lightning run ... is qmix run ... now, by {scripts}/lightning",
        f"to undo: rm '{scripts}/lightning'",
    ]
    assert lightning(scripts, "run", "model", "--help").stdout.startswith("usage: qmix run [options]")


def test_all_other_words_are_somebody_elses(scripts: Path, tmp_path: Path) -> None:
    main([])
    done = lightning(scripts, "run", "job")
    assert done.returncode == 2
    assert "Expected lightning run, got lightning run job. All but run is lightning-sdk's" in done.stderr
    owner = tmp_path / "owner"
    metadata = owner / "their_sdk-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: their-sdk\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[console_scripts]\nlightning = their_sdk:main\n")
    (owner / "their_sdk.py").write_text("import sys\n\n\ndef main():\n    print(sys.argv)\n")
    assert lightning(scripts, "run", "job", modules=owner).stdout.strip() == "['lightning', 'run', 'job']"


def test_our_own_script_may_be_there_already(scripts: Path, capsys: Output) -> None:
    main([])
    first = capsys.readouterr().out
    main([])
    assert capsys.readouterr().out == first


def test_a_script_that_is_there_is_not_overwritten(scripts: Path, capsys: Output) -> None:
    (scripts / "lightning").write_text("somebody else's")
    with pytest.raises(SystemExit) as exit_:
        main([])
    assert exit_.value.code == 2
    assert f"{scripts}/lightning is another package's (lightning-sdk has one of that name). Nothing was written" in (
        capsys.readouterr().err
    )
    assert (scripts / "lightning").read_text() == "somebody else's"


def test_a_folder_that_cannot_be_written_is_named(
    scripts: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.setattr(sys, "executable", str(scripts / "gone" / "python"))
    with pytest.raises(SystemExit):
        main([])
    assert f"{scripts}/gone/lightning cannot be written: No such file or directory." in capsys.readouterr().err


def test_further_words_are_refused(capsys: Output) -> None:
    with pytest.raises(SystemExit):
        main(["--force"])
    assert "Expected no words behind install-lightning-command, got --force." in capsys.readouterr().err
