"""The task `ppa_tagging`: fine-tuning to tag words: parts of speech, names; the data has the tags."""

import logging
from dataclasses import dataclass, field

import numpy as np
from fairseq.data import Dictionary
from fairseq.tasks import register_task

from ppa_fairseq.criterions import tag_prediction  # noqa: F401  (registers it: fairseq imports only tasks and models)
from ppa_fairseq.data.classification.corpora import label_names
from ppa_fairseq.data.tagging.dataset import TaggingDataset, load_tagging
from ppa_fairseq.tasks.ppa_classification import ClassificationConfig, ClassificationTask

logger = logging.getLogger(__name__)


@dataclass
class TaggingConfig(ClassificationConfig):
    max_length: int = field(
        default=512, metadata={"help": "tokens of a sentence, with special tokens; what is over it is cut off"}
    )


@register_task("ppa_tagging", dataclass=TaggingConfig)
class TaggingTask(ClassificationTask):
    """[CLS] sentence [SEP] -> a tag for each word, at its first token. The criterion is `tag_prediction`.

    ``accuracy`` in validation counts words. `ppa evaluate-tagging` also measures F1 of entities.
    """

    metrics = ("accuracy", "loss")
    how_to_prepare = "`ppa prepare-tagging` and `ppa binarize`"

    @staticmethod
    def names_of(labels: Dictionary) -> list[str]:
        return label_names(labels)[1:]  # without that of a token without a tag

    def load_split(self, split: str, languages: list[str], switch) -> list:
        corpora = load_tagging(self.cfg.data, split, languages, self.label_dictionary, self.dictionary)
        for corpus in corpora:
            longest = self.cfg.max_length - 1  # of tokens with [SEP]
            if cut := int(np.count_nonzero(corpus.sentences[0].sizes > longest)):
                logger.warning(f"{split} {corpus.language}: {cut:,} sentences are cut to --max-length")
        return corpora

    def make_dataset(self, corpora: list, numbers: list[int], languages: list[str], **settings):
        return TaggingDataset(corpora, numbers, languages, self.layout, **settings)
