"""The page on QMIX: its examples run, and what it quotes is what there is."""

from __future__ import annotations

import ast
import inspect
import re
import warnings
from typing import Any

import pytest
import torch

from qmix_lightning import QLearner, QMixer, QMixerLoss, ReplayDataModule
from tests.training import LIGHTNINGS_OWN_WARNING, ROOT

PAGE = ROOT / "docs/algorithms/qmix.md"
RECIPE = ROOT / "recipes/battle/3m.yaml"
TEXT = PAGE.read_text()
SECTION = dict(re.findall(r"^## (\d)\. (.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
(DIFF,) = re.findall(r"^```diff\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
CHANGES, _, KEPT = SECTION["4"].partition("**Kept on purpose**")
DEFECTS = dict(re.findall(r"^\* \*\*D(\d+)\*\* (.*?)(?=\n\S|\n\n)", CHANGES, re.MULTILINE | re.DOTALL))
PARITY = "".join(path.read_text() for path in sorted((ROOT / "tests/parity").glob("test_*.py")))

WITHOUT_UPDATE = pytest.mark.filterwarnings("ignore:No target network updater:UserWarning")


def defaults(*owners: Any) -> dict[str, Any]:
    """What their arguments are unless one says otherwise; of classes and functions, their names."""
    parameters = [parameter for owner in owners for parameter in inspect.signature(owner).parameters.values()]
    return {parameter.name: getattr(parameter.default, "__name__", parameter.default) for parameter in parameters}


def quoted(text: str) -> dict[str, Any]:
    """Whatever is said like `name=value`."""
    found = re.findall(r"`([a-z_]+)=([^`]+)`", text)
    return {name: value if value.endswith("Agent") else ast.literal_eval(value) for name, value in found}


def test_the_page_is_short():
    assert len(TEXT.splitlines()) <= 360
    assert max(map(len, TEXT.splitlines())) <= 120


@WITHOUT_UPDATE
@pytest.mark.filterwarnings("default", LIGHTNINGS_OWN_WARNING)
def test_the_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page: dict[str, Any] = {"__name__": "__qmix__"}
    torch.manual_seed(0)
    for number, block in enumerate(BLOCKS, 1):
        exec(compile(block, f"{PAGE.name}, block {number}", "exec"), page)
    assert page["trainer"].global_step == 3
    played, padding = page["windows"]["td_error"].split([6, 2], 1)
    assert played.all()
    assert not padding.any()


@WITHOUT_UPDATE
def test_the_first_example_gives_what_it_gives_with_the_imports_before():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torchrl's own imports deprecate
        pytest.importorskip("torchrl.objectives.multiagent")
    before, after = ("\n".join(re.findall(rf"^\{sign}(.*)", DIFF, re.MULTILINE)) for sign in "-+")
    assert after in BLOCKS[0]
    results = []
    for imports in (before, after):
        page: dict[str, Any] = {}
        torch.manual_seed(0)
        exec(BLOCKS[0].replace(after, imports), page)
        results.append((page["result"]["loss"], page["td"]["td_error"]))
        assert type(page["loss"]).__module__.split(".")[0] in imports
    torch.testing.assert_close(*results, rtol=1e-5, atol=0)


def test_every_defect_of_torchrls_has_its_number_and_a_test():
    assert list(DEFECTS) == [str(number) for number in range(1, 26)]
    assert [number for number, text in DEFECTS.items() if f"`test_d{number:0>2}_" not in text] == []


def test_every_test_that_is_named_exists():
    named = re.findall(r"`(test_\w+)`", TEXT)
    assert len(named) >= 27
    beginnings = [name if name.endswith("_") else f"{name}(" for name in named]
    assert [name for name in beginnings if f"\ndef {name}" not in PARITY] == []


def test_our_defaults_are_those_that_are_quoted():
    ours = quoted(SECTION["3"]) | quoted(SECTION["7"])
    known = defaults(QLearner, ReplayDataModule, QMixer)
    assert len(ours) >= 20
    assert ours == {name: known[name] for name in ours}


def test_the_losss_defaults_are_those_that_are_quoted():
    kept = quoted(KEPT)
    assert kept.keys() >= {"delay_value", "reduction", "td_error"}
    assert kept == {name: defaults(QMixerLoss)[name] for name in kept}


def test_the_recipe_says_what_is_quoted():
    said = re.findall(r"`(\w+: [^`]+)`", SECTION["3"])
    assert len(said) == 4
    assert [line for line in said if line not in RECIPE.read_text()] == []


def test_every_file_that_the_page_names_exists():
    named = re.findall(r"\]\((?!https?:)([^)#]+)", TEXT)
    named += [f"../../{path}" for path in re.findall(r"(recipes/[\w/]+\.yaml)", TEXT)]
    assert len(named) >= 6
    assert [name for name in named if not (PAGE.parent / name).exists()] == []
