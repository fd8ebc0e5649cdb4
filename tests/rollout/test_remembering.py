import pytest
import torch

from qmix_lightning.rollout.remembering import begin_anew
from qmix_lightning.spec import NO_ACTION


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("size", [0, 5])
def test_only_battles_that_begin_anew_are_forgotten(kind, size):
    memory, last_action = torch.rand(6, 3, size).to(kind), torch.randint(9, (6, 3))
    which, fresh = torch.tensor([1, 4]), torch.rand(1, 3, size).to(kind)
    new, action = begin_anew(memory, last_action, which, fresh)
    for b in range(6):
        assert torch.equal(new[b], fresh[0] if b in (1, 4) else memory[b])
        assert (action[b] == NO_ACTION).all() if b in (1, 4) else torch.equal(action[b], last_action[b])


@pytest.mark.parametrize("kind", [torch.float32, torch.float16])
def test_a_memory_keeps_its_type_whatever_that_of_a_fresh_one(kind):
    new, _ = begin_anew(torch.zeros(2, 1, 3), torch.zeros(2, 1).long(), torch.tensor([0]), torch.ones(1, 1, 3).to(kind))
    assert new.dtype == torch.float32
    assert new[0].eq(1).all()


@pytest.mark.parametrize("turned", [False, True])
def test_what_a_policy_returned_is_not_written_to(turned):
    memory, last_action = torch.rand(3, 3, 4), torch.randint(9, (3, 3))
    memory, last_action = (memory.transpose(0, 1), last_action.t()) if turned else (memory, last_action)
    before = memory.clone(), last_action.clone()
    begin_anew(memory, last_action, torch.tensor([0, 2]), torch.zeros(1, 3, 4))
    assert torch.equal(memory, before[0])
    assert torch.equal(last_action, before[1])
