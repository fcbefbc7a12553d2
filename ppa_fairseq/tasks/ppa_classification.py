"""The task `ppa_classification`: fine-tuning to classify sentences or pairs of sentences; the data has the labels."""

import logging
from dataclasses import dataclass, field

from fairseq.data import Dictionary
from fairseq.tasks import register_task

from ppa_fairseq.data.classification.corpora import (
    check_parallel,
    find_fields,
    find_languages,
    label_names,
    load_classification,
    load_dictionaries,
)
from ppa_fairseq.data.classification.dataset import ClassificationDataset
from ppa_fairseq.data.dictionary import WordPieceDictionary
from ppa_fairseq.data.sentence_pairs import PairLayout
from ppa_fairseq.models import finetuned  # noqa: F401  (registers the model)
from ppa_fairseq.tasks._finetuning_task import FinetuningConfig, FinetuningTask
from ppa_fairseq.utils.errors import InputError

logger = logging.getLogger(__name__)
SHORTEST = 8  # --max-length: the special tokens, and one or two of each sentence


@dataclass
class ClassificationConfig(FinetuningConfig):
    max_length: int = field(
        default=128, metadata={"help": "tokens of a sequence, with special tokens; the longer sentence is cut first"}
    )


@register_task("ppa_classification", dataclass=ClassificationConfig)
class ClassificationTask(FinetuningTask):
    """[CLS] sentence [SEP], or [CLS] first [SEP] second [SEP] -> a label.

    The criterion is fairseq's `sentence_prediction`.
    """

    metrics = ("accuracy", "loss", "nll_loss")
    find_languages = staticmethod(find_languages)
    how_to_prepare = "`ppa prepare-classification` and `ppa binarize`"

    def __init__(self, cfg: ClassificationConfig, dictionary: WordPieceDictionary, labels: Dictionary, languages):
        super().__init__(cfg, dictionary, languages)
        self.label_dictionary = labels
        self.labels = self.names_of(labels)
        self.state.merge_state_dict({"labels": self.labels})
        self.fields = find_fields(cfg.data)
        self.layout = PairLayout(dictionary, cfg.max_length, len(self.fields) - 1)
        if cfg.code_switch and len(self.fields) == 2:
            raise InputError(
                f"--code-switch mixes the two sentences of an example, but {cfg.data} has one; omit the flag"
            )

    @classmethod
    def open_data(cls, cfg: ClassificationConfig) -> "ClassificationTask":
        advice = f"no LANGUAGE/input0/train.idx; prepare it with {cls.how_to_prepare}"
        languages = cls.languages_in(cfg, ("train", "valid", "test"), advice)
        if cfg.max_length < SHORTEST:
            raise InputError(f"--max-length {cfg.max_length} must be at least {SHORTEST}")
        dictionary, labels = load_dictionaries(cfg.data, languages, find_fields(cfg.data))
        logger.info(
            f"{', '.join(languages)}: {len(dictionary):,} vocabulary entries, {len(cls.names_of(labels))} labels"
        )
        return cls(cfg, dictionary, labels, languages)

    @staticmethod
    def names_of(labels: Dictionary) -> list[str]:
        """The names of the classes."""
        return label_names(labels)

    def load_split(self, split: str, languages: list[str], switch) -> list:
        arguments = self.fields, self.label_dictionary, self.dictionary
        corpora = load_classification(self.cfg.data, split, languages, *arguments)
        if switch:
            check_parallel(corpora, self.cfg.data, split)
        return corpora

    def make_dataset(self, corpora: list, numbers: list[int], languages: list[str], **settings):
        return ClassificationDataset(corpora, numbers, languages, self.layout, **settings)
