"""The console script ``qmix``: one word chooses what is done, and only what that needs is imported."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module

_HOME = {
    "doctor": "doctor", "install-lightning-command": "lightning_command", "plot": "plot", "run": "run",
    "watch": "watch", "yardsticks": "yardsticks",
}  # fmt: skip
"""Commands beside training and evaluating, and the module of this package whose ``main`` does each."""


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
    if words and words[0] in _HOME:
        command: Callable[[list[str]], None] = import_module(f"qmix_lightning.cli.{_HOME[words[0]]}").main
        return command(words[1:])
    if words[:1] == ["fit"] and any(word.split("=")[0] == "--seeds" for word in words):
        from qmix_lightning.cli.seeds import main as train_seeds

        return train_seeds(words[1:])
    from qmix_lightning.cli.training import train

    return train(args)
