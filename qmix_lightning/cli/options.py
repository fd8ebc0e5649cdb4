"""Options of the commands that are not Lightning's."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import NoReturn

from qmix_lightning.cli.words import refuse


class OptionParser(ArgumentParser):
    """An ArgumentParser that knows options by their whole names, and answers bad input in a line.

    Example:
        >>> parser = OptionParser("qmix plot", description="Draw runs.")
        >>> _ = parser.add_argument("--tag")
        >>> parser.parse_args(["--tag", "val/return"]).tag
        'val/return'
    """

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and exit with status 2."""
        refuse(f"{message[:1].upper()}{message[1:].rstrip('.')}. {self.prog} --help lists the options.")
