"""What fine-tuning tasks share: languages to train on, code-switching, what validation tells of each language."""

import logging
from abc import abstractmethod
from dataclasses import dataclass, field

from fairseq.dataclass import ChoiceEnum
from fairseq.logging import metrics
from omegaconf import MISSING

from ppa_fairseq.data.code_switching import ENGLISH, CodeSwitch
from ppa_fairseq.data.dictionary import WordPieceDictionary
from ppa_fairseq.fairseq_compat.arguments import refuse_lone_ranks
from ppa_fairseq.tasks._encoder_task import TRAIN, EncoderTask, EncoderTaskConfig
from ppa_fairseq.utils.errors import InputError

logger = logging.getLogger(__name__)
AVERAGE = "avg"


@dataclass
class FinetuningConfig(EncoderTaskConfig):
    data: str = field(default=MISSING, metadata={"help": "data-bin folder, with a folder for each language"})
    train_langs: str = field(
        default=ENGLISH, metadata={"help": "languages to train on: en is zero-shot, en,fr,… is translate-train"}
    )
    code_switch: bool = field(
        default=False, metadata={"help": "non-English examples also come mixed with their English original"}
    )
    code_switch_prob: float = field(
        default=1.0, metadata={"help": "share of the non-English examples that do, drawn anew every epoch"}
    )
    code_switch_english: ChoiceEnum(["both", "first", "second"]) = field(
        default="both",
        metadata={"help": "the half that is English: the first (premise, question), the second, or one form of each"},
    )


