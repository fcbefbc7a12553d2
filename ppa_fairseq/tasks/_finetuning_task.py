"""The base of the fine-tuning tasks: languages to train on, code-switching, accuracy by language."""

import logging
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

from fairseq.dataclass import ChoiceEnum
from fairseq.logging import metrics
from omegaconf import MISSING

from ppa_fairseq.data.code_switching import ENGLISH, CodeSwitch
from ppa_fairseq.data.dictionary import WordPieceDictionary
from ppa_fairseq.fairseq_compat.arguments import refuse_lone_ranks
from ppa_fairseq.fairseq_compat.trainer import guarded_train_step
from ppa_fairseq.tasks._encoder_task import TRAIN, EncoderTask, EncoderTaskConfig
from ppa_fairseq.utils.errors import InputError

logger = logging.getLogger(__name__)
AVERAGE = "avg"


@dataclass
class FinetuningConfig(EncoderTaskConfig):
    data: str = field(default=MISSING, metadata={"help": "data-bin folder, which has a folder for each language"})
    train_langs: str = field(
        default=ENGLISH, metadata={"help": "languages to train on: en for zero-shot, en,fr,… for translate-train"}
    )
    code_switch: bool = field(
        default=False, metadata={"help": "also train on non-English examples with one half in English"}
    )
    code_switch_prob: float = field(
        default=1.0, metadata={"help": "share of the non-English examples to mix, drawn again every epoch"}
    )
    code_switch_english: ChoiceEnum(["both", "first", "second"]) = field(
        default="both",
        metadata={"help": "the half in English: the first (premise, question), the second, or one mixed form of each"},
    )


