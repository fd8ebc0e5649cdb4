import pytest
import torch

from qmix_lightning.exploration.random_policy import RandomPolicy
from qmix_lightning.spec import Policy

LEGAL = torch.tensor([[[False, True, True, False, True], [True, False, False, False, False]]]).expand(3000, 2, 5)
NOTHING = torch.full((3000, 2), -1)


def test_it_is_a_policy():
    assert isinstance(RandomPolicy(), Policy)


def test_every_legal_action_is_as_likely_as_any_other():
    policy = RandomPolicy(seed=1)
    action, _ = policy.act(torch.zeros(3000, 2, 4), LEGAL, NOTHING, policy.initial_memory(3000))
    counts = action[:, 0].bincount(minlength=5)
    assert counts[[0, 3]].tolist() == [0, 0]
    assert counts[[1, 2, 4]].tolist() == pytest.approx([1000] * 3, abs=100)
    assert (action[:, 1] == 0).all()


def test_it_depends_on_its_seed_alone_unless_it_is_given_a_generator():
    def played(policy, generator=None):
        return policy.act(torch.zeros(3000, 2, 4), LEGAL, NOTHING, policy.initial_memory(3000), generator=generator)[0]

    torch.manual_seed(5)
    first = played(RandomPolicy(1))
    torch.manual_seed(6)
    assert torch.equal(first, played(RandomPolicy(1)))
    assert not torch.equal(first, played(RandomPolicy(2)))
    given = [played(RandomPolicy(seed), torch.Generator().manual_seed(7)) for seed in (1, 2)]
    assert torch.equal(*given)
