import shutil
from importlib.util import module_from_spec, spec_from_file_location

from qmix_lightning.functional.compiling import kernel_over
from tests.functional.test_products import product

KERNEL = """
from qmix_lightning.functional.compiling import kernel_over
from {other} import number

@kernel_over(number)
def doubled():
    return 2 * number()
"""
NUMBER = "from numba import njit\n@njit\ndef number():\n    return {}\n"


def doubled_by(path):
    spec = spec_from_file_location(path.stem, path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.doubled


def test_a_kernel_is_compiled_anew_when_another_file_of_its_functions_changes(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    kernel = tmp_path / "kernel_of_test.py"
    kernel.write_text(KERNEL.format(other="numbers_of_test"))
    monkeypatch.setattr("numba.core.config.CACHE_DIR", str(tmp_path / "cache"))
    misses = []
    for value in (3, 3, 4):
        (tmp_path / "numbers_of_test.py").write_text(NUMBER.format(value))
        shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
        monkeypatch.delitem(__import__("sys").modules, "numbers_of_test", raising=False)
        doubled = doubled_by(kernel)
        assert doubled() == 2 * value
        misses.append(sum(doubled.stats.cache_misses.values()))
    assert misses == [1, 0, 1]


def test_a_kernel_keeps_its_name_and_what_is_said_of_it():
    def number():
        """A number."""
        return 3

    kernel = kernel_over(product)(number)
    assert (kernel.__name__, kernel.__doc__, kernel()) == ("number", "A number.", 3)
