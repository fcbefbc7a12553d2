"""The task `mlqa_codeswitch`: extractive question answering across languages (Pan et al. 2021)."""

import logging
from dataclasses import dataclass, field
from typing import Optional

import numpy as np
from fairseq.tasks import register_task

from ppa_fairseq.criterions.span_prediction import SpanPredictionCriterion
from ppa_fairseq.data.code_switching import ENGLISH
from ppa_fairseq.data.dictionary import WordPieceDictionary
from ppa_fairseq.data.qa.corpora import HOW_TO_PREPARE, find_languages, load_dictionary, load_qa, window_sizes
from ppa_fairseq.data.qa.dataset import QADataset
from ppa_fairseq.data.qa.windows import check_window_sizes
from ppa_fairseq.data.sentence_pairs import PairLayout
from ppa_fairseq.fairseq_compat.environment import prepare
from ppa_fairseq.models.finetuned import PPAReader
from ppa_fairseq.tasks._finetuning_task import FinetuningConfig, FinetuningTask
from ppa_fairseq.utils.errors import InputError

logger = logging.getLogger(__name__)


@dataclass
class MLQACodeswitchConfig(FinetuningConfig):
    max_length: Optional[int] = field(
        default=None, metadata={"help": "tokens of question and window, specials included (default: as prepared)"}
    )
    doc_stride: Optional[int] = field(
        default=None, metadata={"help": "WordPieces that consecutive windows share (default: as prepared)"}
    )


@register_task("mlqa_codeswitch", dataclass=MLQACodeswitchConfig)
class MLQACodeswitchTask(FinetuningTask):
    """[CLS] question [SEP] window of the context [SEP] -> the answer's first and last token.

    ``accuracy`` in validation is the share of windows where both are right; F1 over whole contexts and all language
    pairs is `ppa evaluate-qa`'s.
    """

    metrics = ("accuracy", "loss")

    def __init__(self, cfg: MLQACodeswitchConfig, dictionary: WordPieceDictionary, languages: list[str]):
        super().__init__(cfg, dictionary, languages)
        self.layout = PairLayout(dictionary, cfg.max_length)
        check_window_sizes(cfg.max_length, cfg.doc_stride, self.layout.specials)

    @classmethod
    def setup_task(cls, cfg: MLQACodeswitchConfig, **kwargs) -> "MLQACodeswitchTask":
        prepare()
        train = find_languages(cfg.data, "train")
        languages = sorted({*train, *find_languages(cfg.data, "valid")})
        if train:  # a folder for `fairseq-validate` may have none
            cls.check_languages(cfg, train)
        elif not languages:
            raise InputError(f"{cfg.data}: no LANGUAGE/train.question.idx in it; {HOW_TO_PREPARE}")
        max_length, doc_stride = window_sizes(cfg.data)
        cfg.max_length = max_length if cfg.max_length is None else cfg.max_length
        cfg.doc_stride = doc_stride if cfg.doc_stride is None else cfg.doc_stride
        dictionary = load_dictionary(cfg.data)
        logger.info(f"{', '.join(languages)}: {len(dictionary):,} WordPieces, windows of {cfg.max_length} tokens")
        return cls(cfg, dictionary, languages)

    def languages_of(self, split: str) -> list[str]:
        return find_languages(self.cfg.data, split)

    def load_split(self, split: str, languages: list[str], training: bool) -> QADataset:
        switch = self.switch if training else None
        opened = [ENGLISH, *(language for language in languages if language != ENGLISH)] if switch else languages
        corpora = load_qa(self.cfg.data, split, opened, self.dictionary)
        for corpus in corpora[1:] if switch else []:
            shared = np.isin(corpus.number, corpora[0].number).mean()
            if not shared:
                raise InputError(
                    f"{self.cfg.data}: no question in {corpus.language} has an id of a question in {ENGLISH}, so none "
                    "can be mixed; give translations the ids of their originals, or leave --code-switch out"
                )
            logger.info(f"{corpus.language}: {shared:.0%} of the questions have an English original to be mixed with")
        numbers = [self.languages.index(corpus.language) for corpus in corpora]
        sizes = self.layout, self.cfg.doc_stride, self.cfg.seed
        return QADataset(corpora, numbers, languages, *sizes, switch, by_language=not training)

    def build_model(self, cfg, from_checkpoint: bool = False) -> PPAReader:
        return super().build_model(cfg, from_checkpoint)

    def build_criterion(self, cfg, from_checkpoint: bool = False) -> SpanPredictionCriterion:
        return super().build_criterion(cfg, from_checkpoint)
