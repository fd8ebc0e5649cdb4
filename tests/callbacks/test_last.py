import pytest
from lightning.pytorch.callbacks import ModelCheckpoint

from qmix_lightning.callbacks.last import LastCheckpoint
from tests.training import LIGHTNINGS_OWN_WARNING, quiet_trainer, small_data, small_learner

pytestmark = pytest.mark.filterwarnings(LIGHTNINGS_OWN_WARNING)


def lightnings(folder, every):
    return ModelCheckpoint(
        folder,
        "last-{step}",
        monitor="step",
        mode="max",
        save_top_k=2,
        every_n_train_steps=every,
        enable_version_counter=False,
    )


def fit(saver, updates=7, **options):
    data = small_data(replay_checkpoint="none")
    trainer = quiet_trainer(updates, enable_checkpointing=True, callbacks=[saver], **options)
    trainer.fit(small_learner(data), data)
    return saver


def names(folder):
    return sorted(path.stem for path in folder.glob("*.ckpt"))


@pytest.mark.parametrize(
    ("every", "options", "kept"),
    [
        (3, {}, ["last-step=3", "last-step=6"]),
        (None, {"limit_val_batches": 1, "val_check_interval": 2}, ["last-step=4", "last-step=6"]),
        (2, {"accumulate_grad_batches": 2}, ["last-step=4", "last-step=6"]),
    ],
)
def test_it_keeps_the_two_newest_as_lightnings_own_does(tmp_path, every, options, kept):
    ours = fit(LastCheckpoint(tmp_path / "ours", every), **options)
    theirs = fit(lightnings(tmp_path / "theirs", every), **options)
    assert names(tmp_path / "ours") == names(tmp_path / "theirs") == kept
    assert ours.state_key == theirs.state_key
    assert {name: str(value).replace("ours", "theirs") for name, value in ours.state_dict().items()} == {
        name: str(value) for name, value in theirs.state_dict().items()
    }


def test_between_evaluations_it_is_not_asked(tmp_path):
    assert LastCheckpoint(tmp_path).on_train_batch_end is None
    assert callable(LastCheckpoint(tmp_path, every=2).on_train_batch_end)
