"""The base of all tasks: the encoder's vocabulary, where a model starts, its batches, resume."""

import logging
import os
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import List, Optional

import torch
from fairseq import utils
from fairseq.data import data_utils
from fairseq.dataclass import FairseqDataclass
from fairseq.tasks import FairseqTask
from omegaconf import II

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.data.bitext.corpora import check_vocabulary
from ppa_fairseq.data.dictionary import WordPieceDictionary
from ppa_fairseq.data.update_iterator import UpdateBatchIterator
from ppa_fairseq.fairseq_compat import resume
from ppa_fairseq.fairseq_compat.arguments import check_device, check_parts, check_values, why_no_gpu
from ppa_fairseq.fairseq_compat.environment import bound_waiting, prepare
from ppa_fairseq.fairseq_compat.optimizers import repair_optimizers
from ppa_fairseq.fairseq_compat.trainer import guarded_optimizer_step, guarded_valid_step, read_at_once
from ppa_fairseq.models._config import take_sizes
from ppa_fairseq.optim import fused_adamw  # noqa: F401  (registers it: fairseq imports only tasks and models)
from ppa_fairseq.utils.errors import InputError

logger = logging.getLogger(__name__)
TRAIN = "train"  # the split
ITERATOR_SETTINGS = (
    "seed",
    "num_shards",
    "shard_id",
    "num_workers",
    "epoch",
    "skip_remainder_batch",
    "grouped_shuffling",
)


@dataclass
class EncoderTaskConfig(FairseqDataclass):
    seed: int = II("common.seed")
    update_freq: List[int] = II("optimization.update_freq")
    max_update: int = II("optimization.max_update")
    stop_time_hours: float = II("optimization.stop_time_hours")
    patience: int = II("checkpoint.patience")
    save_dir: str = II("checkpoint.save_dir")
    restore_file: str = II("checkpoint.restore_file")
    continue_once: Optional[str] = II("checkpoint.continue_once")
    finetune_from_model: Optional[str] = II("checkpoint.finetune_from_model")
    checkpoint_suffix: str = II("checkpoint.checkpoint_suffix")
    no_last_checkpoints: bool = II("checkpoint.no_last_checkpoints")
    best_checkpoint_metric: str = II("checkpoint.best_checkpoint_metric")
    valid_subset: str = II("dataset.valid_subset")
    reset_optimizer: bool = II("checkpoint.reset_optimizer")
    heartbeat_timeout: int = II("distributed_training.heartbeat_timeout")
    ddp_backend: str = II("distributed_training.ddp_backend")
    zero_sharding: str = II("distributed_training.zero_sharding")
    cpu: bool = II("common.cpu")
    fp16: bool = II("common.fp16")
    fp16_no_flatten_grads: bool = II("common.fp16_no_flatten_grads")
    memory_efficient_fp16: bool = II("common.memory_efficient_fp16")
    bf16: bool = II("common.bf16")
    memory_efficient_bf16: bool = II("common.memory_efficient_bf16")
    amp: bool = II("common.amp")
    deterministic: bool = field(
        default=False,
        metadata={
            "help": "on a GPU, take only kernels that add in a fixed order: in fp32 and with --amp, a resumed training "
            "then ends bit for bit where an uninterrupted one does; slower"
        },
    )
    log_interval: int = II("common.log_interval")


