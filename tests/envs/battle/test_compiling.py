import inspect
import shutil
import zlib
from pathlib import Path

import pytest

from qmix_lightning.envs.battle import compiling, engine, hindsight, observation
from qmix_lightning.envs.battle.compiling import SOURCES, inlined, kernel, shared, subroutine


@inlined
def _square(x):
    return x * x


@subroutine
def _quartic(x):
    return _square(_square(x))


@pytest.mark.parametrize("wrap", [shared, subroutine, kernel])
def test_a_compiled_function_is_the_same_function(wrap):
    def ramp(n):
        total = 0.0
        for k in range(n):
            total += _quartic(0.5 * k)
        return total

    assert wrap(ramp)(5) == ramp(5) == sum((0.5 * k) ** 4 for k in range(5))


def test_an_inlined_function_has_no_way_in_from_python():
    with pytest.raises(TypeError, match=r"_square can be called in compiled code only\. Call it from a kernel\."):
        _square(2.0)


@pytest.mark.parametrize(
    "function",
    [
        engine.restart,
        engine.advance,
        engine.advance_lawfully,
        engine.first_illegal,
        observation.show,
        hindsight.see_again,
    ],
)
def test_the_code_of_every_kernel_is_kept_for_these_very_sources(function):
    assert inspect.signature(function.py_func).parameters["_"].default == SOURCES


def test_the_digest_changes_with_any_source(tmp_path):
    folder = Path(compiling.__file__).parent
    for file in folder.glob("*.py"):
        shutil.copy(file, tmp_path)

    def digest():
        return zlib.crc32(b"".join(sorted(file.read_bytes() for file in tmp_path.glob("*.py"))))

    assert digest() == SOURCES
    (tmp_path / "movement.py").write_text("")
    assert digest() != SOURCES
