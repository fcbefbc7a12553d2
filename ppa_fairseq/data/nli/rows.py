"""Rows of several languages side by side: each is one example in all of them."""

from collections.abc import Iterator

from ppa_fairseq.data.nli.reader import NO_CONSENSUS, NLIExample
from ppa_fairseq.utils.errors import InputError


def side_by_side(examples: dict[str, Iterator[NLIExample]]) -> Iterator[tuple[NLIExample, ...]]:
    """One example of every language at a time, in the order of *examples*' keys.

    Rows go in the order of the first language. One of another language belongs to it by pairID where both have one,
    else by position. Memory grows only by how far their orders differ.
    Raises InputError, which names the rows of both, if their numbers, pairIDs or labels differ. A row without
    consensus agrees with any label.
    """
    first, *others = examples
    translations = [Translations(first, language, examples[language]) for language in others]
    place = "the first row"
    for example in examples[first]:
        place = example.place
        yield example, *(translation.of(example) for translation in translations)
    for translation in translations:
        translation.check_end(place)


class Translations:
    """The rows of *language*, in the order of another language, *first*."""

    def __init__(self, first: str, language: str, examples: Iterator[NLIExample]):
        self.first = first
        self.language = language
        self.examples = iter(examples)
        self.ahead: dict[str, NLIExample] = {}  # by pairID: read before their turn
        self.last = "none"  # where the last row that was read stands

    def of(self, example: NLIExample) -> NLIExample:
        """The translation of *example*. Raises InputError if there is none or its label differs."""
        found = self.ahead.pop(example.pair_id, None) or self._read_until(example)
        if found.label != example.label and NO_CONSENSUS not in (found.label, example.label):
            raise InputError(
                f"{found.place}: {found.label}, but {example.place}, the same row in {self.first}, is "
                f"{example.label}; give files whose rows are translations of each other"
            )
        return found

    def check_end(self, last_of_first: str) -> None:
        """Raise InputError if rows are left after that last one of the first language."""
        left = next(iter(self.ahead.values()), None) or next(self.examples, None)
        if left:
            raise InputError(
                f"{left.place}: no row of {self.first} goes with this one (its last is {last_of_first}); give files "
                "whose rows are translations of each other"
            )

    def _read_until(self, example: NLIExample) -> NLIExample:
        for found in self.examples:
            self.last = found.place
            if example.pair_id is None or found.pair_id in (None, example.pair_id):
                return found
            if found.pair_id in self.ahead:
                raise InputError(
                    f"{found.place}: pairID {found.pair_id:.80} stands at {self.ahead[found.pair_id].place}, too; "
                    "a row needs its own"
                )
            self.ahead[found.pair_id] = found
        identity = f" of pairID {example.pair_id:.80}" if self.ahead else ""
        raise InputError(
            f"{example.place}: no row{identity} in {self.language} goes with this one (its last is {self.last}); give "
            "files whose rows are translations of each other"
        )
