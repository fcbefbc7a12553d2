"""A histogram loses no score and has few lines."""

from ppa_fairseq.utils.histogram import histogram, in_hundredths


def test_histogram_has_all_pairs_in_order():
    lines = histogram({-20: 3, 0: 1, 100: 80, 105: 7}, 0.9).splitlines()
    counts = [int(line.split()[3]) for line in lines]
    assert sum(counts) == 91 and counts[0] == 3 and max(counts) == 87
    assert "########" in lines[-1] and lines[0].endswith("dropped") and not lines[-1].endswith("dropped")
    assert len(histogram({place: 1 for place in range(0, 100_000, 7)}, 1).splitlines()) <= 20


def test_hundredths_round_down():
    assert in_hundredths([0.999, -0.001, 1.0]) == {99: 1, -1: 1, 100: 1}
