"""Results in order, a bounded number of items in memory, and no waiting for a dead process."""

import os

import pytest

from ppa_fairseq.data.ordered_pool import OrderedPool
from ppa_fairseq.utils.errors import InputError


def make_multiplier(factor):
    return lambda number: factor * number


def make_killed():
    return lambda _: os._exit(1)


def test_map_keeps_order_and_reads_a_bounded_number_ahead():
    taken = []

    def items():
        for number in range(40):
            taken.append(number)
            yield number

    with OrderedPool(2, make_multiplier, 2) as pool:
        for place, (item, result) in enumerate(pool.map(items())):
            assert (item, result) == (place, 2 * place)
            assert len(taken) <= place + 6
        assert place == 39
        assert list(pool.map([5, 6])) == [(5, 10), (6, 12)]


def test_map_continues_after_unread_results():
    with OrderedPool(2, make_multiplier, 2) as pool:
        for number in range(20):
            assert next(pool.map([number, 7, 8])) == (number, 2 * number)


# The long item is larger than a pipe's buffer, where the standard library's pools hang.
@pytest.mark.parametrize("item", ["x", "x" * 10_000_000], ids=["short", "long"])
def test_killed_worker_is_an_input_error(item):
    with OrderedPool(2, make_killed) as pool, pytest.raises(InputError, match="a worker process was killed"):
        list(pool.map([item] * 9))


def test_error_of_a_worker_is_raised_here():
    with OrderedPool(1, make_multiplier, 2) as pool, pytest.raises(TypeError, match="NoneType"):
        list(pool.map([1, None]))
