"""The example in the documentation of TorchRL's QMixerLoss runs with nothing changed but its imports."""

from __future__ import annotations

import doctest
import re
import warnings
from typing import Any

import torch

from tests.parity.libraries import SILENCE

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what torchrl's own imports deprecate
    from torchrl.objectives.multiagent import QMixerLoss as RLQMixerLoss

pytestmark = SILENCE


def run(source: str) -> tuple[Any, dict[str, Any]]:
    """What the last line of an example gives, and the names it leaves."""
    *lines, last = doctest.DocTestParser().get_examples(source)
    namespace: dict[str, Any] = {}
    torch.manual_seed(0)
    for line in lines:
        exec(line.source, namespace)
    return eval(last.source, namespace), namespace


def test_torchrls_example_gives_the_same_with_our_imports() -> None:
    theirs = RLQMixerLoss.__doc__
    ours = re.sub(r"from torchrl\.\S+ import", "from qmix_lightning import", theirs)
    assert ours.count("from qmix_lightning import") == 3
    (expected, their_names), (result, our_names) = run(theirs), run(ours)
    assert our_names["QMixerLoss"].__module__ == "qmix_lightning.objectives.qmixer"
    assert list(result.keys()) == list(expected.keys()) == ["loss"]
    torch.testing.assert_close(result["loss"], expected["loss"])
    torch.testing.assert_close(our_names["td"]["td_error"], their_names["td"]["td_error"])
    assert set(our_names["td"].keys(True, True)) == set(their_names["td"].keys(True, True))
