"""``qmix install-lightning-command``: bring back the words ``lightning run``, for those who ask for them.

The console script ``lightning`` belongs to the package ``lightning-sdk``, and Lightning itself has had none since
2.5.1; so this one is never installed by itself.
"""

from __future__ import annotations

import os
import shlex
import sys
from importlib.metadata import entry_points
from pathlib import Path

from qmix_lightning.cli.run import main as run
from qmix_lightning.cli.words import refuse, say


def main(words: list[str]) -> None:
    """Write the script ``lightning`` into the active environment, unless there is one already.

    Args:
        words: None are expected.
    """
    if words:
        refuse(f"Expected no words behind install-lightning-command, got {words[0]}.")
    path = Path(sys.executable).parent / "lightning"
    script = _script()
    try:
        # Nobody's file is overwritten, not even one that is being written at this moment.
        with path.open("x") as file:
            file.write(script)
        path.chmod(0o755)
    except FileExistsError:
        if not _holds(path, script):
            refuse(
                f"{path} is another package's (lightning-sdk has one of that name). Nothing was written: move it away,"
                " or use qmix run, which does the same."
            )
    except OSError as error:
        refuse(f"{path} cannot be written: {error.strerror}. Use qmix run, which does the same.")
    say("lightning run ...", f"is qmix run ... now, by {path}")
    say("to undo:", f"rm {shlex.quote(str(path))}")


def forward(words: list[str]) -> None:
    """Do what the script ``lightning`` is asked to: ``run [model] ...`` here, everything else by lightning-sdk.

    Args:
        words: Words after ``lightning``.
    """
    # `lightning run job` and `lightning run mmt` start jobs on the machines of lightning-sdk's makers.
    if words[:1] == ["run"] and words[1:2] not in (["job"], ["mmt"]):
        run(words[2:] if words[1:2] == ["model"] else words[1:])
    elif theirs := entry_points(group="console_scripts", name="lightning"):
        sys.argv = ["lightning", *words]
        next(iter(theirs)).load()()
    else:
        refuse(
            f"Expected lightning run, got lightning {shlex.join(words)}. All but run is lightning-sdk's: pip install"
            " lightning-sdk, which puts its own script in the place of this one."
        )


def _script() -> str:
    return (
        "#!/bin/sh\n"
        "# Written by qmix install-lightning-command: `lightning run` is `qmix run`, all else is lightning-sdk's.\n"
        f'exec {shlex.quote(sys.executable)} -m qmix_lightning.cli.lightning_command "$@"\n'
    )


def _holds(path: Path, script: str) -> bool:
    return path.is_file() and os.access(path, os.R_OK) and path.read_bytes() == script.encode()


if __name__ == "__main__":
    forward(sys.argv[1:])