class EncoderTask(FairseqTask):
    """A task on a pretrained encoder.

    Attributes:
        same_on_resume: fields of the config that must not change when a training resumes.
        add_update_totals: a function that writes into the batches of one update, those of this rank, what they need
            from the whole update.
        metrics_hint: end of the message on a metric that validation does not log.
    """

    same_on_resume: tuple[str, ...] = ()
    add_update_totals = None
    metrics_hint = ""

    def __init__(self, cfg: EncoderTaskConfig, dictionary: WordPieceDictionary):
        check_values(cfg)
        super().__init__(cfg)
        self.dictionary = dictionary

    @classmethod
    def add_args(cls, parser) -> None:
        """Add the task's flags. This is the first call of fairseq to the task of a command line."""
        prepare()
        super().add_args(parser)

    @classmethod
    def setup_task(cls, cfg: EncoderTaskConfig, **kwargs) -> "EncoderTask":
        prepare()
        repair_optimizers()
        return cls.open_data(cfg)

    @classmethod
    @abstractmethod
    def open_data(cls, cfg: EncoderTaskConfig) -> "EncoderTask":
        """Look at the data folder and make the task. Raises InputError if the folder does not have what *cfg* names."""

    @abstractmethod
    def metrics_of(self, split: str) -> list[str]:
        """Names of what a validation on *split*, once loaded, logs: --best-checkpoint-metric can be one of them."""

    def begin_epoch(self, epoch, model) -> None:
        """Refuse a split or a metric that fairseq would miss only at the end of the epoch."""
        if TRAIN not in self.datasets:
            raise InputError(f"--train-subset: this task trains only on the split {TRAIN!r}; omit the flag")
        split, metric = self.cfg.valid_subset.split(",")[0], self.cfg.best_checkpoint_metric
        if split in self.datasets and metric not in (names := self.metrics_of(split)):  # else there is no validation
            raise InputError(
                f"--best-checkpoint-metric {metric}: {split}, the first split of --valid-subset, logs "
                f"{', '.join(names)}; choose one of these{self.metrics_hint}"
            )

    @classmethod
    def load_dictionary(cls, filename: str) -> WordPieceDictionary:
        """Read the dict.txt of `ppa import-hf` for `fairseq-preprocess --srcdict`. Ids stay the vocabulary's."""
        prepare()
        return WordPieceDictionary.load(filename)

    @classmethod
    def build_dictionary(cls, filenames, **kwargs):
        raise InputError("the base model has a fixed vocabulary: name its dict.txt by --srcdict and --tgtdict")

    @property
    def source_dictionary(self) -> WordPieceDictionary:
        return self.dictionary

    target_dictionary = source_dictionary

    def build_model(self, cfg, from_checkpoint: bool = False):
        """Build the model. Sizes from --pretrained are written into *cfg*, so that checkpoints are self-contained."""
        if from_checkpoint:
            return super().build_model(cfg, from_checkpoint)
        check_parts(self.cfg._name, arch=cfg._name)
        check_values(cfg)
        if self.cfg.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it at its first product
            torch.use_deterministic_algorithms(True)
            torch.utils.deterministic.fill_uninitialized_memory = False  # a debugging aid that takes time
        check_device(self.cfg)
        if not self.cfg.cpu and not torch.cuda.is_available():
            logger.warning(f"training on the CPU: {why_no_gpu()} (with --cpu this line is not shown)")
        bound_waiting(self.cfg.heartbeat_timeout)
        resume.prepare(self.cfg, cfg, self.same_on_resume)
        if not cfg.pretrained:
            logger.warning("no --pretrained: the encoder starts from random weights, and checkpoints have no tokenizer")
            return super().build_model(cfg)
        source = f"--pretrained {cfg.pretrained}"
        pretrained = checkpoint.read(cfg.pretrained, transformers=(cfg._name or "").startswith("ppa_transformers"))
        check_vocabulary(self.dictionary, pretrained.tokenizer, source)
        self.state.merge_state_dict(checkpoint.task_state(pretrained))
        take_sizes(cfg, pretrained, source)
        model = super().build_model(cfg)
        model.start_from(pretrained)
        return model

    def build_criterion(self, cfg, from_checkpoint: bool = False):
        check_parts(self.cfg._name, criterion=cfg._name)
        check_values(cfg)
        return super().build_criterion(cfg, from_checkpoint)

    def get_checkpoint_dict(self) -> dict:
        """Add what fairseq itself does not save; fairseq returns what is under the class's name on resume."""
        return resume.extra_state(type(self).__name__)

    def set_checkpoint_dict(self, state: dict) -> None:
        resume.restore_extra_state(state)

    def get_batch_iterator(
        self, dataset, max_tokens=None, max_sentences=None, max_positions=None, ignore_invalid_inputs=False, **settings
    ) -> UpdateBatchIterator:
        """fairseq's iterator, with new batches for each epoch and one look ahead per update."""
        dataset.set_epoch(settings.get("epoch", 1))
        training = dataset is self.datasets.get(TRAIN)
        longest = utils.resolve_max_positions(max_positions, max_tokens)  # fairseq-validate leaves --max-tokens out

        def make_batches(dataset, epoch):
            with data_utils.numpy_seed(settings.get("seed", 1) + epoch):
                indices = dataset.ordered_indices()
            indices = self.filter_indices_by_size(indices, dataset, longest, ignore_invalid_inputs)
            # Without --required-batch-size-multiple: fairseq drops the last items over a multiple, and packed batches
            # gain nothing from it.
            batches = dataset.batch_by_size(indices, max_tokens=max_tokens, max_sentences=max_sentences)
            if training:
                ranks = settings.get("num_shards", 1)
                self.check_update_size(max(map(len, batches)) * max(self.cfg.update_freq) * ranks)
            return batches

        return UpdateBatchIterator(
            dataset=dataset,
            collate_fn=dataset.collater,
            batch_sampler=make_batches,
            buffer_size=settings.get("data_buffer_size", 0),
            persistent_workers=False,  # those of one epoch would keep its masks
            update_freq=list(self.cfg.update_freq) if training else [1],
            add_totals=self.add_update_totals if training else None,
            **{name: value for name, value in settings.items() if name in ITERATOR_SETTINGS},
        )

    def check_update_size(self, items: int) -> None:
        """Raise InputError if an update of so many items is too large."""

    def micro_batches(self, sample: dict, device: str) -> list[dict]:
        """The parts of a batch that the encoder gets one after another."""
        return [sample]

    @guarded_optimizer_step
    def optimizer_step(self, optimizer, model, update_num: int) -> None:
        optimizer.step()

    def reduce_metrics(self, logging_outputs, criterion) -> None:
        if torch.cuda.is_available() and not self.cfg.cpu:
            read_at_once(logging_outputs)
        super().reduce_metrics(logging_outputs, criterion)

    @guarded_valid_step
    def valid_step(self, sample, model, criterion):
        return super().valid_step(sample, model, criterion)
