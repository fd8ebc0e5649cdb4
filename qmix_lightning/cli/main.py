"""The console script ``qmix``: one word chooses what is done, and only what that needs is imported."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module
from typing import NoReturn

_COMMANDS = {
    "fit": ("training", "train and test, with --seeds 1,2,3 three times"),
    "validate": ("training", "win rate of a checkpoint in 128 greedy battles"),
    "test": ("training", "the same in 512 battles"),
    "run": ("run", "train by several processes, on one or more nodes"),
    "plot": ("plot", "draw learning curves of runs and of seeds"),
    "watch": ("watch", "show battles as a page, GIF, MP4 or PNG"),
    "yardsticks": ("yardsticks", "how often scripted teams win"),
    "doctor": ("doctor", "what StarCraft II lacks here"),
    "install-lightning-command": ("lightning_command", "make `lightning run` a word for `qmix run`"),
}
"""The module of this package that does what a command asks for, and what that is."""

_TRAINING = "training"


def main(args: list[str] | None = None) -> None:
    """Run the command line.

    Args:
        args: Words after ``qmix``; None takes those of the process.
    """
    words = sys.argv[1:] if args is None else args
    # Worlds and networks of one's own lie where one stands, which only `python -m` knows by itself. Behind all else: a
    # folder there must not pass for a package that is installed.
    if not {"", os.getcwd()} & {*sys.path}:
        sys.path.append(os.getcwd())
    first = words[0] if words else ""
    if first in ("-h", "--help"):
        return _help()
    if first not in _COMMANDS and not first.startswith("-"):
        _refuse_command(first)
    home, _ = _COMMANDS.get(first, (_TRAINING, ""))
    if home != _TRAINING:
        command: Callable[[list[str]], None] = import_module(f"qmix_lightning.cli.{home}").main
        return command(words[1:])
    if words[:1] == ["fit"] and any(word.split("=")[0] == "--seeds" for word in words):
        from qmix_lightning.cli.seeds import main as train_seeds

        return train_seeds(words[1:])
    from qmix_lightning.cli.training import train

    return train(args)


def _help() -> None:
    width = max(map(len, _COMMANDS))
    told = "\n".join(f"  {name:{width}}  {told}" for name, (_, told) in _COMMANDS.items())
    sys.stdout.write(f"usage: qmix COMMAND ...\n\n{told}\n\nqmix COMMAND --help lists the options of each.\n")


def _refuse_command(word: str) -> NoReturn:
    from qmix_lightning.cli.words import refuse

    near = get_close_matches(word, _COMMANDS, n=1)
    said = (
        f"Unknown command {word!r}. {f'Did you mean {near[0]}? ' if near else ''}" if word else "Expected a command. "
    )
    refuse(f"{said}There are {', '.join(_COMMANDS)}; qmix --help tells what they do.")
