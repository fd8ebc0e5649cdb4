"""Protocol modules of old generators, made importable with today's protobuf.

StarCraft II's Python protocol, ``s2clientprotocol``, ships modules that protoc 2 or 3 wrote. They build every message
in Python, which protobuf refuses since version 4 with ``TypeError: Descriptors cannot be created directly``, unless
one goes back to protobuf 3.20 or to protobuf's Python implementation, which takes several hundred times as long to
read an observation. But each of those files also holds, as one string, the serialised description that all the rest of
it repeats. That string is all that protobuf needs: it is read out of the source, never run, and the modules are built
from it the way a present-day generator lets them be built.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from graphlib import TopologicalSorter
from pathlib import Path
from types import ModuleType
from typing import Final

from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.internal import builder

CURE: Final = "Install protobuf==3.20.3, or set PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=python."
"""What helps where the modules cannot be rebuilt."""


def import_protocol(package: str = "s2clientprotocol") -> bool:
    """Import every generated module of a package, rebuilding them all if protobuf refuses one.

    Afterwards ``from s2clientprotocol import sc2api_pb2`` works, whoever says it.

    Args:
        package: Name of a package of ``*_pb2`` modules.

    Returns:
        Whether they had to be rebuilt.

    Raises:
        ModuleNotFoundError: If there is no such package, or it has no generated modules.
        ImportError: If protobuf refuses a module that holds no serialised description; names the file and the cure.

    Example:
        >>> import_protocol("google.protobuf")  # of the same release as protobuf itself
        False
    """
    home = importlib.util.find_spec(package)
    folders = home.submodule_search_locations if home is not None else None
    files = sorted(file for folder in folders or () for file in Path(folder).glob("*_pb2.py"))
    if not files:
        raise ModuleNotFoundError(
            f"Expected a package {package!r} of protobuf's generated modules, found none. Install {package}."
        )
    try:
        for file in files:
            importlib.import_module(f"{package}.{file.stem}")
    except (TypeError, ImportError, AttributeError):  # protobuf refuses their code, or lacks a module that they use
        _rebuild(package, [_description(file) for file in files])
        return True
    return False


def _description(file: Path) -> descriptor_pb2.FileDescriptorProto:
    """The serialised description in a generated file: ``serialized_pb=…`` of its only ``FileDescriptor``."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.keyword) and node.arg == "serialized_pb":
            # Either the bytes, or _b('…'), which was the same in Python 2 and Latin-1 in Python 3.
            value = node.value.args[0] if isinstance(node.value, ast.Call) else node.value
            if isinstance(value, ast.Constant) and isinstance(value.value, str | bytes):
                text = value.value
                data = text.encode("latin-1") if isinstance(text, str) else text
                return descriptor_pb2.FileDescriptorProto.FromString(data)
    raise ImportError(f"protobuf refuses {file}, and it holds no serialised description to rebuild it from. {CURE}")


def _rebuild(package: str, descriptions: list[descriptor_pb2.FileDescriptorProto]) -> None:
    """Build the modules of a package from their descriptions, each after those it imports."""
    known = {description.name: description for description in descriptions}
    order = TopologicalSorter({name: [d for d in known[name].dependency if d in known] for name in known})
    pool = descriptor_pool.Default()
    parent = importlib.import_module(package)
    for name in order.static_order():
        stem = Path(name).stem + "_pb2"
        module = ModuleType(f"{package}.{stem}", f"Rebuilt from the description of {name}.")
        pool.AddSerializedFile(known[name].SerializeToString())
        names = vars(module)
        names["DESCRIPTOR"] = pool.FindFileByName(name)
        builder.BuildMessageAndEnumDescriptors(names["DESCRIPTOR"], names)
        builder.BuildTopDescriptorsAndMessages(names["DESCRIPTOR"], module.__name__, names)
        sys.modules[module.__name__] = module
        setattr(parent, stem, module)
