"""Packing episodes of different lengths into a staircase."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from qmix_lightning.functional.packing import STAIR, WORTHWHILE, Packing, Rows, pack, played_rows

LENGTHS = {
    "random": torch.randint(1, 61, (32,), generator=torch.Generator().manual_seed(0)).tolist(),
    "one long": [3] * 15 + [60],
    "one step": [1] * 20 + [50] * 3,
    "none at all": [0] * 8 + [30, 40] * 4,
    "shorter than the batch": [20] * 16,
    "two kinds": [50, 10] * 8,
}


def seen_until(lengths: list[int], steps: int = 60) -> Tensor:
    return torch.arange(steps).view(1, steps, 1) < torch.tensor(lengths).view(-1, 1, 1)


def packed(lengths: list[int]) -> tuple[Tensor, Packing]:
    packing = pack(seen_until(lengths))
    assert packing is not None
    return seen_until(lengths), packing


def size(packing: Packing) -> int:
    return sum(steps * battles for steps, battles in packing.stairs)


given = pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)


# ------------------------------------------------------------------------------------------------------- identities


@given
def test_what_is_packed_comes_back_to_its_places(lengths: list[int]) -> None:
    seen, packing = packed(lengths)
    entry = torch.randn(*seen.shape[:2], 2, 3)
    back = packing.put(packing.take(entry))
    assert torch.equal(back[seen.squeeze(-1)], entry[seen.squeeze(-1)])


@given
def test_every_step_that_was_seen_is_packed_once_and_fill_repeats_the_last_of_its_episode(lengths: list[int]) -> None:
    seen, packing = packed(lengths)
    times = torch.zeros(seen.numel(), dtype=torch.int64).index_add(
        0, packing.place.index, torch.ones_like(packing.place.index)
    )
    assert times.max() == 1
    assert times.view(seen.shape)[seen].all()
    episode, step = packing.place.index // 60, packing.place.index % 60
    last = torch.tensor(lengths)[episode] - 1
    assert torch.equal(packing.source.index, episode * 60 + torch.minimum(step, last))


@given
def test_a_stair_goes_on_with_the_first_episodes_of_the_one_before(lengths: list[int]) -> None:
    seen, packing = packed(lengths)
    numbers = torch.arange(seen.numel()).view(seen.shape[:2])
    before, first = None, 0
    for stair, (steps, battles) in zip(packing.split(packing.place.take(numbers)), packing.stairs, strict=True):
        assert stair.shape == (steps, battles)
        episodes = stair[0] // 60
        assert torch.equal(stair, episodes * 60 + torch.arange(first, first + steps).unsqueeze(1))
        assert before is None or torch.equal(episodes, before[:battles])
        before, first = episodes, first + steps


def test_gradients_come_back_to_the_steps_they_are_of() -> None:
    seen, packing = packed(LENGTHS["two kinds"])
    entry = torch.randn(*seen.shape[:2], 3, requires_grad=True)
    weight = torch.randn(entry.shape) * seen
    total = (packing.put(packing.take(entry)) * weight).sum()
    torch.testing.assert_close(torch.autograd.grad(total, [entry])[0], weight)


def test_padding_is_never_read() -> None:
    seen, packing = packed(LENGTHS["random"])
    entry = torch.where(seen, torch.randn(seen.shape), torch.nan)
    assert packing.put(packing.take(entry)).isfinite().all()


def test_rows_of_played_steps_are_those_steps_and_the_ones_after_them() -> None:
    played = seen_until(LENGTHS["random"])
    numbers = torch.arange(played.numel()).view(played.shape[:2])
    steps, now, after = played_rows(played)
    counts = played[:, :-1].squeeze(-1)
    assert torch.equal(now.take(numbers), numbers[:, :-1][counts])
    assert torch.equal(after.take(numbers), numbers[:, 1:][counts])
    assert torch.equal(steps.put(steps.take(numbers[:, :-1])), numbers[:, :-1] * counts)


# ------------------------------------------------------------------------------------------------------------ oracle


def least(lengths: list[int]) -> int:
    """The least cost of a staircase over episodes, by dynamic programming over where stairs may end."""
    ends = [0, *sorted(set(lengths) - {0})]
    alive = [sum(length > end for length in lengths) for end in ends]
    best = [0]
    for j in range(1, len(ends)):
        best.append(min(best[i] + alive[i] * (ends[j] - ends[i]) + STAIR for i in range(j)))
    return best[-1]


@pytest.mark.parametrize("seed", range(20))
def test_no_other_stairs_would_cost_much_less(seed: int) -> None:
    torch.manual_seed(seed)
    lengths = (60 * torch.rand(int(torch.randint(20, 130, ()))) ** (1 + seed % 3)).ceil().long().tolist()
    packing = pack(seen_until(lengths))
    assert packing is not None
    assert size(packing) + STAIR * len(packing.stairs) <= 1.05 * least(lengths)


# ------------------------------------------------------------------------------------------------------------- edges


@pytest.mark.parametrize(
    ("lengths", "why"),
    [
        ([60] * 16, "there is no padding"),
        ([60] * 15 + [30], "there is little"),
        ([0] * 4, "there is nothing else"),
        ([10, 60], "a stair costs more"),
        ([], "there are no episodes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_nothing_is_packed_where(lengths: list[int], why: str) -> None:
    assert pack(seen_until(lengths)) is None, why


def test_episodes_with_holes_are_not_packed() -> None:
    seen = seen_until([50, 10] * 8)
    seen[1, 20] = True
    assert pack(seen) is None
    seen = seen_until([50, 10] * 8)
    seen[1, 0] = False
    assert pack(seen) is None


def test_lengths_are_not_fetched_from_another_device_or_while_compiling() -> None:
    seen = seen_until(LENGTHS["two kinds"])
    assert pack(seen.to("meta")) is None
    none = torch.compile(lambda seen: seen.sum() * (pack(seen) is None), fullgraph=True, backend="eager")
    assert none(seen) == seen.sum()


def test_packing_saves_what_it_promises() -> None:
    for lengths in LENGTHS.values():
        seen, packing = packed(lengths)
        assert int(seen.sum()) <= size(packing) == len(packing.place.index)
        assert size(packing) + STAIR * len(packing.stairs) <= WORTHWHILE * seen.numel()


# ------------------------------------------------------------------------------------------------------------ errors


def test_an_entry_that_has_not_all_steps_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Expected an entry for each step \[2, 5\], got one of shape \[2, 4, 3\]."):
        Rows((2, 5), torch.tensor([1])).take(torch.zeros(2, 4, 3))
