"""The task `xnli_codeswitch`: natural language inference across languages (Pan et al. 2021)."""

import logging
from dataclasses import dataclass, field

from fairseq.data import Dictionary
from fairseq.tasks import register_task

from ppa_fairseq.data.code_switching import ENGLISH
from ppa_fairseq.data.dictionary import WordPieceDictionary
from ppa_fairseq.data.nli.corpora import check_parallel, find_languages, load_dictionaries, load_nli
from ppa_fairseq.data.nli.dataset import NLIDataset
from ppa_fairseq.data.sentence_pairs import PairLayout
from ppa_fairseq.fairseq_compat.environment import prepare
from ppa_fairseq.models.finetuned import PPAClassifier
from ppa_fairseq.tasks._finetuning_task import FinetuningConfig, FinetuningTask
from ppa_fairseq.utils.errors import InputError

logger = logging.getLogger(__name__)
SHORTEST = 8  # of --max-length: the specials, and a WordPiece or two of each sentence


@dataclass
class XNLICodeswitchConfig(FinetuningConfig):
    max_length: int = field(
        default=128, metadata={"help": "tokens of a sequence, specials included; the longer sentence is cut first"}
    )


@register_task("xnli_codeswitch", dataclass=XNLICodeswitchConfig)
class XNLICodeswitchTask(FinetuningTask):
    """[CLS] premise [SEP] hypothesis [SEP] -> a label; goes with fairseq's criterion `sentence_prediction`."""

    metrics = ("accuracy", "loss", "nll_loss")

    def __init__(self, cfg: XNLICodeswitchConfig, dictionary: WordPieceDictionary, labels: Dictionary, languages):
        super().__init__(cfg, dictionary, languages)
        self.label_dictionary = labels
        self.labels = labels.symbols[labels.nspecial :]
        self.state.merge_state_dict({"labels": self.labels})
        self.layout = PairLayout(dictionary, cfg.max_length)

    @classmethod
    def setup_task(cls, cfg: XNLICodeswitchConfig, **kwargs) -> "XNLICodeswitchTask":
        prepare()
        train = find_languages(cfg.data, "train")
        languages = sorted({*train, *find_languages(cfg.data, "valid"), *find_languages(cfg.data, "test")})
        if train:  # a folder for `fairseq-validate` may have none
            cls.check_languages(cfg, train)
        elif not languages:
            raise InputError(f"{cfg.data}: no LANGUAGE/input0/train.idx in it; prepare it with scripts/prepare_xnli.sh")
        if cfg.max_length < SHORTEST:
            raise InputError(f"--max-length {cfg.max_length} must be at least {SHORTEST}")
        dictionary, labels = load_dictionaries(cfg.data, languages)
        logger.info(f"{', '.join(languages)}: {len(dictionary):,} WordPieces, {len(labels) - labels.nspecial} labels")
        return cls(cfg, dictionary, labels, languages)

    def languages_of(self, split: str) -> list[str]:
        return find_languages(self.cfg.data, split)

    def load_split(self, split: str, languages: list[str], training: bool) -> NLIDataset:
        switch = self.switch if training else None
        opened = [ENGLISH, *(language for language in languages if language != ENGLISH)] if switch else languages
        corpora = load_nli(self.cfg.data, split, opened, self.label_dictionary, self.dictionary)
        if switch:
            check_parallel(corpora, self.cfg.data, split)
        numbers = [self.languages.index(corpus.language) for corpus in corpora]
        return NLIDataset(corpora, numbers, languages, self.layout, self.cfg.seed, switch, by_language=not training)

    def build_model(self, cfg, from_checkpoint: bool = False) -> PPAClassifier:
        return super().build_model(cfg, from_checkpoint)
