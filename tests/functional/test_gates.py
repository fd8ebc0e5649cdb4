import numpy as np
import pytest
import torch

from qmix_lightning.functional.compiling import may_compute, readable
from qmix_lightning.functional.gates import gru_memory


def remember(x, m, c, d, memory):
    new, size = np.empty(memory.shape, np.float32), memory.shape[-1]
    gru_memory(*(t.numpy().reshape(-1, 3, size) for t in (x, m)), *(t.numpy().reshape(3, size) for t in (c, d)),
               memory.numpy(), new)  # fmt: skip
    return torch.from_numpy(new)


def layers(rows, size, scale=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((rows, 3 * size), (rows, 3 * size), (3 * size,), (3 * size,), (rows, size))
    return [scale * torch.randn(shape, generator=generator) for shape in shapes]


@pytest.mark.parametrize(("rows", "size"), [(1, 1), (5, 7), (48, 64), (3, 130)])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
def test_the_memory_is_that_of_torchs_cell_but_for_roundings(rows, size, scale):
    x, m, c, d, memory = layers(rows, size, scale)
    # A cell whose weights are the identity, so that its layers are what they are here.
    expected = torch.stack(
        [
            torch.gru_cell(torch.ones(1, 1), h[None], x[i][:, None], torch.zeros(3 * size, size), c, d + m[i])[0]
            for i, h in enumerate(memory)
        ]
    )
    torch.testing.assert_close(remember(x, m, c, d, memory), expected, rtol=1e-5, atol=1e-6 * max(1.0, scale))


def test_an_open_update_gate_keeps_the_memory_and_a_shut_one_takes_the_new():
    x, m, c, d, memory = layers(4, 3)
    x[:, 3:6] = 1e9
    torch.testing.assert_close(remember(x, m, c, d, memory), memory)
    x[:, 3:6], x[:, 6:] = -1e9, 1e9
    torch.testing.assert_close(remember(x, m, c, d, memory), torch.ones(4, 3))


def test_infinite_layers_saturate_and_nan_stays_nan():
    x, m, c, d, memory = layers(2, 2)
    x[0] = torch.inf
    x[1, 0] = torch.nan
    new = remember(x, m, c, d, memory)
    assert torch.equal(new[0], memory[0])
    assert new[1].isnan().tolist() == [True, False]


def test_every_row_is_alone():
    x, m, c, d, memory = layers(9, 5)
    alone = [remember(x[i : i + 1], m[i : i + 1], c, d, memory[i : i + 1]) for i in range(9)]
    assert torch.equal(remember(x, m, c, d, memory), torch.cat(alone))


def test_kernels_stand_aside_for_gradients_and_autocast():
    with torch.no_grad():
        assert may_compute()
        with torch.autocast("cpu", torch.bfloat16):
            assert not may_compute()
    assert not may_compute()


def test_kernels_read_plain_numbers_in_the_computers_memory_alone():
    plain = torch.zeros(2, 3)
    assert readable(plain, plain.bool(), plain.long())
    for other in (plain.double(), plain.bfloat16(), plain.t(), plain[:, :2], plain.to("meta")):
        assert not readable(plain, other)
    seen = []
    torch.vmap(lambda row: (seen.append(readable(row)), row)[1])(plain)
    assert seen == [False]
