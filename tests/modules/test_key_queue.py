"""The queue holds the keys of real updates, in order, and nothing else."""

import torch

from ppa_fairseq.modules.key_queue import KeyQueue


def stage(queue, *numbers, pivots=None, attempt=1):
    keys = torch.tensor([[float(n), -float(n)] for n in numbers])
    queue.stage(keys, torch.tensor(pivots or numbers), attempt)


def contents(queue):
    """(number, pivot) of the filled slots, oldest first."""
    filled, size = int(queue.filled), queue.size
    slots = [(int(queue.next_slot) - filled + i) % size for i in range(filled)]
    return [(int(queue.keys[s, 0]), int(queue.pivots[s])) for s in slots]


def test_ring_keeps_the_last_keys_in_order_for_any_batch_sizes():
    """Against a plain list, over ragged updates that wrap around, one of them larger than the queue."""
    queue, plain, number = KeyQueue(7, 2), [], 0
    for attempt, count in enumerate([3, 2, 5, 1, 7, 4, 1, 9, 6]):
        batch = list(range(number, number + count))
        number += count
        stage(queue, *batch, attempt=attempt)
        queue.commit()
        plain = (plain + [(n, n) for n in batch])[-7:]
        assert contents(queue) == plain


def test_staged_keys_enter_at_the_commit_and_once():
    queue = KeyQueue(4, 2)
    stage(queue, 1)
    assert contents(queue) == []
    stage(queue, 2)
    for _ in range(2):
        queue.commit()
        assert contents(queue) == [(1, 1), (2, 2)]


def test_a_repeated_attempt_drops_what_the_failed_one_staged():
    queue = KeyQueue(4, 2)
    stage(queue, 1, attempt=1)
    stage(queue, 1, attempt=2)
    queue.commit()
    assert contents(queue) == [(1, 1)]


def test_unfilled_slots_and_translations_are_not_negatives():
    queue = KeyQueue(5, 2)
    stage(queue, 1, 2, 3, pivots=[10, 20, 10])
    queue.commit()
    negative, false_negatives = queue.find_negatives(torch.tensor([10, 30, 0]))
    assert negative.tolist() == [
        [False, True, False, False, False],
        [True, True, True, False, False],
        [True, True, True, False, False],  # the empty slots' zero is not a sentence
    ]
    assert int(false_negatives) == 2
    negative, false_negatives = queue.find_negatives(torch.tensor([10]), pivot_aware=False)
    assert negative.tolist() == [[True, True, True, False, False]] and int(false_negatives) == 0


def test_half_precision_leaves_the_queue_in_float32():
    queue = KeyQueue(2, 2).half()
    assert queue.keys.dtype == torch.float32 and queue.pivots.dtype == torch.int64