class FinetuningTask(EncoderTask):
    """Train on some languages and validate on each.

    The split ``valid`` has all languages, in batches of one language; ``valid.fr`` has only French.
    --best-checkpoint-metric can be ``accuracy_fr``, … for the languages of the first subset, and with ``valid`` also
    ``accuracy_avg``, their mean.
    """

    metrics: tuple[str, ...]  # what else a validation logs
    find_languages: Callable[[str, str], list[str]]  # data folder, split -> languages of the split there
    same_on_resume = ("train_langs", "code_switch", "train_layers", "freeze_embeddings", "lora_alpha")
    metrics_hint = ", or set --valid-subset valid for all languages and their average"

    def __init__(self, cfg: FinetuningConfig, dictionary: WordPieceDictionary, languages: list[str]):
        super().__init__(cfg, dictionary)
        self.languages = languages  # all languages of the data folder
        self.train_langs = cfg.train_langs.split(",")
        self._best_metric: float | None = None  # value of --best-checkpoint-metric on the first subset
        english = {"both": (True, True), "first": (True, False), "second": (False, True)}[str(cfg.code_switch_english)]
        self.switch = CodeSwitch(cfg.code_switch_prob, *english) if cfg.code_switch else None

    @classmethod
    def languages_in(cls, cfg: FinetuningConfig, splits: tuple[str, ...], advice: str) -> list[str]:
        """All languages of the data folder's *splits*. Raises InputError if it lacks training data that flags name."""
        train = cls.find_languages(cfg.data, TRAIN)
        if train:  # a folder for `fairseq-validate` may have no training data
            cls.check_languages(cfg, train)
        languages = sorted({language for split in splits for language in cls.find_languages(cfg.data, split)})
        if not languages:
            raise InputError(f"{cfg.data}: {advice}")
        return languages

    @staticmethod
    def check_languages(cfg: FinetuningConfig, train: list[str]) -> None:
        """Raise InputError unless the languages of the training data, *train*, include those that the flags name."""
        languages = cfg.train_langs.split(",")
        if cfg.code_switch and languages == [ENGLISH]:
            raise InputError("--code-switch mixes other languages with English; name some, as --train-langs en,fr,…")
        if not cfg.code_switch and (cfg.code_switch_prob != 1 or str(cfg.code_switch_english) != "both"):
            raise InputError("--code-switch-prob and --code-switch-english need --code-switch; add it or omit them")
        if not 0 < cfg.code_switch_prob <= 1:
            raise InputError(f"--code-switch-prob {cfg.code_switch_prob} must be over 0 and at most 1")
        for language in [*languages, ENGLISH] if cfg.code_switch else languages:
            if language not in train:
                raise InputError(
                    f"{cfg.data}: no training data in {language!r}, only in {', '.join(train) or 'none'}; prepare "
                    "it, or change --train-langs"
                )

    @abstractmethod
    def load_split(self, split: str, languages: list[str], switch: CodeSwitch | None):
        """The corpora of *split*, a list by language: English first if *switch* mixes them."""

    @abstractmethod
    def make_dataset(self, corpora: list, numbers: list[int], languages: list[str], **settings):
        """The dataset of examples in *languages* from *corpora*, whose languages have these *numbers* in batches."""

    def load_dataset(self, split: str, **kwargs) -> None:
        """Open a split: ``train``, ``valid`` or another prepared one in all languages, or ``valid.fr`` in one."""
        training = split == TRAIN
        if training:
            refuse_lone_ranks()
        name, _, language = split.partition(".")
        present = self.find_languages(self.cfg.data, name)
        if not present or language and language not in present:
            available = f" in {language!r}, only in {', '.join(present)}" if present else ""
            advice = "" if training else ", set another --valid-subset, or train with --disable-validation"
            raise InputError(f"{self.cfg.data}: no {name} data{available}; prepare some{advice}")
        languages = self.train_langs if training else [language] if language else present
        switch = self.switch if training else None
        opened = [ENGLISH, *(language for language in languages if language != ENGLISH)] if switch else languages
        corpora = self.load_split(name, opened, switch)
        numbers = [self.languages.index(corpus.language) for corpus in corpora]
        settings = {"seed": self.cfg.seed, "switch": switch, "by_language": not training}
        self.datasets[split] = self.make_dataset(corpora, numbers, languages, **settings)
        size, named = len(self.datasets[split]), ", ".join(languages)
        logger.info(f"{split}: {size:,} sequences in {named}{' and mixed' if switch else ''}")

    def metrics_of(self, split: str) -> list[str]:
        name, _, language = split.partition(".")
        if language:
            return [f"accuracy_{language}", *self.metrics]
        return [*(f"accuracy_{one}" for one in (*self.find_languages(self.cfg.data, name), AVERAGE)), *self.metrics]

    def filter_indices_by_size(self, indices, dataset, max_positions=None, ignore_invalid_inputs=False):
        """Keep all: --max-length has cut what is long. Raises InputError if --max-length itself is too long."""
        if max_positions is not None and (longest := int(dataset.sizes.max())) > max_positions:
            raise InputError(
                f"a sequence of {longest} tokens is over {max_positions}, the limit of the encoder or of --max-tokens; "
                "decrease --max-length, or increase --max-tokens"
            )
        return indices

    @guarded_train_step
    def train_step(self, sample, model, criterion, optimizer):
        loss, examples, logged = criterion(model, sample)
        optimizer.backward(loss)
        lengths = sample["net_input"]["lengths"]
        return loss, examples, logged | {"padded_tokens": max(lengths) * len(lengths)}

    def begin_valid_epoch(self, epoch, model) -> None:
        self._best_metric = None

    def valid_step(self, sample, model, criterion):
        loss, sample_size, logged = super().valid_step(sample, model, criterion)
        here = int(sample["language"][0])  # a validation batch is of one language
        for number in range(len(self.languages)):  # fairseq sums over ranks only what all of them name
            logged[f"ncorrect_{number}"] = logged["ncorrect"] * (number == here)
            logged[f"nexamples_{number}"] = logged["sample_size"] * (number == here)
        return loss, sample_size, logged

    def reduce_metrics(self, logging_outputs, criterion) -> None:
        super().reduce_metrics(logging_outputs, criterion)

        def total(name):
            return sum(log.get(name, 0) for log in logging_outputs)

        if padded_tokens := total("padded_tokens"):
            metrics.log_scalar("padding", 100 * (1 - total("ntokens") / padded_tokens), padded_tokens, round=1)
        for number, language in enumerate(self.languages):
            if count := total(f"nexamples_{number}"):
                metrics.log_scalar(f"accuracy_{language}", 100.0 * total(f"ncorrect_{number}") / count, count, round=2)
                metrics.log_derived(f"accuracy_{AVERAGE}", self._mean_accuracy)

    def _mean_accuracy(self, meters) -> float:
        names = [f"accuracy_{language}" for language in self.languages]
        by_language = [meters[name].avg for name in names if name in meters]
        return round(float(sum(by_language)) / len(by_language), 2)

    def post_validate(self, model, stats, agg) -> None:
        """Give --best-checkpoint-metric of the first subset to the others, in which fairseq looks for it, too."""
        if self._best_metric is None:
            self._best_metric = stats[self.cfg.best_checkpoint_metric]
        stats.setdefault(self.cfg.best_checkpoint_metric, self._best_metric)
