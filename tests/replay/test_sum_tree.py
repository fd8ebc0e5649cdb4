import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

from qmix_lightning.replay.sum_tree import SumTree

# One level, exactly one, two, exactly two, three.
CAPACITIES = [1, 2, 31, 32, 33, 100, 1_024, 1_025, 5_000]


def filled(value):
    tree = SumTree(len(value))
    tree.set(torch.arange(len(value)), value)
    return tree


def naive_find(value, prefix):
    """The first place up to which the numbers add up to more."""
    return torch.searchsorted(value.cumsum(0), prefix, right=True)


@some.composite
def settings_of(draw, number):
    """A capacity, and calls that each set some of the places."""
    capacity = draw(some.sampled_from(CAPACITIES))
    place = some.integers(0, capacity - 1)
    calls = some.lists(some.dictionaries(place, number, min_size=1, max_size=20), min_size=1, max_size=5)
    return capacity, draw(calls)


def replayed(capacity, calls):
    """The tree after the calls, and the numbers as a plain tensor."""
    tree, value = SumTree(capacity), torch.zeros(capacity, dtype=torch.float64)
    for call in calls:
        index, new = torch.tensor(list(call)), torch.tensor(list(call.values()), dtype=torch.float64)
        tree.set(index, new)
        value[index] = new
    return tree, value


@pytest.mark.parametrize("capacity", CAPACITIES)
def test_with_ones_everywhere_a_prefix_sum_is_its_own_place(capacity):
    tree, every = filled(torch.ones(capacity)), torch.arange(capacity)
    assert tree.total == capacity
    for within in (0.0, 0.5, 0.999):
        assert torch.equal(tree.find(every + within), every)


@given(settings_of(some.integers(0, 1_000)))
@settings(max_examples=60, deadline=None)
def test_it_finds_what_a_running_sum_finds(case):
    # Sums of integers are exact, and so must the places be.
    tree, value = replayed(*case)
    assert torch.equal(tree[torch.arange(tree.capacity)], value)
    assert tree.total == value.sum()
    if tree.total > 0:
        prefix = torch.linspace(0, tree.total - 1e-3, 200, dtype=torch.float64)
        edges = value.cumsum(0)
        prefix = torch.cat([prefix, edges[edges < tree.total], edges[edges > 0] - 0.5])
        assert torch.equal(tree.find(prefix), naive_find(value, prefix))


@given(
    settings_of(some.one_of(some.just(0.0), some.floats(1e-300, 1e300), some.floats(0, 1))),
    some.lists(some.floats(0, 1), min_size=1, max_size=50),
)
@settings(max_examples=100, deadline=None)
def test_nothing_of_value_0_is_found_whatever_the_rounding(case, shares):
    tree, value = replayed(*case)
    if tree.total > 0:
        share = torch.tensor([0.0, 1.0, *shares], dtype=torch.float64)
        ends = torch.tensor([-1.0, 2 * tree.total, torch.inf], dtype=torch.float64)
        found = tree.find(torch.cat([share * tree.total, ends]))
        assert (value[found] > 0).all()


@given(settings_of(some.floats(0, 1)))
@settings(max_examples=60, deadline=None)
def test_what_is_found_owns_the_prefix_sum_up_to_rounding(case):
    tree, value = replayed(*case)
    if tree.total > 0:
        prefix = torch.rand(100, dtype=torch.float64) * tree.total
        found, ends = tree.find(prefix), value.cumsum(0)
        assert tree.total == pytest.approx(float(value.sum()))
        assert (prefix < ends[found] + 1e-9).all()
        assert (prefix >= ends[found] - value[found] - 1e-9).all()


@given(settings_of(some.floats(0, 1e6)))
@settings(max_examples=60, deadline=None)
def test_what_was_set_is_all_that_matters_not_what_was_before(case):
    tree, value = replayed(*case)
    at_once = filled(value)
    assert all(torch.equal(one, other) for one, other in zip(tree._levels, at_once._levels, strict=True))


def test_a_million_changes_leave_no_trace():
    tree, generator = filled(torch.ones(5_000)), torch.Generator().manual_seed(0)
    for _ in range(200):
        tree.set(torch.arange(5_000), torch.rand(5_000, generator=generator) * 1e9)
    tree.set(torch.arange(5_000), torch.zeros(5_000))
    assert tree.total == 0.0


def test_half_the_places_are_found_in_proportion_to_their_numbers():
    value = torch.arange(100.0).where(torch.arange(100) % 2 == 0, 0)
    draws, generator = 200_000, torch.Generator().manual_seed(0)
    tree = filled(value)
    found = tree.find(torch.rand(draws, generator=generator, dtype=torch.float64) * tree.total)
    share = torch.bincount(found, minlength=100) / draws
    expected = value / value.sum()
    # Five standard deviations of a share.
    assert ((share - expected).abs() <= 5 * (expected * (1 - expected) / draws).sqrt()).all()


def test_setting_nothing_changes_nothing():
    tree = filled(torch.ones(40))
    tree.set(torch.empty(0, dtype=torch.int64), torch.empty(0))
    assert tree.total == 40
    assert len(tree.find(torch.empty(0))) == 0


@pytest.mark.parametrize("place", [-1, 40])
def test_a_place_outside_is_refused_even_where_a_row_has_room_for_it(place):
    with pytest.raises(IndexError, match=rf"Expected places in 0, \.\.\., 39, got \[3, {place}\]"):
        SumTree(40).set(torch.tensor([3, place]), torch.ones(2))


def test_a_place_that_comes_twice_is_refused():
    tree = SumTree(40)
    with pytest.raises(ValueError, match=r"a place to be set once in a call, got \[7, 3, 7\]\. Keep its last value"):
        tree.set(torch.tensor([7, 3, 7]), torch.ones(3))
    assert tree.total == 0


@pytest.mark.parametrize("number", [-1.0, torch.inf, torch.nan])
def test_a_number_that_has_no_share_is_refused(number):
    tree = SumTree(40)
    with pytest.raises(ValueError, match=rf"Expected finite numbers of at least 0, got \[1\.0, {number}\]"):
        tree.set(torch.tensor([1, 2]), torch.tensor([1.0, number]))
    assert tree.total == 0


def test_nothing_but_zeros_has_nothing_to_find():
    with pytest.raises(ValueError, match="Expected a positive number to be found, got nothing but zeros"):
        SumTree(40).find(torch.zeros(1))


def test_no_capacity_is_refused():
    with pytest.raises(ValueError, match="capacity >= 1, got 0"):
        SumTree(0)
