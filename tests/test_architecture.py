import ast
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import qmix_lightning

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "qmix_lightning").rglob("*.py"))

# These lists of a family's members are what the lists are for: the classes known by name on the command line.
FAMILIES = {"qmix_lightning.agents", "qmix_lightning.mixers", "qmix_lightning.callbacks"}
MAY_IMPORT_FAMILIES = {"training.py"}


def name_of(path):
    return str(path.relative_to(ROOT))


def imports(path):
    """Every module a file imports from, and every name it imports as ``module.name``."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module, f"{node.module}.{alias.name}") for alias in node.names)


def test_the_import_contracts_hold(tmp_path):
    # In a process of its own: called here, the linter would silence the loggers of all tests after it.
    options = f"config_filename={str(ROOT / 'pyproject.toml')!r}, cache_dir={str(tmp_path)!r}"
    code = f"import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports({options}))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_names_are_imported_from_the_file_that_defines_them(path):
    packages = {".".join(p.parent.relative_to(ROOT).parts) for p in FILES if p.name == "__init__.py"}
    if path.name in MAY_IMPORT_FAMILIES:
        packages -= FAMILIES
    wrong = [module for module, _ in imports(path) if module in packages]
    assert not wrong, f"{path} imports from {wrong}: import from the file that defines the name"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nobody_imports_torchrl(path):
    assert not [module for module, _ in imports(path) if module.split(".")[0] == "torchrl"]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_file_is_longer_than_400_lines(path):
    assert len(path.read_text().splitlines()) <= 400


def test_there_are_no_drawers():
    drawers = {"util", "utils", "common", "helper", "helpers", "misc", "core"}
    found = [p for p in (ROOT / "qmix_lightning").rglob("*") if p.stem in drawers]
    assert not found


def test_the_package_lists_exactly_what_it_declares_to_type_checkers():
    text = (ROOT / "qmix_lightning" / "__init__.py").read_text()
    declared = re.findall(r"^    from qmix_lightning\.([\w.]+) import (.+)$", text, re.MULTILINE)
    declared = {name: home for home, names in declared for name in names.split(", ")}
    assert declared == qmix_lightning._HOME
    assert sorted(qmix_lightning.__all__) == sorted(declared) == sorted(dir(qmix_lightning))


@pytest.mark.parametrize("name", qmix_lightning.__all__)
def test_every_public_name_comes_from_the_file_that_defines_it(name):
    member = getattr(qmix_lightning, name)
    assert member.__module__ == f"qmix_lightning.{qmix_lightning._HOME[name]}"
    assert getattr(import_module(member.__module__), name) is member


@pytest.mark.parametrize("name", qmix_lightning.__all__)
def test_every_public_name_shows_an_example(name):
    assert ">>> " in getattr(qmix_lightning, name).__doc__


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(AttributeError, match=r"'qmix_lightning' has no attribute 'QMixr'\. It has AbstractAgent, "):
        _ = qmix_lightning.QMixr
