"""Episodes whose numbers say where they came from."""

import torch
from tensordict import TensorDict

from qmix_lightning.spec import ACTION, ACTION_MASK, DONE, INFO, MASK, OBSERVATION, REWARD, STATE


def episodes(*numbers, limit=5, n_agents=3, n_actions=4):
    """Episode e lasts 1 + e mod limit steps; its state is [e, step] on what was seen, and 0 on padding.

    What was done and earned is 0 on the last step too, and the padding has action 0 legal.
    """
    number = torch.tensor(numbers)[:, None].expand(-1, limit + 1)
    step = torch.arange(limit + 1).expand(len(numbers), -1)
    length = 1 + number % limit
    played, seen = step < length, step <= length
    state = torch.stack([number, step], -1).float().masked_fill(~seen[..., None], 0.0)
    action = (number + step)[..., None].expand(-1, -1, n_agents).masked_fill(~played[..., None], 0) % n_actions
    legal = (number + step)[..., None, None] // 2 ** torch.arange(n_actions) % 2 == 1
    legal = (legal & seen[..., None, None]).expand(-1, -1, n_agents, -1).clone()
    legal[..., 0] = True
    done = step == length - 1
    return TensorDict(
        {
            STATE: state,
            OBSERVATION: state[:, :, None].expand(-1, -1, n_agents, -1) / 7,
            ACTION_MASK: legal,
            ACTION: action,
            MASK: played[..., None],
            REWARD: step[..., None].float().masked_fill(~played[..., None], 0.0),
            DONE: done[..., None],
            (*INFO, "dead_enemies"): (number % 3)[..., None].masked_fill(~done[..., None], 0),
        },
        [len(numbers), limit + 1],
    )


def numbers_of(batch):
    """Which episodes a batch holds."""
    return batch[STATE][:, 0, 0].int().tolist()


def assert_alike(buffer, other, batches=50, new=2, first=1_000):
    """Draw the same batches of both, between which both are given the same new episodes and priorities."""
    for batch in range(batches):
        one, two = buffer.sample(), other.sample()
        assert one.batch_size == two.batch_size
        assert (one == two).all()
        assert set(one.keys(True, True)) == set(two.keys(True, True))
        for each in (buffer, other):
            each.extend(episodes(*range(first + batch * new, first + batch * new + new)))
            if "index" in one:
                each.update_priorities(one["index"][:, 0, 0], one[STATE][:, :, 0].sum(1))
