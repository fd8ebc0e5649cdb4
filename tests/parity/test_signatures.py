"""Every argument, method and attribute of torchrl's classes is here, in the same place, with the same default."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from tensordict.nn import TensorDictModule, TensorDictModuleBase, TensorDictSequential
from torch import nn

import qmix_lightning

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what torchrl's own imports deprecate
    pytest.importorskip("torchrl")
    import torchrl.modules as rl_modules
    import torchrl.objectives as rl_objectives
    from torchrl.modules.models import multiagent as rl_mixers
    from torchrl.objectives.multiagent import QMixerLoss as RLQMixerLoss

pytestmark = pytest.mark.filterwarnings("ignore:No target network updater:UserWarning")

TORCHRL: dict[str, Any] = {
    "QMixerLoss": RLQMixerLoss,
    "Mixer": rl_mixers.Mixer,
    "QMixer": rl_mixers.QMixer,
    "VDNMixer": rl_mixers.VDNMixer,
    "QValueModule": rl_modules.QValueModule,
    "QValueActor": rl_modules.QValueActor,
    "SafeSequential": rl_modules.SafeSequential,
    "EGreedyModule": rl_modules.EGreedyModule,
    "SoftUpdate": rl_objectives.SoftUpdate,
    "HardUpdate": rl_objectives.HardUpdate,
    "ValueEstimators": rl_objectives.ValueEstimators,
}
FOUNDATIONS = (object, nn.Module, TensorDictModuleBase, TensorDictModule, TensorDictSequential)
EMPTY = inspect.Parameter.empty
VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def ours(name: str) -> Any:
    return getattr(qmix_lightning, name)


def public_names(cls: type) -> list[str]:
    """What torchrl itself defines or announces in a class, not what torch or tensordict do."""
    own = [base for base in cls.__mro__ if base not in FOUNDATIONS and base.__module__.startswith("torchrl")]
    names = {name for base in own for name in (*vars(base), *inspect.get_annotations(base))}
    return sorted(name for name in names if not name.startswith("_"))


def methods(cls: type) -> list[str]:
    """Its constructor and what it defines to be called, unless torch says how that is called."""
    torchs_own = {name for name in dir(nn.Module) if name not in ("__init__", "forward")}
    called = [name for name in public_names(cls) if inspect.isroutine(inspect.getattr_static(cls, name, None))]
    return ["__init__", *(name for name in called if name not in torchs_own)]


def differences(mine: Callable[..., Any], theirs: Callable[..., Any]) -> list[str]:
    """Which of their parameters mine lacks, or has in another place, of another kind, or with another default."""
    here, there = (list(inspect.signature(method).parameters.values()) for method in (mine, theirs))
    found = []
    for place, wanted in enumerate(there):
        if wanted.kind in VARIADIC:
            found += [] if any(own.kind == wanted.kind for own in here) else [f"{wanted} is missing"]
            continue
        own = next((own for own in here if own.name == wanted.name), None)
        if own is None:
            found.append(f"{wanted.name} is missing")
        elif own.kind != wanted.kind:
            found.append(f"{wanted.name} is {own.kind.description}, not {wanted.kind.description}")
        elif wanted.default is not EMPTY and own.default != wanted.default:
            found.append(f"{wanted.name} is {own.default} by default, not {wanted.default}")
        elif wanted.kind != inspect.Parameter.KEYWORD_ONLY and here.index(own) != place:
            found.append(f"{wanted.name} is argument {here.index(own)}, not {place}")
    return found


def required(method: Callable[..., Any]) -> set[str]:
    """Arguments that have to be given."""
    parameters = inspect.signature(method).parameters.values()
    return {p.name for p in parameters if p.default is EMPTY and p.kind not in VARIADIC}


SIGNATURES = [(name, method) for name, cls in TORCHRL.items() if name != "ValueEstimators" for method in methods(cls)]


@pytest.mark.parametrize(("name", "method"), SIGNATURES, ids=lambda part: part)
def test_every_method_takes_what_torchrls_takes(name: str, method: str) -> None:
    theirs = getattr(TORCHRL[name], method)
    mine = getattr(ours(name), method)
    found = differences(mine, theirs)
    assert found == [], found
    assert required(mine) <= required(theirs)


@pytest.mark.parametrize("name", TORCHRL)
def test_every_public_name_of_a_class_is_here(name: str) -> None:
    theirs = TORCHRL[name]
    names = [key for key in public_names(theirs) if hasattr(theirs, key)]
    # Properties are asked of instances, below.
    names = [key for key in names if not isinstance(inspect.getattr_static(theirs, key), property)]
    missing = [key for key in names if not hasattr(ours(name), key)]
    assert missing == [], missing


def test_the_estimators_are_the_same_in_the_same_order() -> None:
    assert [member.name for member in ours("ValueEstimators")] == [member.name for member in TORCHRL["ValueEstimators"]]


def instances(library: Callable[[str], Any]) -> dict[str, Any]:
    """One of each, made alike."""
    value, chosen = ("agents", "action_value"), ("agents", "chosen_action_value")
    body = TensorDictModule(nn.Linear(4, 3), [("agents", "observation")], [value])
    head = library("QValueModule")("categorical", value, out_keys=[("agents", "action"), value, chosen])
    mixer = library("QMixer")((6,), 8, 2, "cpu")
    sequence = library("SafeSequential")(body, head)
    mixing = TensorDictModule(mixer, [chosen, "state"], ["chosen_action_value"])
    loss = library("QMixerLoss")(sequence, mixing, action_space="categorical")
    return {
        "QMixerLoss": loss,
        "QMixer": mixer,
        "VDNMixer": library("VDNMixer")(2, "cpu"),
        "QValueModule": head,
        "QValueActor": library("QValueActor")(nn.Linear(4, 3), action_space="categorical"),
        "SafeSequential": sequence,
        "EGreedyModule": library("EGreedyModule")(None),
        "SoftUpdate": library("SoftUpdate")(loss, tau=0.1),
        "HardUpdate": library("HardUpdate")(loss, value_network_update_interval=10),
    }


# The module's own tables from the name of an action space to the function for it: nothing to ask or to change.
TABLES = {"action_func_mapping", "action_value_func_mapping"}
# Known only if a spec was given: without, torchrl's holds None for each key, over which its losses stumble.
SPECS = {"spec"}


@pytest.mark.parametrize("name", instances(TORCHRL.__getitem__))
def test_every_public_attribute_of_an_instance_is_here(name: str) -> None:
    mine, theirs = instances(ours)[name], instances(TORCHRL.__getitem__)[name]
    parts = [vars(theirs), *(vars(theirs).get(part) or {} for part in ("_modules", "_buffers", "_parameters"))]
    names = {key for part in parts for key in part if not key.startswith("_")} - TABLES
    names |= {key for key in public_names(TORCHRL[name]) if hasattr(theirs, key)} - SPECS
    missing = sorted(key for key in names if not hasattr(mine, key))
    assert missing == [], missing
