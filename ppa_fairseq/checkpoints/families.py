"""The two families of encoders, BERT and XLM-RoBERTa, and how their inputs differ."""

from collections.abc import Container
from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """Special symbols of a family, and how it lays two sentences into one sequence."""

    name: str
    bos: str
    pad: str
    eos: str
    unk: str
    mask: str
    doubled_eos: bool  # whether a second eos stands between two sentences
    second_type: int  # token type of the second sentence
    position_offset: int  # row of the position table that a sequence's first token takes

    @property
    def specials(self) -> tuple[str, ...]:
        return self.bos, self.pad, self.eos, self.unk, self.mask

    def missing(self, vocabulary: Container[str]) -> list[str]:
        """The specials that *vocabulary* does not have."""
        return [special for special in self.specials if special not in vocabulary]


BERT = Family("BERT", "[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]", False, second_type=1, position_offset=0)
# Its position table keeps the rows up to the padding id, 1, for padding.
XLM_ROBERTA = Family("XLM-RoBERTa", "<s>", "<pad>", "</s>", "<unk>", "<mask>", True, second_type=0, position_offset=2)


def family_of(vocabulary: Container[str]) -> Family:
    """The family whose specials *vocabulary* has; of an incomplete one, the nearest, for a message."""
    return min((BERT, XLM_ROBERTA), key=lambda family: len(family.missing(vocabulary)))
