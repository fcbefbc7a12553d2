"""Question and a window of its context in one sequence, each in its own language where code-switching asks for it."""

from dataclasses import dataclass

import numpy as np
import torch

from ppa_fairseq.data.code_switching import CodeSwitch, mix
from ppa_fairseq.data.grouped_dataset import GroupedDataset
from ppa_fairseq.data.qa.windows import kept_question
from ppa_fairseq.data.sentence_pairs import PairLayout, collate, gather


@dataclass(frozen=True)
class QACorpus:
    """One language of one split.

    Attributes:
        question, context: indexed datasets of WordPieces, each row ending in [SEP].
        answer: (rows, 2) first and last WordPiece of the answer in its context.
        number: (rows,) of each question; its translations have the same.
    """

    language: str
    question: torch.utils.data.Dataset
    context: torch.utils.data.Dataset
    answer: np.ndarray
    number: np.ndarray


class QADataset(GroupedDataset):
    """Windows over the contexts of all questions that are trained on, and of their mixed forms.

    Of one question's two mixed forms, the first windows that hold the answer are one unit; the answer is the context's.

    Args:
        corpora: the languages; English first if *switch* needs it.
        numbers: what a batch calls each of them.
        train_langs: those of them whose questions are trained on (or validated).
        layout: how question and window become one sequence.
        doc_stride: WordPieces that consecutive windows share.
        switch: see :mod:`~ppa_fairseq.data.code_switching`; None for validation.
        by_language: batches of one language each, so that its accuracy can be told.
    """

    def __init__(
        self,
        corpora: list[QACorpus],
        numbers: list[int],
        train_langs: list[str],
        layout: PairLayout,
        doc_stride: int,
        seed: int,
        switch: CodeSwitch | None = None,
        by_language: bool = False,
    ):
        self.corpora = corpora
        self.numbers = numbers
        self.layout = layout
        self.doc_stride = doc_stride
        self.seed = seed
        self.switch = switch
        self.by_language = by_language
        questions = 1 + max(int(corpus.number.max()) for corpus in corpora)
        self._row = [np.full(questions, -1) for _ in corpora]  # of each question's number
        for row, corpus in zip(self._row, corpora, strict=True):
            row[corpus.number] = np.arange(len(corpus.number))
        self._wanted = {corpus.language: np.sort(corpus.number) for corpus in corpora if corpus.language in train_langs}
        # Without their [SEP].
        self._question_lengths = [corpus.question.sizes.astype(np.int32) - 1 for corpus in corpora]
        self._context_lengths = [corpus.context.sizes.astype(np.int32) - 1 for corpus in corpora]
        self.set_epoch(1)

    def set_epoch(self, epoch: int) -> None:
        """Draw the epoch's code-switching, a function of (seed, epoch, question), and cut the windows."""
        languages = [corpus.language for corpus in self.corpora]
        english = np.sort(self.corpora[0].number)
        mixture = mix(languages, self._wanted, english, self.switch, self.seed, epoch)
        first, second = mixture.first, mixture.second
        first_row = gather(self._row, first, mixture.row)
        second_row = gather(self._row, second, mixture.row)
        question_lengths = gather(self._question_lengths, first, first_row)
        context_lengths = gather(self._context_lengths, second, second_row)
        answer = np.empty((len(second), 2), dtype=np.int64)
        for number, corpus in enumerate(self.corpora):
            here = second == number
            answer[here] = corpus.answer[second_row[here]]
        entry, start, end, kept = cut_windows(question_lengths, context_lengths, self.layout, self.doc_stride)
        holds = (answer[entry, 0] >= start) & (answer[entry, 1] < end)
        bound = np.zeros(len(entry), dtype=bool)  # to the window of the other form
        bound[np.unique(np.where(holds, entry, -1), return_index=True)[1]] = True
        bound &= holds & (first != second)[entry]
        order = np.lexsort((np.arange(len(entry)), ~bound, mixture.unit[entry]))
        entry, start, end, kept, holds, bound = (part[order] for part in (entry, start, end, kept, holds, bound))
        unit = mixture.unit[entry]
        self.unit = np.cumsum(~bound | (np.diff(unit, prepend=-1) != 0)) - 1
        self.sizes = kept + end - start + self.layout.specials
        self._first, self._first_row = first[entry], first_row[entry]
        self._second, self._second_row = second[entry], second_row[entry]
        self._kept, self._start, self._end = kept, start, end
        # Counted in the window; -1 where it does not hold the answer.
        self._answer = np.where(holds[:, None], answer[entry] - start[:, None], -1)
        self.group = self._second if self.by_language else None

    def __getitem__(self, index: int) -> dict:
        question = self.corpora[self._first[index]].question[self._first_row[index]].numpy()
        context = self.corpora[self._second[index]].context[self._second_row[index]].numpy()
        question = question[: self._kept[index]]
        tokens, token_types = self.layout.lay(question, context[self._start[index] : self._end[index]])
        begin = len(tokens) - 1 - (self._end[index] - self._start[index])
        choices = np.zeros(len(tokens), dtype=bool)
        choices[begin:-1] = True
        choices[0] = True  # [CLS]: the answer is not here
        answer = self._answer[index]
        return {
            "id": index,
            "language": self.numbers[self._second[index]],
            "tokens": torch.from_numpy(tokens),
            "token_types": torch.from_numpy(token_types),
            "choices": torch.from_numpy(choices),
            "target": torch.from_numpy(np.where(answer >= 0, begin + answer, 0)),
        }

    def origin(self, index: int) -> str:
        """Where a window's question and context stand in the data, rows from 1, and which of its WordPieces it has."""
        sides = zip((self._first, self._second), (self._first_row, self._second_row), strict=True)
        question, context = (f"{self.corpora[of[index]].language} row {row[index] + 1}" for of, row in sides)
        both = question if question == context else f"question {question}, context {context}"
        return f"{both} WordPieces {self._start[index] + 1}-{self._end[index]}"

    def collater(self, samples: list[dict]) -> dict:
        """N windows as one batch.

        Returns:
            ``net_input`` packed, ``choices`` (T,) whether a token can be an answer's end (the context, and [CLS] for
            none), ``target`` (N, 2) places of first and last token in their sequences, ``language`` (N,), counts.
        """
        if not samples:
            return {}
        choices, target = torch.cat([s["choices"] for s in samples]), torch.stack([s["target"] for s in samples])
        return collate(samples) | {"choices": choices, "target": target}


def cut_windows(question: np.ndarray, context: np.ndarray, layout: PairLayout, doc_stride: int):
    """:func:`~ppa_fairseq.data.qa.windows.context_windows` of E questions and contexts of these lengths at once.

    Returns (W,) each: which of the E a window is of, its start and end, and how much of the question is kept.
    """
    shared = layout.room - doc_stride
    kept = np.where(question < shared, question, kept_question(shared, layout.room, doc_stride, 0))  # (E,)
    room = layout.room - kept
    step = room - doc_stride
    counts = np.where(context > room, -(-np.maximum(context - doc_stride, 1) // step), 1)
    entry = np.repeat(np.arange(len(counts)), counts)  # (W,)
    within = np.arange(len(entry)) - np.repeat(np.cumsum(counts) - counts, counts)
    start = within * step[entry]
    return entry, start, np.minimum(start + room[entry], context[entry]), kept[entry]
