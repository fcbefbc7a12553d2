"""The task `mlqa_codeswitch`: fine-tuning for extractive question answering (Pan et al. 2021, on MLQA)."""

import logging
from dataclasses import dataclass, field
from typing import Optional

import numpy as np
from fairseq.tasks import register_task

from ppa_fairseq.criterions import span_prediction  # noqa: F401  (registers it: fairseq imports only tasks and models)
from ppa_fairseq.data.code_switching import ENGLISH
from ppa_fairseq.data.dictionary import WordPieceDictionary
from ppa_fairseq.data.qa.corpora import HOW_TO_PREPARE, find_languages, load_dictionary, load_qa, window_sizes
from ppa_fairseq.data.qa.dataset import QADataset
from ppa_fairseq.data.qa.windows import check_window_sizes
from ppa_fairseq.data.sentence_pairs import PairLayout
from ppa_fairseq.models import finetuned  # noqa: F401  (registers the model)
from ppa_fairseq.tasks._finetuning_task import FinetuningConfig, FinetuningTask
from ppa_fairseq.utils.errors import InputError

logger = logging.getLogger(__name__)


@dataclass
class MLQACodeswitchConfig(FinetuningConfig):
    max_length: Optional[int] = field(
        default=None, metadata={"help": "tokens of question and window, with special tokens (default: as prepared)"}
    )
    doc_stride: Optional[int] = field(
        default=None, metadata={"help": "tokens that consecutive windows share (default: as prepared)"}
    )


@register_task("mlqa_codeswitch", dataclass=MLQACodeswitchConfig)
class MLQACodeswitchTask(FinetuningTask):
    """[CLS] question [SEP] window of the context [SEP] -> the answer's first and last token.

    ``accuracy`` in validation is the share of windows in which both are right. `ppa evaluate-qa` measures F1 over whole
    contexts and all language pairs.
    """

    metrics = ("accuracy", "loss")
    find_languages = staticmethod(find_languages)

    def __init__(self, cfg: MLQACodeswitchConfig, dictionary: WordPieceDictionary, languages: list[str]):
        super().__init__(cfg, dictionary, languages)
        self.layout = PairLayout(dictionary, cfg.max_length)
        check_window_sizes(cfg.max_length, cfg.doc_stride, self.layout.specials)

    @classmethod
    def open_data(cls, cfg: MLQACodeswitchConfig) -> "MLQACodeswitchTask":
        languages = cls.languages_in(cfg, ("train", "valid"), f"no LANGUAGE/train.question.idx; {HOW_TO_PREPARE}")
        max_length, doc_stride = window_sizes(cfg.data)
        cfg.max_length = max_length if cfg.max_length is None else cfg.max_length
        cfg.doc_stride = doc_stride if cfg.doc_stride is None else cfg.doc_stride
        dictionary = load_dictionary(cfg.data)
        logger.info(
            f"{', '.join(languages)}: {len(dictionary):,} vocabulary entries, windows of {cfg.max_length} tokens"
        )
        return cls(cfg, dictionary, languages)

    def load_split(self, split: str, languages: list[str], switch) -> list:
        corpora = load_qa(self.cfg.data, split, languages, self.dictionary)
        for corpus in corpora[1:] if switch else []:
            shared = np.isin(corpus.number, corpora[0].number).mean()
            if not shared:
                raise InputError(
                    f"{self.cfg.data}: no question in {corpus.language} has the id of a question in {ENGLISH}, so none "
                    "can be mixed; give translations the ids of their originals, or omit --code-switch"
                )
            logger.info(f"{corpus.language}: {shared:.0%} of the questions have an English original")
        return corpora

    def make_dataset(self, corpora: list, numbers: list[int], languages: list[str], **settings) -> QADataset:
        return QADataset(corpora, numbers, languages, self.layout, self.cfg.doc_stride, **settings)
