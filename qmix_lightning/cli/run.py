"""``qmix run``: train in several processes, on one machine or several, by ``fabric run``."""

from __future__ import annotations

import os
from argparse import ArgumentError, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path

from qmix_lightning.cli.words import refuse

_DESCRIPTION = """\
Start a training in several processes. Options of the launcher come first, then either the words of qmix fit or a script
with its own words:

  qmix run --devices 2 --config recipes/battle/3m.yaml --trainer.max_steps 100
  qmix run --devices 2 recipes/train.py --config recipes/battle/3m.yaml

Several machines run the same command, each with its own --node-rank:

  qmix run --devices 2 --num-nodes 2 --node-rank 0 --main-address 10.0.0.1 --config recipes/battle/3m.yaml
"""

_PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "64-true", "bf16-true", "16-true")


def main(words: list[str]) -> None:
    """Start the processes, and wait for their end.

    Args:
        words: The launcher's options, and then the words of ``qmix fit`` or a script with its own.

    Raises:
        SystemExit: With the status of the process that failed first, if one did.
    """
    options, command = _parsed(words)
    # Only here, because it takes seconds that a misspelt word need not wait for.
    from lightning.fabric.cli import _get_num_processes, _get_supported_strategies
    from lightning.fabric.cli import main as fabric_run
    from lightning.fabric.plugins.environments.lightning import find_free_network_port
    from lightning.fabric.utilities.distributed import _suggested_max_num_threads
    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    try:
        processes = _get_num_processes(options.accelerator, options.devices)
    except (ValueError, TypeError, MisconfigurationException) as error:
        refuse(f"--devices {options.devices}: {error}")
    if options.strategy not in (None, *(strategies := _get_supported_strategies())):
        refuse(f"Unknown --strategy {options.strategy}. Known are {', '.join(strategies)}.")
    # Left to itself, fabric run gives every process as many threads as there are cores.
    os.environ.setdefault("OMP_NUM_THREADS", str(_suggested_max_num_threads(processes)))
    if options.main_port is None:
        # One number for all machines where there are several, or else one that no other run on this machine uses.
        options.main_port = 29400 if options.num_nodes > 1 else find_free_network_port()
    try:
        fabric_run(options, command)
    except ChildFailedError as error:
        status = error.get_first_failure()[1].exitcode
        raise SystemExit(status if status > 0 else 128 - status) from None
    except SignalException as error:
        raise SystemExit(128 + error.sigval) from None


def _parsed(words: list[str]) -> tuple[Namespace, list[str]]:
    """The launcher's options, with what is to be started as their ``script``, and its words."""
    at = next((i for i, word in enumerate(words) if word.endswith(".py")), len(words))
    try:
        options, command = _parser().parse_known_args(words[:at])
    except ArgumentError as error:
        refuse(f"{error}. qmix run --help lists the options.")
    if at < len(words):
        if command:
            refuse(f"Expected options of the launcher before {words[at]}, got {command[0]}. Put it behind the script.")
        if not Path(words[at]).is_file():
            refuse(f"There is no script {words[at]}.")
        options.script = words[at]
        return options, words[at + 1 :]
    if not command:
        refuse("Expected something to run, got none. For example: qmix run --devices 2 --config recipes/battle/3m.yaml")
    if command[0].endswith((".yaml", ".yml")):
        command = ["--config", *command]
    verb = [] if command[0] in ("fit", "validate", "test") else ["fit"]
    # A file of this package would put the package's own folder first among those that modules are imported from.
    options.script = "-m"
    return options, ["qmix_lightning", *verb, *command]


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        "qmix run",
        usage="qmix run [options] --config RECIPE ... | qmix run [options] SCRIPT ...",
        description=_DESCRIPTION,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
        exit_on_error=False,
    )
    add = parser.add_argument
    add("--devices", default="1", help="processes on each machine, or the GPUs they use: 0,2 (default: 1)")
    add("--accelerator", choices=("auto", "cpu", "gpu", "cuda", "mps"), help="kind of device (default: auto)")
    add("--strategy", help="Lightning's name of the way to train on several devices (default: auto)")
    add("--precision", choices=_PRECISIONS, help="precision of numbers (default: the recipe's)")
    add("--num-nodes", type=int, default=1, help="number of machines (default: 1)")
    add("--node-rank", type=int, default=0, help="which of the machines this is, from 0 (default: 0)")
    add("--main-address", default="127.0.0.1", help="address of machine 0 (default: this machine)")
    add("--main-port", type=int, help="free port of machine 0 (default: any free one; 29400 for several machines)")
    return parser