class FinetuningTask(EncoderTask):
    """Trains on some languages and validates on each.

    The validation split ``valid`` is all languages together, in batches of one language; ``valid.fr`` is one alone.
    --best-checkpoint-metric can name the ``accuracy_fr``, … of the first subset's languages, and of ``valid`` also
    ``accuracy_avg``, their mean.
    """

    metrics: tuple[str, ...]  # what else a validation tells
    same_on_resume = ("train_langs", "code_switch")
    parts_of_loss = ("fine-tuning",)
    more_metrics = " (--valid-subset valid has all languages and their average)"

    def __init__(self, cfg: FinetuningConfig, dictionary: WordPieceDictionary, languages: list[str]):
        super().__init__(cfg, dictionary)
        self.languages = languages  # all that the data folder has
        self.train_langs = cfg.train_langs.split(",")
        self._accuracy: dict[str, dict[str, float]] = {}  # of this validation so far: by split, by name
        self._chosen_by: float | None = None  # what the first subset told of --best-checkpoint-metric
        self._split = ""  # that a validation is on, without its language
        english = {"both": (True, True), "first": (True, False), "second": (False, True)}[str(cfg.code_switch_english)]
        self.switch = CodeSwitch(cfg.code_switch_prob, *english) if cfg.code_switch else None

    @staticmethod
    def check_languages(cfg: FinetuningConfig, train: list[str]) -> None:
        """Raise InputError unless the training data, in *train*, has what the flags ask for."""
        wanted = cfg.train_langs.split(",")
        if cfg.code_switch and wanted == [ENGLISH]:
            raise InputError("--code-switch mixes other languages with English: name them, --train-langs en,fr,…")
        if not cfg.code_switch and (cfg.code_switch_prob != 1 or str(cfg.code_switch_english) != "both"):
            raise InputError("--code-switch-prob and --code-switch-english do nothing without --code-switch")
        if not 0 < cfg.code_switch_prob <= 1:
            raise InputError(f"--code-switch-prob {cfg.code_switch_prob} must be over 0 and at most 1")
        for language in [*wanted, ENGLISH] if cfg.code_switch else wanted:
            if language not in train:
                raise InputError(
                    f"{cfg.data}: no training data in {language!r}; there is "
                    f"{', '.join(train) or 'none at all'} (--train-langs)"
                )

    @abstractmethod
    def load_split(self, split: str, languages: list[str], training: bool):
        """The dataset of *split*, of these *languages*; for *training* with code-switching if that is on."""

    @abstractmethod
    def languages_of(self, split: str) -> list[str]:
        """The languages that the data folder holds *split* of."""

    def load_dataset(self, split: str, **kwargs) -> None:
        """Open a split: ``train``, ``valid`` (and what else was prepared) in all languages, or ``valid.fr`` in one."""
        training = split == TRAIN
        if training:
            refuse_lone_ranks()
        name, _, language = split.partition(".")
        present = self.languages_of(name)
        if not present or language and language not in present:
            there_is = f" in {language!r}, but in {', '.join(present)}" if present else ""
            advice = "" if training else ", take another --valid-subset, or train with --disable-validation"
            raise InputError(f"{self.cfg.data}: no {name} data{there_is}; prepare some{advice}")
        languages = self.train_langs if training else [language] if language else present
        self.datasets[split] = self.load_split(name, languages, training)
        size, named = len(self.datasets[split]), ", ".join(languages)
        logger.info(f"{split}: {size:,} sequences in {named}{' and mixed' if training and self.switch else ''}")

    def metrics_of(self, split: str) -> list[str]:
        name, _, language = split.partition(".")
        if language:
            return [f"accuracy_{language}", *self.metrics]
        return [*(f"accuracy_{one}" for one in (*self.languages_of(name), AVERAGE)), *self.metrics]

    def filter_indices_by_size(self, indices, dataset, max_positions=None, ignore_invalid_inputs=False):
        """Nothing is left out: --max-length cuts what is long. Raises InputError where that is too long itself."""
        if max_positions is not None and (longest := int(dataset.sizes.max())) > max_positions:
            raise InputError(
                f"a sequence of {longest} tokens is over the {max_positions} that the encoder or --max-tokens takes: "
                "set --max-length to fewer, or --max-tokens to more"
            )
        return indices

    def get_batch_iterator(self, dataset, *args, **kwargs):
        self._split = next((name for name, one in self.datasets.items() if one is dataset), "").partition(".")[0]
        return super().get_batch_iterator(dataset, *args, **kwargs)

    def train_step(self, sample, model, criterion, optimizer, update_num, ignore_grad=False):
        loss, sample_size, logged = super().train_step(sample, model, criterion, optimizer, update_num, ignore_grad)
        lengths = sample["net_input"]["lengths"]
        logged["slots"] = 0 if ignore_grad else max(lengths) * len(lengths)
        return loss, sample_size, logged

    def begin_valid_epoch(self, epoch, model) -> None:
        self._accuracy, self._chosen_by = {}, None

    def valid_step(self, sample, model, criterion):
        loss, sample_size, logged = super().valid_step(sample, model, criterion)
        here = int(sample["language"][0])  # a validation batch is of one language
        for number in range(len(self.languages)):  # the same names on all ranks, or fairseq cannot sum them
            logged[f"ncorrect_{number}"] = logged["ncorrect"] * (number == here)
            logged[f"nexamples_{number}"] = logged["nsentences"] * (number == here)
        return loss, sample_size, logged

    def reduce_metrics(self, logging_outputs, criterion) -> None:
        super().reduce_metrics(logging_outputs, criterion)

        def total(name):
            return sum(log.get(name, 0) for log in logging_outputs)

        if slots := total("slots"):
            metrics.log_scalar("padding", 100 * (1 - total("ntokens") / slots), slots, round=1)
        for number, language in enumerate(self.languages):
            if count := total(f"nexamples_{number}"):
                metrics.log_scalar(f"accuracy_{language}", 100.0 * total(f"ncorrect_{number}") / count, count, round=2)
                metrics.log_derived(f"accuracy_{AVERAGE}", self._mean_accuracy)

    def _mean_accuracy(self, meters) -> float:
        by_language = [meters[name].avg for name in self._names() if name in meters]
        return round(float(sum(by_language)) / len(by_language), 2)

    def _names(self) -> list[str]:
        return [f"accuracy_{language}" for language in self.languages]

    def post_validate(self, model, stats, agg) -> None:
        """Let subsets of one language (``valid.en,valid.fr``) tell what those before them told, and the average so far.

        fairseq looks for --best-checkpoint-metric in every subset: one that lacks it gets the first one's.
        """
        so_far = self._accuracy.setdefault(self._split, {})
        so_far |= {name: stats[name] for name in self._names() if name in stats}
        stats.update(so_far)
        stats[f"accuracy_{AVERAGE}"] = round(float(sum(so_far.values())) / len(so_far), 2)
        if self._chosen_by is None:
            self._chosen_by = stats[self.cfg.best_checkpoint_metric]
        stats.setdefault(self.cfg.best_checkpoint_metric, self._chosen_by)
