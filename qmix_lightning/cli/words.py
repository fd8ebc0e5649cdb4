"""What the command line says: results, and complaints in a line or two."""

from __future__ import annotations

import difflib
import inspect
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.markup import escape

from qmix_lightning.agents.base import AbstractAgent
from qmix_lightning.mixers.base import Mixer

_FAMILIES: dict[str, type[Any]] = {"model.agent": AbstractAgent, "model.mixer": Mixer}

_EXAMPLES = {"trainer.logger": "EnvStepLogger", "trainer.callbacks": "EarlyStopping"}
"""A class that may be named under a key."""


def say(title: str, text: str) -> None:
    """Print a result behind its title."""
    Console(soft_wrap=True).print(f"[bold]{escape(title)}[/] {escape(text)}", highlight=False)


def refuse(message: str) -> NoReturn:
    """Say what is wrong with the input, and exit with status 2."""
    Console(stderr=True, soft_wrap=True).print(f"[bold red]qmix:[/] {escape(message)}", highlight=False)
    raise SystemExit(2)


def refuse_unwritable(folder: Path) -> None:
    """Make a folder for a run, or say that nothing can be written there, and exit with status 2."""
    if ":/" in str(folder):
        return  # Not on this machine.
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        refuse(
            f"A run writes below {relative(folder)}, where that cannot be done ({error.strerror}). Start it in a folder"
            " of yours, or name one: --trainer.logger=EnvStepLogger --trainer.logger.save_dir=…, --checkpoint.dirpath=…"
        )


def in_a_line(message: str, options: list[str]) -> str:
    """Shorten a parser's complaint to what was expected and what came, and add the name that was probably meant."""
    message = re.sub(r"Type \S+\[.*?\] expects a function or a callable class: ", "", " ".join(message.split()))
    for key, family in _FAMILIES.items():
        usable = (cls for cls in _members(family) if not (cls.__name__.startswith("_") or inspect.isabstract(cls)))
        members = {cls.__name__: cls for cls in usable}
        if found := re.search(rf'Parser key "{key}":.*?(?:but|string:) ([\w.]+)', message):
            return f"Unknown {key} {found[1]!r}. {_near(found[1], members)}Known are {', '.join(sorted(members))}."
        if found := re.search(rf"\"{key}\": Option '(\w+)' is not accepted.*class_path='[\w.]*?(\w+)'", message):
            known = [name for name in inspect.signature(members[found[2]]).parameters if name != "spec"]
            return f"Unknown argument {found[1]!r} of {found[2]}. {_near(found[1], known)}Known are {', '.join(known)}."
    if found := re.search(r"does not accept option '([\w.]+)'", message):
        near = _near(found[1], [option.lstrip("-") for option in options])
        return f"Unknown key {found[1]!r} in the configuration. {near or 'qmix fit --help lists them.'}"
    if found := re.search(r"unrecognized arguments: (--[\w.]+)", message):
        return f"Unknown argument {found[1]}. {_near(found[1], options) or 'qmix fit --help lists them.'}"
    if found := re.search(r"File does not exist: '(.*?)'", message):
        recipes = ", ".join(sorted(map(str, Path("recipes").glob("**/*.yaml")))) or "none"
        return f"There is no file {relative(found[1])}. Recipes found here: {recipes}."
    # What is left says what was expected and what came, at the end of the path of keys that lead there.
    keys = ".".join(re.findall(r'Parser key "([\w.]+)": ', message))
    message = re.sub(r'Parser key "[\w.]+": | Got value: Namespace\(.*', "", message).replace("typing.", "")
    message = re.sub(r"<class '(\w+)'>", r"\1", message)
    if found := re.search(r"NestedArg\(key='([\w.]+)'", message):
        first = f"--{keys}={_EXAMPLES.get(keys, '…')}"
        return f"{keys}.{found[1]} is an option of a class that is not named. Name it before, such as {first}"
    if found := re.search(r"class_path '[\w.]*?(\w+)': the following arguments are required: (\w+)", message):
        return f"{keys}: {found[1]} needs {found[2]}. Add --{keys}.{found[2]}=… behind --{keys}={found[1]}."
    if found := re.search(r"Union subtypes.*? Errors: (.*) Given value type: \S+ Given value: (.*)", message):
        kinds = re.findall(r"Expected an? (\w+(?:\[[^]]*\])?)", found[1])
        expected = [{"NoneType": "null", "dot": "the name of a class"}.get(kind, kind) for kind in kinds]
        message = f"Expected {' or '.join(expected)}. Got value: {found[2]}" if expected else message
        if near := _near(found[2], _lightnings(keys)):
            message += f". {near.rstrip()}"
    return f"{keys}: {message}" if keys else message


def _lightnings(key: str) -> list[str]:
    """Classes that may be called by their names alone."""
    # Most commands that speak from here have no use for Lightning, which takes long to import.
    if key not in ("trainer.callbacks", "trainer.logger"):
        return []
    from lightning.pytorch import Callback
    from lightning.pytorch.loggers import Logger

    family: type[Any] = Callback if key == "trainer.callbacks" else Logger
    return [cls.__name__ for cls in _members(family) if not cls.__name__.startswith("_")]


def _near(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"Did you mean {near[0]}? " if near and near[0] != word else ""


def _members(family: type[Any]) -> list[type[Any]]:
    return [cls for sub in family.__subclasses__() for cls in (sub, *_members(sub))]


def relative(path: str | Path) -> str:
    """Return a path as one would type it here."""
    path = Path(path).absolute()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
