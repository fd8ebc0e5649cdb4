import re
import sys
from types import ModuleType

import pytest

from tests.training import LIGHTNINGS_OWN_WARNING, ROOT, qmix

TEXT = (ROOT / "docs/environments/own.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def test_a_world_takes_twenty_lines():
    body = BLOCKS[0][BLOCKS[0].index("class") :]
    assert len([line for line in body.splitlines() if line.strip()]) <= 20


@pytest.mark.filterwarnings(LIGHTNINGS_OWN_WARNING)
@pytest.mark.parametrize("workers", ["false", "true"])
def test_the_world_of_the_page_keeps_the_contract_and_is_trained_by_name(workers, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    # As `qmix` has it, which is not `python -m`: only what is installed, and no folder where one happens to stand.
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    (tmp_path / "my_worlds.py").write_text(BLOCKS[0])
    namespace = {"__name__": "__page__"}
    for block in BLOCKS:
        exec(compile(block, "docs/environments/own.md", "exec"), namespace)
    try:
        few = ("--data.num_envs=4", "--data.val_episodes=16", "--data.test_episodes=16")
        short = ("--trainer.max_steps=4", "--trainer.val_check_interval=4", "--trainer.accelerator=cpu")
        qmix("fit", "--data.env=my_worlds:Rendezvous", f"--data.workers={workers}", *few, *short)
    finally:
        sys.modules.pop("my_worlds", ModuleType(""))
    assert "16 greedy battles on my_worlds:Rendezvous: win rate" in capsys.readouterr().out
    assert [*tmp_path.glob("logs/my_worlds:Rendezvous/version_0/checkpoints/last.ckpt")]


def test_names_of_classes_that_are_no_worlds_are_refused():
    from qmix_lightning.envs.registry import make

    with pytest.raises(ValueError, match="There is no environment 'no_module:World': No module named 'no_module'"):
        make("no_module:World")
    with pytest.raises(ValueError, match=r"'pathlib:Path' is neither an AbstractGame nor an AbstractEnvironment"):
        make("pathlib:Path")
