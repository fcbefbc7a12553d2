"""Results in order, a bounded number of items in memory, and no waiting for a dead process."""

import os
import sys

import pytest

from ppa_fairseq.data.ordered_pool import OrderedPool
from ppa_fairseq.utils.errors import InputError


class Unsendable(Exception):
    """pickle writes it and cannot read it."""

    def __init__(self, one, two):
        super().__init__("of two")


def make_multiplier(factor):
    return lambda number: factor * number


def make_killed():
    return lambda _: os._exit(1)


def make_faulty(fault):
    return lambda _: fault()


def fault_at_set_up():
    raise InputError("no tokenizer")


def unsendable():
    raise Unsendable(1, 2)


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
        for number in range(20):  # some results stay unread
            assert next(pool.map([number, 7, 8])) == (number, 2 * number)


# The long item is larger than a pipe's buffer, where the standard library's pools hang.
@pytest.mark.parametrize("item", ["x", "x" * 10_000_000], ids=["short", "long"])
def test_killed_worker_is_an_input_error(item):
    with OrderedPool(2, make_killed) as pool, pytest.raises(InputError, match="a worker process was killed"):
        list(pool.map([item] * 9))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        pytest.param((make_multiplier, None), RuntimeError, "a worker process:.*TypeError: .*NoneType", id="TypeError"),
        pytest.param((make_faulty, sys.exit), RuntimeError, "a worker process:.*SystemExit", id="SystemExit"),
        pytest.param((make_faulty, unsendable), RuntimeError, "a worker process:.*Unsendable: of two", id="no pickle"),
        pytest.param((make_faulty, lambda: open("/none")), FileNotFoundError, "'/none'", id="no file"),
        pytest.param((fault_at_set_up,), InputError, "^no tokenizer$", id="at set-up"),
    ],
)
def test_error_of_a_worker_is_raised_here(make, error, message):
    with OrderedPool(1, *make) as pool, pytest.raises(error, match=f"(?s){message}"):
        list(pool.map([1]))
