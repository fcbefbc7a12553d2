"""What every task of this plugin shares: the base model's vocabulary, where a model starts from, its batches."""

import logging
from abc import abstractmethod
from dataclasses import dataclass
from typing import List, Optional

import torch
from fairseq import utils
from fairseq.data import data_utils
from fairseq.dataclass import FairseqDataclass
from fairseq.logging import metrics
from fairseq.tasks import FairseqTask
from omegaconf import II

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.data.bitext.corpora import check_vocabulary
from ppa_fairseq.data.dictionary import WordPieceDictionary
from ppa_fairseq.data.update_iterator import UpdateBatchIterator
from ppa_fairseq.fairseq_compat import nonfinite
from ppa_fairseq.fairseq_compat import resume as going_on
from ppa_fairseq.fairseq_compat.arguments import check_parts, check_values
from ppa_fairseq.fairseq_compat.environment import bound_waiting, prepare
from ppa_fairseq.fairseq_compat.trainer import step
from ppa_fairseq.fairseq_compat.write_once import WriteOnce
from ppa_fairseq.models._config import take_sizes
from ppa_fairseq.modules.host_memory import keep_heap_small, return_freed
from ppa_fairseq.optim import fused_adamw  # noqa: F401  (registers it: of --user-dir fairseq imports tasks and models)
from ppa_fairseq.utils.errors import InputError

logger = logging.getLogger(__name__)
TRIM_INTERVAL = 5  # updates
TRAIN = "train"  # the split

keep_heap_small()  # at once: torch looks at its switch when it makes its first tensor, before there is a task


@dataclass
class EncoderTaskConfig(FairseqDataclass):
    seed: int = II("common.seed")
    update_freq: List[int] = II("optimization.update_freq")
    max_update: int = II("optimization.max_update")
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
    num_workers: int = II("dataset.num_workers")
    log_interval: int = II("common.log_interval")


def takes_no_randomness(model, is_dummy: bool):
    """For the step on a dummy batch, which keeps this rank in line with the others.

    Which batch that is changes on resume: so it takes none of the random numbers that are the dropout of the real batch
    after it.
    """
    device = next(model.parameters()).device
    return torch.random.fork_rng([] if device.type == "cpu" else [device], enabled=is_dummy)


