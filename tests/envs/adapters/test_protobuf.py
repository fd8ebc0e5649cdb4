"""Protocol modules that an old generator wrote: here a package of two, written the way protoc 2 did."""

import importlib
import sys

import pytest
from google.protobuf import descriptor_pb2

from qmix_lightning.envs.adapters.protobuf import import_protocol

FIELD = descriptor_pb2.FieldDescriptorProto


def place():
    file = descriptor_pb2.FileDescriptorProto(name="{package}/place.proto", package="{package}")
    point = file.message_type.add(name="Point")
    for number, name in enumerate("xy", start=1):
        point.field.add(name=name, number=number, label=FIELD.LABEL_OPTIONAL, type=FIELD.TYPE_FLOAT)
    race = file.enum_type.add(name="Race")
    race.value.add(name="Terran", number=1)
    race.value.add(name="Zerg", number=2)
    return file


def army():
    """Comes before what it imports, by name."""
    file = descriptor_pb2.FileDescriptorProto(name="{package}/army.proto", package="{package}")
    file.dependency.append("{package}/place.proto")
    unit = file.message_type.add(name="Unit")
    unit.field.add(
        name="at", number=1, label=FIELD.LABEL_REPEATED, type=FIELD.TYPE_MESSAGE, type_name=".{package}.Point"
    )
    return file


def renamed(file, package):
    """The same file in another package: protobuf takes a name once in a process."""
    text = str(file).replace("{package}", package)
    return importlib.import_module("google.protobuf.text_format").Parse(text, descriptor_pb2.FileDescriptorProto())


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a package of old modules, from descriptions that are given as literals of the source."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(package, *files, literal="_b({text!r})", refuses="Descriptor()"):
        folder = tmp_path / package
        folder.mkdir()
        (folder / "__init__.py").write_text("")
        for file in files:
            data = renamed(file, package).SerializeToString()
            description = literal.format(text=data.decode("latin-1"), data=data)
            (folder / f"{file.name.split('/')[1].split('.')[0]}_pb2.py").write_text(
                "from google.protobuf.descriptor import Descriptor, FileDescriptor\n"
                "_b = lambda text: text.encode('latin1')\n"
                f"if False: FileDescriptor(name='{file.name}', serialized_pb={description})\n"
                f"{refuses}\n"
            )

    yield write
    for name in [name for name in sys.modules if name.startswith("old_")]:
        del sys.modules[name]


@pytest.mark.parametrize("literal", ["_b({text!r})", "{data!r}"], ids=["text", "bytes"])
def test_old_modules_that_protobuf_refuses_work_when_rebuilt(write, literal):
    package = f"old_{'text' if 'text' in literal else 'bytes'}"
    write(package, army(), place(), literal=literal)
    with pytest.raises(TypeError, match="Descriptor"):
        importlib.import_module(f"{package}.place_pb2")
    assert import_protocol(package)
    army_pb2, place_pb2 = (importlib.import_module(f"{package}.{name}_pb2") for name in ("army", "place"))
    unit = army_pb2.Unit(at=[place_pb2.Point(x=1.5, y=-2)])
    again = army_pb2.Unit.FromString(unit.SerializeToString())
    assert [(point.x, point.y) for point in again.at] == [(1.5, -2)]
    assert (place_pb2.Terran, place_pb2.Race.Name(2)) == (1, "Zerg")
    assert importlib.import_module(package).army_pb2 is army_pb2


def test_rebuilt_modules_are_not_rebuilt_again(write):
    write("old_once", place())
    assert import_protocol("old_once")
    module = importlib.import_module("old_once.place_pb2")
    assert not import_protocol("old_once")
    assert importlib.import_module("old_once.place_pb2") is module


def test_modules_that_protobuf_takes_are_left_alone(write):
    write("old_but_fine", place(), refuses="x = 1")
    assert not import_protocol("old_but_fine")
    assert importlib.import_module("old_but_fine.place_pb2").x == 1


def test_a_module_that_uses_what_protobuf_no_longer_has_is_rebuilt(write):
    write("old_reflection", place(), refuses="from google.protobuf import a_module_of_long_ago")
    assert import_protocol("old_reflection")


def test_a_module_without_a_description_is_refused_with_the_cure(write):
    write("old_empty", place(), literal="None")
    with pytest.raises(ImportError, match=r"refuses .*place_pb2\.py, and it holds .* Install protobuf==3\.20\.3, or"):
        import_protocol("old_empty")


@pytest.mark.parametrize("package", ["old_nowhere", "json"])
def test_a_package_without_generated_modules_is_refused(package):
    with pytest.raises(ModuleNotFoundError, match=f"Expected a package '{package}' of .*Install {package}"):
        import_protocol(package)


def test_starcraft_s_protocol_is_importable():
    pytest.importorskip("s2clientprotocol")
    import_protocol()
    from s2clientprotocol import sc2api_pb2

    request = sc2api_pb2.Request(step=sc2api_pb2.RequestStep(count=8))
    assert sc2api_pb2.Request.FromString(request.SerializeToString()).step.count == 8
    assert not import_protocol()
