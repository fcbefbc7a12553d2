"""The task `xnli_codeswitch`: fine-tuning for natural language inference (Pan et al. 2021, on XNLI)."""

import logging
from dataclasses import dataclass, field

from fairseq.data import Dictionary
from fairseq.tasks import register_task

from ppa_fairseq.data.dictionary import WordPieceDictionary
from ppa_fairseq.data.nli.corpora import check_parallel, find_languages, load_dictionaries, load_nli
from ppa_fairseq.data.nli.dataset import NLIDataset
from ppa_fairseq.data.sentence_pairs import PairLayout
from ppa_fairseq.models import finetuned  # noqa: F401  (registers the model)
from ppa_fairseq.tasks._finetuning_task import FinetuningConfig, FinetuningTask
from ppa_fairseq.utils.errors import InputError

logger = logging.getLogger(__name__)
SHORTEST = 8  # --max-length: the special tokens, and one or two of each sentence


@dataclass
class XNLICodeswitchConfig(FinetuningConfig):
    max_length: int = field(
        default=128, metadata={"help": "tokens of a sequence, with special tokens; the longer sentence is cut first"}
    )


@register_task("xnli_codeswitch", dataclass=XNLICodeswitchConfig)
class XNLICodeswitchTask(FinetuningTask):
    """[CLS] premise [SEP] hypothesis [SEP] -> a label. The criterion is fairseq's `sentence_prediction`."""

    metrics = ("accuracy", "loss", "nll_loss")
    find_languages = staticmethod(find_languages)

    def __init__(self, cfg: XNLICodeswitchConfig, dictionary: WordPieceDictionary, labels: Dictionary, languages):
        super().__init__(cfg, dictionary, languages)
        self.label_dictionary = labels
        self.labels = labels.symbols[labels.nspecial :]
        self.state.merge_state_dict({"labels": self.labels})
        self.layout = PairLayout(dictionary, cfg.max_length)

    @classmethod
    def open_data(cls, cfg: XNLICodeswitchConfig) -> "XNLICodeswitchTask":
        advice = "no LANGUAGE/input0/train.idx; prepare it with scripts/prepare_xnli.sh"
        languages = cls.languages_in(cfg, ("train", "valid", "test"), advice)
        if cfg.max_length < SHORTEST:
            raise InputError(f"--max-length {cfg.max_length} must be at least {SHORTEST}")
        dictionary, labels = load_dictionaries(cfg.data, languages)
        logger.info(
            f"{', '.join(languages)}: {len(dictionary):,} vocabulary entries, {len(labels) - labels.nspecial} labels"
        )
        return cls(cfg, dictionary, labels, languages)

    def load_split(self, split: str, languages: list[str], switch) -> list:
        corpora = load_nli(self.cfg.data, split, languages, self.label_dictionary, self.dictionary)
        if switch:
            check_parallel(corpora, self.cfg.data, split)
        return corpora

    def make_dataset(self, corpora: list, numbers: list[int], languages: list[str], **settings) -> NLIDataset:
        return NLIDataset(corpora, numbers, languages, self.layout, **settings)
