import pytest
import torch
from lightning.pytorch import Callback

from qmix_lightning.cli.overhead import skip_empty_hooks
from qmix_lightning.module import QLearner
from tests.training import LIGHTNINGS_OWN_WARNING, quiet_trainer, small_agent, small_data, small_mixer

pytestmark = pytest.mark.filterwarnings(LIGHTNINGS_OWN_WARNING)


class Learner(QLearner):
    """Writes down at each pass forward whether there are gradients."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.there = []
        self.loss.register_forward_pre_hook(lambda *_: self.there.append(there(self)))


def there(learner):
    return any(parameter.grad is not None for parameter in learner.loss.parameters())


def fit(*callbacks, kind=Learner, updates=3, skip=False, optimizer="adam", **options):
    data = small_data()
    torch.manual_seed(1)
    learner = kind(data.spec, small_agent, small_mixer, optimizer=optimizer)
    trainer = quiet_trainer(updates, callbacks=list(callbacks), **options)
    if skip:
        skip_empty_hooks(trainer, learner)
    trainer.fit(learner, data)
    return learner


class Inspector(Callback):
    """Looks at the gradients of the update before."""

    def __init__(self):
        self.there = []

    def on_before_zero_grad(self, trainer, pl_module, optimizer):
        self.there.append(there(pl_module))


class AtTheEnd(Callback):
    """Looks at the gradients of the update that has just been made."""

    def __init__(self):
        self.there = []

    def on_train_batch_end(self, trainer, pl_module, *args):
        self.there.append(there(pl_module))


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
@pytest.mark.parametrize("parts", [1, 2])
def test_forgetting_early_changes_no_bit(skip, optimizer, parts):
    options = {"optimizer": optimizer, "accumulate_grad_batches": parts}
    early, late = fit(skip=skip, **options), fit(Inspector(), **options)
    for name, tensor in late.state_dict().items():
        assert torch.equal(early.state_dict()[name], tensor)


def test_gradients_are_gone_before_the_pass_forward_unless_they_are_accumulated():
    assert fit().there == [False] * 3
    assert fit(accumulate_grad_batches=2, updates=2).there == [False, True] * 2


def test_whoever_looks_before_they_are_zeroed_finds_them():
    inspector = Inspector()
    assert fit(inspector).there == [False, True, True]
    assert inspector.there == [False, True, True]

    class InItself(Learner):
        def on_before_zero_grad(self, optimizer):
            pass

    class ByItself(Learner):
        def optimizer_zero_grad(self, epoch, batch_idx, optimizer):
            optimizer.zero_grad()

    for kind in (InItself, ByItself):
        assert fit(kind=kind).there == [False, True, True]


def test_after_an_update_they_are_there():
    looker = AtTheEnd()
    fit(looker)
    assert looker.there == [True] * 3


def test_other_optimizers_forget_in_their_own_time():
    class Other(Learner):
        def configure_optimizers(self):
            return torch.optim.SGD(self.loss.parameters(), lr=0.1)

    assert fit(kind=Other).there == [False, True, True]
