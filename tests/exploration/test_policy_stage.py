import zlib
from pathlib import Path

from qmix_lightning.exploration import epsilon_greedy, policy_stage
from qmix_lightning.functional import stages


def test_code_on_disk_is_of_all_files_that_it_was_compiled_from():
    files = (epsilon_greedy.__file__, stages.__file__)
    digest = zlib.crc32(b"".join(Path(file).read_bytes() for file in files))
    assert [cell.cell_contents for cell in policy_stage.act.py_func.__closure__] == [digest]
