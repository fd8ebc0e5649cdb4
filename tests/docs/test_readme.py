import re
from pathlib import Path

import pytest

from qmix_lightning.cli.main import _COMMANDS
from tests.training import LIGHTNINGS_OWN_WARNING, ROOT

TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
FENCED = re.findall(r"^```(?:console|bash|sh)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
INLINE = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", TEXT, flags=re.MULTILINE | re.DOTALL))
COMMANDS = [line.partition("#")[0].strip() for block in FENCED for line in block.splitlines()] + INLINE


def test_the_readme_is_a_page():
    assert len(TEXT.splitlines()) <= 150


@pytest.mark.filterwarnings("default", LIGHTNINGS_OWN_WARNING)
def test_the_readmes_python_runs(tmp_path, monkeypatch):
    assert BLOCKS, "the README shows the same in Python"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    namespace = {"__name__": "__readme__"}
    for number, block in enumerate(BLOCKS, 1):
        exec(compile(block, f"README.md, block {number}", "exec"), namespace)


def test_every_command_of_qmix_in_the_readme_exists():
    used = [found for command in COMMANDS for found in re.findall(r"(?:^|[\s/])qmix ([\w-]+)", command)]
    assert used, "the README shows commands"
    assert set(used) - {"--help"} <= {*_COMMANDS}


def test_every_target_of_make_in_the_readme_exists():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    used = {found for command in COMMANDS for found in re.findall(r"(?:^|\s)make (\w+)", command)}
    assert used >= {"demo", "test"}
    assert used <= targets


def test_every_file_that_the_readme_names_exists():
    linked = re.findall(r"\]\((?!https?:)([^)#]+)", TEXT)
    configs = [found for command in COMMANDS for found in re.findall(r"--config (\S+)", command)]
    missing = [name for name in [*linked, *configs] if not Path(ROOT / name).exists()]
    assert not missing
