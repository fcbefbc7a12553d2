"""Question and a window of its context in one sequence; with code-switching, each in its own language."""

from dataclasses import dataclass

import numpy as np
import torch

from ppa_fairseq.data.code_switching import mix
from ppa_fairseq.data.pair_dataset import PairDataset, gather, lengths
from ppa_fairseq.data.qa.windows import cut_windows


@dataclass(frozen=True)
class QACorpus:
    """One language of one split.

    Attributes:
        question, context: indexed datasets of tokens; each row ends in [SEP].
        answer: (rows, 2) first and last token of the answer in its context.
        number: (rows,) of each question; its translations have the same number.
    """

    language: str
    question: torch.utils.data.Dataset
    context: torch.utils.data.Dataset
    answer: np.ndarray
    number: np.ndarray


class QADataset(PairDataset):
    """Windows over the contexts of all questions of the training languages, and of their mixed forms.

    The answer of a mixed form is the one in its context. Of the two mixed forms of a question, the first windows that
    hold the answer are one group. *doc_stride* is the number of tokens that consecutive windows share.
    """

    def __init__(self, corpora: list[QACorpus], numbers, train_langs, layout, doc_stride: int, *args, **kwargs):
        self.doc_stride = doc_stride
        super().__init__(corpora, numbers, train_langs, layout, *args, **kwargs)

    def set_epoch(self, epoch: int) -> None:
        """Draw the epoch's code-switching, a function of (seed, epoch, question), and cut the windows."""
        questions = 1 + max(int(corpus.number.max()) for corpus in self.corpora)
        rows = [np.full(questions, -1) for _ in self.corpora]  # of each question's number
        for row, corpus in zip(rows, self.corpora, strict=True):
            row[corpus.number] = np.arange(len(corpus.number))
        train = {one.language: np.sort(one.number) for one in self.corpora if one.language in self.train_langs}
        english = np.sort(self.corpora[0].number)
        mixture = mix(self.languages, train, english, self.switch, self.seed, epoch)
        first, second = mixture.first, mixture.second
        first_row, second_row = gather(rows, first, mixture.row), gather(rows, second, mixture.row)
        question_lengths = gather([lengths(corpus.question) for corpus in self.corpora], first, first_row)
        context_lengths = gather([lengths(corpus.context) for corpus in self.corpora], second, second_row)
        answer = gather([corpus.answer for corpus in self.corpora], second, second_row)  # (E, 2)
        entry, start, end, kept = cut_windows(question_lengths, context_lengths, self.layout.room, self.doc_stride, 0)
        holds = (answer[entry, 0] >= start) & (answer[entry, 1] < end)
        paired = np.zeros(len(entry), dtype=bool)  # with the window of the other mixed form
        paired[np.unique(np.where(holds, entry, -1), return_index=True)[1]] = True
        paired &= holds & (first != second)[entry]
        order = np.lexsort((np.arange(len(entry)), ~paired, mixture.group[entry]))
        entry, start, end, kept, holds, paired = (part[order] for part in (entry, start, end, kept, holds, paired))
        self.group = np.cumsum(~paired | (np.diff(mixture.group[entry], prepend=-1) != 0)) - 1
        self.sizes = kept + end - start + self.layout.specials
        self._first, self._first_row = first[entry], first_row[entry]
        self._second, self._second_row = second[entry], second_row[entry]
        self._kept, self._start, self._end = kept, start, end
        # Positions in the window; -1 where it does not hold the answer.
        self._answer = np.where(holds[:, None], answer[entry] - start[:, None], -1)
        self.language = self._second if self.by_language else None

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
        """Say where a window comes from: rows of question and context, counted from 1, and its tokens."""
        sides = zip((self._first, self._second), (self._first_row, self._second_row), strict=True)
        question, context = (f"{self.corpora[of[index]].language} row {row[index] + 1}" for of, row in sides)
        both = question if question == context else f"question {question}, context {context}"
        return f"{both} WordPieces {self._start[index] + 1}-{self._end[index]}"

    def collater(self, samples: list[dict]) -> dict:
        """Batch N windows: ``target`` (N, 2), the positions of the answer's first and last token in the sequence.

        ``choices`` (T,) says whether an answer can begin or end at a token: in the context, and at [CLS] for no answer.
        """
        batch = super().collater(samples)
        return batch and batch | {"choices": torch.cat([s["choices"] for s in samples])}
