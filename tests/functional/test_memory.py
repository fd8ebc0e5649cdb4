import threading
from concurrent.futures import ThreadPoolExecutor

import torch

from qmix_lightning.functional.memory import BatchMemory


def take(memory, key="state", shape=(4, 8), dtype=torch.float32, most=1_000):
    return memory.take(key, shape, dtype, most=most)


def test_memory_is_used_again_once_its_tensor_is_gone():
    memory = BatchMemory()
    where = take(memory).data_ptr()
    assert take(memory).data_ptr() == where
    assert take(memory, shape=(2, 125)).data_ptr() == where, "as much as was asked for at first"


def test_memory_is_not_used_again_while_anything_shares_it():
    holders = [
        lambda tensor: tensor,
        lambda tensor: tensor[1:, ::2].view(torch.int32),
        lambda tensor: tensor.numpy(),
        lambda tensor: tensor.untyped_storage(),
        lambda tensor: (tensor * torch.ones(8, requires_grad=True)).sum(),  # saved for its gradient
    ]
    for holder in holders:
        memory, tensor = BatchMemory(), None
        tensor = take(memory)
        where, held = tensor.data_ptr(), holder(tensor)
        del tensor
        assert take(memory).data_ptr() != where
        del held
        assert where in {tensor.data_ptr() for tensor in [take(memory) for _ in range(2)]}


def test_however_many_batches_are_kept_none_is_overwritten():
    memory = BatchMemory()
    kept = [take(memory).fill_(number) for number in range(10)]
    assert all((tensor == number).all() for number, tensor in enumerate(kept))


def test_every_key_has_memory_of_its_own():
    memory = BatchMemory()
    where = take(memory, "state").data_ptr()
    assert take(memory, "reward").data_ptr() != where


def test_more_than_was_ever_asked_for_is_taken_anew():
    memory = BatchMemory()
    take(memory)
    assert take(memory, shape=(100_000,)).fill_(1.0).sum() == 100_000


def test_tensors_are_aligned_of_their_own_size_and_of_any_type():
    memory = BatchMemory()
    for dtype in (torch.bool, torch.uint8, torch.float16, torch.float32, torch.int64):
        tensor = take(memory, dtype, shape=(3, 5, 2), dtype=dtype)
        assert (tensor.shape, tensor.dtype, tensor.data_ptr() % 64) == ((3, 5, 2), dtype, 0)
        assert tensor.untyped_storage().nbytes() == tensor.nbytes, "what is saved of a batch is the batch"


def test_nothing_at_all_can_be_asked_for():
    assert take(BatchMemory(), shape=(0, 7)).shape == (0, 7)


def test_page_locked_memory_needs_a_gpu_and_without_one_nothing_changes():
    tensor = take(BatchMemory(pin_memory=True))
    assert tensor.is_pinned() == torch.cuda.is_available()
    assert tensor.shape == (4, 8)


def test_threads_that_ask_at_once_get_memory_of_their_own():
    memory, barrier = BatchMemory(), threading.Barrier(4)

    def ask(number):
        wrong = 0
        for _ in range(200):
            barrier.wait()
            tensor = take(memory).fill_(number)
            barrier.wait()
            wrong += int((tensor != number).any())
            del tensor
        return wrong

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(ask, range(4))) == 0