class EncoderTask(FairseqTask):
    """A task on a pretrained encoder.

    Attributes:
        same_on_resume: names in the config without whose old values a checkpoint is another training's.
        parts_of_loss: what each item of a batch has a sequence for, part after part.
        more_metrics: for the end of a message: which split tells more of them.
    """

    same_on_resume: tuple[str, ...] = ()
    parts_of_loss: tuple[str, ...]
    more_metrics = ""

    def __init__(self, cfg: EncoderTaskConfig, dictionary: WordPieceDictionary):
        check_values(cfg)
        super().__init__(cfg)
        self.dictionary = dictionary
        self._searched: int | None = None  # the update that is done over to find what is not finite

    @abstractmethod
    def metrics_of(self, split: str) -> list[str]:
        """What a validation on *split*, which is loaded, tells: what --best-checkpoint-metric can name."""

    def begin_epoch(self, epoch, model) -> None:
        """Refuse another split to train on, and a metric that fairseq would look for in vain when the epoch is over."""
        if TRAIN not in self.datasets:
            raise InputError(f"--train-subset: this task trains on the split {TRAIN!r} alone: leave the flag out")
        split, metric = self.cfg.valid_subset.split(",")[0], self.cfg.best_checkpoint_metric
        if split in self.datasets and metric not in (told := self.metrics_of(split)):  # else there is no validation
            raise InputError(
                f"--best-checkpoint-metric {metric}: {split}, the first of --valid-subset, tells {', '.join(told)}"
                f"{self.more_metrics}"
            )

    @classmethod
    def add_args(cls, parser) -> None:
        """Where fairseq first calls the task that a command line names."""
        prepare()
        super().add_args(parser)

    @classmethod
    def load_dictionary(cls, filename: str) -> WordPieceDictionary:
        """What `fairseq-preprocess --srcdict` reads: the dict.txt of `ppa import-hf`, ids as the vocabulary's own."""
        prepare()
        return WordPieceDictionary.load(filename)

    @classmethod
    def build_dictionary(cls, filenames, **kwargs):
        raise InputError("the vocabulary is the base model's: give its dict.txt by --srcdict and --tgtdict")

    @property
    def source_dictionary(self) -> WordPieceDictionary:
        return self.dictionary

    @property
    def target_dictionary(self) -> WordPieceDictionary:
        return self.dictionary

    def build_model(self, cfg, from_checkpoint: bool = False):
        """Build the model; sizes that --pretrained knows are written into *cfg*, so that a checkpoint stands alone."""
        if from_checkpoint:
            return super().build_model(cfg, from_checkpoint)
        check_parts(self.cfg._name, arch=cfg._name)
        check_values(cfg)
        bound_waiting(self.cfg.heartbeat_timeout)
        same = [("task", name, getattr(self.cfg, name)) for name in self.same_on_resume]
        going_on.check(self.cfg, [("model", "pretrained", cfg.pretrained), *same])
        if not cfg.pretrained:
            logger.warning("no --pretrained: the encoder starts from random weights, and checkpoints get no tokenizer")
            return super().build_model(cfg)
        source = f"--pretrained {cfg.pretrained}"
        pretrained = checkpoint.read(cfg.pretrained)
        check_vocabulary(self.dictionary, pretrained.tokenizer, source)
        self.state.merge_state_dict({"tokenizer": pretrained.tokenizer})
        take_sizes(cfg, pretrained, source)
        model = super().build_model(cfg)
        model.start_from(pretrained)
        return model

    def build_criterion(self, cfg, from_checkpoint: bool = False):
        check_parts(self.cfg._name, criterion=cfg._name)
        check_values(cfg)
        return super().build_criterion(cfg, from_checkpoint)

    def get_checkpoint_dict(self) -> dict:
        """What fairseq forgets: on resume at the start of an epoch it drops what was logged since the last line."""
        forgotten = {"train_inner": metrics.get_meters("train_inner").state_dict()}
        return {type(self).__name__: forgotten, "write": WriteOnce()}

    def set_checkpoint_dict(self, state: dict) -> None:
        metrics.load_state_dict(state)

    def get_batch_iterator(
        self,
        dataset,
        max_tokens=None,
        max_sentences=None,
        max_positions=None,
        ignore_invalid_inputs=False,
        required_batch_size_multiple=1,
        seed=1,
        num_shards=1,
        epoch=1,
        data_buffer_size=0,
        disable_iterator_cache=False,
        update_epoch_batch_itr=False,
        **iterator,
    ) -> UpdateBatchIterator:
        """fairseq's iterator, with batches made anew for each epoch and samples that come by whole updates."""
        dataset.set_epoch(epoch)
        training = dataset is self.datasets.get(TRAIN)
        longest = utils.resolve_max_positions(max_positions, max_tokens)  # fairseq-validate leaves --max-tokens out

        def make_batches(dataset, epoch):
            with data_utils.numpy_seed(seed + epoch):
                indices = dataset.ordered_indices()
            indices = self.filter_indices_by_size(indices, dataset, longest, ignore_invalid_inputs)
            # No --required-batch-size-multiple: fairseq drops the items that are over a multiple at the end, and
            # packed batches gain nothing from it.
            batches = dataset.batch_by_size(indices, max_tokens=max_tokens, max_sentences=max_sentences)
            if training:
                self.check_update_size(max(map(len, batches)) * max(self.cfg.update_freq) * num_shards)
            return batches

        return UpdateBatchIterator(
            dataset=dataset,
            collate_fn=dataset.collater,
            batch_sampler=make_batches,
            seed=seed,
            num_shards=num_shards,
            epoch=epoch,
            buffer_size=data_buffer_size,
            # Workers that outlive an epoch would go on with its masks.
            persistent_workers=False,
            update_freq=list(self.cfg.update_freq) if training else [1],
            stamp=self.stamp_update if training else None,
            **iterator,
        )

    def check_update_size(self, items: int) -> None:
        """Raise InputError if an update of so many items is too large."""

    def stamp_update(self, samples: list[dict]) -> None:
        """Write into the samples of one update, those of this rank, what they are to know of it."""
        for sample in samples:
            sample["is_of_update"] = True  # no dummy, which may be of validation

    def train_step(self, sample, model, criterion, optimizer, update_num, ignore_grad=False):
        if nonfinite.fairseq_searches(model):
            return self._search_nonfinite(sample, model, criterion, optimizer, update_num)
        with takes_no_randomness(model, ignore_grad):
            loss, sample_size, logged = super().train_step(sample, model, criterion, optimizer, update_num, ignore_grad)
        if ignore_grad:
            sample_size, logged = 0, {name: value * 0 for name, value in logged.items()}
        if loss.device.type == "cpu" and update_num % TRIM_INTERVAL == 0:
            return_freed()
        return loss, sample_size, logged

    def optimizer_step(self, optimizer, model, update_num: int) -> None:
        step(optimizer)

    def _search_nonfinite(self, sample, model, criterion, optimizer, update_num):
        """A step done over. Raises InputError if items of *sample* make it not finite."""
        if self._searched != update_num:  # the first micro-batch: its dropout again
            self._searched = update_num
            utils.set_torch_seed(self.cfg.seed + update_num)
        is_dummy = "is_of_update" not in sample  # fairseq tells in the update itself alone
        with takes_no_randomness(model, is_dummy), nonfinite.broken_tokens(model.encoder) as broken:
            done = super().train_step(sample, model, criterion, optimizer, update_num)
        if not is_dummy:
            net_input, dataset = sample["net_input"], self.datasets[TRAIN]
            lengths = net_input.get("query_input", net_input)["lengths"]
            items = [dataset.origin(index) for index in sample["id"].tolist()]
            nonfinite.report(update_num + 1, model, lengths, broken[0], done[2], self.parts_of_loss, items)
        return done
