"""The task `ppa_alignment`: align a multilingual BERT on sentence pairs (method.md; Pan et al. 2021)."""

import contextlib
import logging
from dataclasses import dataclass, field
from typing import List, Optional

import numpy as np
import torch
from fairseq import utils
from fairseq.data import data_utils
from fairseq.dataclass import FairseqDataclass
from fairseq.logging import metrics
from fairseq.optim.amp_optimizer import AMPOptimizer
from fairseq.tasks import FairseqTask, register_task
from omegaconf import II, MISSING, OmegaConf, open_dict

import ppa_fairseq.criterions.ppa  # noqa: F401  (registers the criterion)
from ppa_fairseq import checkpoint
from ppa_fairseq.data.alignment_dataset import AlignmentDataset
from ppa_fairseq.data.corpora import check_vocabulary, find_pairs, load_corpora, load_dictionary
from ppa_fairseq.data.dictionary import WordPieceDictionary
from ppa_fairseq.data.masking import MaskingScheme
from ppa_fairseq.data.update_iterator import UpdateBatchIterator
from ppa_fairseq.data.validation_retrieval import ValidationRetrieval
from ppa_fairseq.errors import InputError
from ppa_fairseq.models.packing import first_sequences
from ppa_fairseq.models.ppa import SHAPE_FIELDS
from ppa_fairseq.traps import refuse_lone_ranks

logger = logging.getLogger(__name__)


@dataclass
class PPAAlignmentConfig(FairseqDataclass):
    data: str = field(
        default=MISSING, metadata={"help": "data-bin folder; several, separated by colons, are shards: one an epoch"}
    )
    lang_pairs: Optional[str] = field(
        default=None, metadata={"help": "language pairs, e.g. de-en,fr-en (default: all in the data folder)"}
    )
    sampling_exponent: float = field(
        default=1.0, metadata={"help": "a pair's share of an epoch is its size to this power (1: as large as it is)"}
    )
    no_input_shuffle: bool = field(
        default=False, metadata={"help": "the first language is always the query, not one of both at random"}
    )
    mask_prob: float = field(default=0.15, metadata={"help": "share of a TLM sequence's WordPieces to mask"})
    tlm_reset_positions: bool = field(
        default=False, metadata={"help": "XLM's TLM: positions start again at the second sentence"}
    )
    tlm_language_embeddings: bool = field(default=False, metadata={"help": "XLM's TLM: add language embeddings"})
    seed: int = II("common.seed")
    log_interval: int = II("common.log_interval")
    update_freq: List[int] = II("optimization.update_freq")
    contrastive_weight: float = II("criterion.contrastive_weight")
    tlm_weight: float = II("criterion.tlm_weight")


@register_task("ppa_alignment", dataclass=PPAAlignmentConfig)
class PPAAlignmentTask(FairseqTask):
    """Loads pairs, feeds the criterion, moves the twin and the queue after each real update, measures retrieval."""

    def __init__(self, cfg: PPAAlignmentConfig, dictionary: WordPieceDictionary, pairs: list[str]):
        super().__init__(cfg)
        self.dictionary = dictionary
        self.pairs = pairs
        self.languages = sorted({language for pair in pairs for language in pair.split("-")})
        self.validation = ValidationRetrieval(pairs)

    @classmethod
    def setup_task(cls, cfg: PPAAlignmentConfig, **kwargs) -> "PPAAlignmentTask":
        refuse_lone_ranks()
        folder = utils.split_paths(cfg.data)[0]
        present = find_pairs(folder, "train") or find_pairs(folder, "valid")
        pairs = cfg.lang_pairs.split(",") if cfg.lang_pairs else present
        unknown = [pair for pair in pairs if pair not in present]
        if unknown or not pairs:
            raise InputError(
                f"{folder}: no language pair {', '.join(unknown) or 'at all'} here; it holds "
                f"{', '.join(present) or 'no train.SRC-TGT.LANG.idx'} (--lang-pairs names them as preprocessing did)"
            )
        dictionary = load_dictionary(folder, pairs)
        logger.info(f"{len(pairs)} language pairs ({', '.join(pairs)}), {len(dictionary):,} WordPieces")
        return cls(cfg, dictionary, pairs)

    @classmethod
    def load_dictionary(cls, filename: str) -> WordPieceDictionary:
        """What `fairseq-preprocess --srcdict` reads: the dict.txt of `ppa import-hf`, ids as the vocabulary's own."""
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

    def load_dataset(self, split: str, epoch: int = 1, **kwargs) -> None:
        """Open the pairs of *split*. Training goes round-robin over the shards, one an epoch."""
        folders = utils.split_paths(self.cfg.data)
        training = split == "train"
        folder = folders[(epoch - 1) % len(folders)] if training else folders[0]
        corpora = load_corpora(folder, split, self.pairs, all_needed=training)
        tlm = self.cfg.tlm_weight > 0 or not training
        masking = MaskingScheme(
            probability=self.cfg.mask_prob,
            mask_index=self.dictionary.mask(),
            replacements=np.array(self.dictionary.random_ids()),
        )
        self.datasets[split] = AlignmentDataset(
            corpora,
            self.dictionary,
            masking if tlm else None,
            self.cfg.seed,
            contrastive=self.cfg.contrastive_weight > 0 or not training,
            input_shuffle=not self.cfg.no_input_shuffle,
            sampling_exponent=self.cfg.sampling_exponent if training else 1.0,
            reset_positions=self.cfg.tlm_reset_positions,
            languages=self.languages if tlm and self.cfg.tlm_language_embeddings else None,
        )
        logger.info(f"{split}: {len(self.datasets[split]):,} pairs an epoch from {folder}")

    def filter_indices_by_size(self, indices, dataset, max_positions=None, ignore_invalid_inputs=False):
        """Leave out, with a warning, pairs too long for the position table; in validation they are an error."""
        kept, ignored = dataset.filter_indices_by_size(indices, max_positions)
        if ignored:
            longest = max(dataset.size(index) for index in ignored)
            message = f"{len(ignored):,} pairs are over the encoder's {max_positions} positions (longest: {longest})"
            if not ignore_invalid_inputs:
                raise InputError(
                    f"{message}: prepare them with a smaller --max-tokens, or skip them with "
                    "--skip-invalid-size-inputs-valid-test"
                )
            logger.warning(f"{message}: they are left out")
        return kept

    def get_batch_iterator(
        self,
        dataset,
        max_tokens=None,
        max_sentences=None,
        max_positions=None,
        ignore_invalid_inputs=False,
        seed=1,
        num_shards=1,
        shard_id=0,
        num_workers=0,
        epoch=1,
        data_buffer_size=0,
        skip_remainder_batch=False,
        grouped_shuffling=False,
        **kwargs,
    ) -> UpdateBatchIterator:
        """fairseq's iterator, with batches made anew for each epoch and samples that know their update's totals."""
        dataset.set_epoch(epoch)

        def make_batches(dataset, epoch):
            with data_utils.numpy_seed(seed + epoch):
                indices = dataset.ordered_indices()
            indices = self.filter_indices_by_size(indices, dataset, max_positions, ignore_invalid_inputs)
            # No --required-batch-size-multiple: fairseq drops the pairs that are over a multiple at the end, and
            # packed batches gain nothing from it.
            return dataset.batch_by_size(indices, max_tokens=max_tokens, max_sentences=max_sentences)

        return UpdateBatchIterator(
            dataset=dataset,
            collate_fn=dataset.collater,
            batch_sampler=make_batches,
            seed=seed,
            num_shards=num_shards,
            shard_id=shard_id,
            num_workers=num_workers,
            epoch=epoch,
            buffer_size=data_buffer_size,
            skip_remainder_batch=skip_remainder_batch,
            grouped_shuffling=grouped_shuffling,
            # Workers that outlive an epoch would go on with its masks.
            persistent_workers=False,
            update_freq=list(self.cfg.update_freq),
        )

    def build_model(self, cfg, from_checkpoint: bool = False):
        """Build the model; sizes that --pretrained knows are written into *cfg*, so that a checkpoint stands alone."""
        with open_dict(cfg) if OmegaConf.is_config(cfg) else contextlib.nullcontext():
            if from_checkpoint:
                cfg.pretrained = None  # the checkpoint has all weights, and where they came from may be gone
            elif cfg.pretrained:
                self._take_from_pretrained(cfg)
        return super().build_model(cfg, from_checkpoint)

    def _take_from_pretrained(self, cfg) -> None:
        pretrained = checkpoint.read(cfg.pretrained)
        check_vocabulary(self.dictionary, pretrained.tokenizer, f"--pretrained {cfg.pretrained}")
        self.state.merge_state_dict({"tokenizer": pretrained.tokenizer})
        sizes = checkpoint.sizes_in_cfg(pretrained.shape)
        for name in SHAPE_FIELDS:
            if getattr(cfg, name) not in (None, sizes[name]):
                raise InputError(
                    f"--{name.replace('_', '-')} is {getattr(cfg, name)} (by flag or --arch), but --pretrained "
                    f"{cfg.pretrained} has {sizes[name]}: --arch ppa_bert takes the sizes from there"
                )
            setattr(cfg, name, sizes[name])

    def train_step(self, sample, model, criterion, optimizer, update_num, ignore_grad=False):
        result = super().train_step(sample, model, criterion, optimizer, update_num, ignore_grad)
        if ignore_grad and self.cfg.contrastive_weight > 0:
            model.queue.unstage()
        return result

    def optimizer_step(self, optimizer, model, update_num: int) -> None:
        """Step, then move twin and queue: here and nowhere else, so that a skipped update moves neither."""
        amp = isinstance(optimizer, AMPOptimizer)
        scale = optimizer.scaler.get_scale() if amp else None
        optimizer.step()
        if amp and optimizer.scaler.get_scale() < scale:
            return  # the scaler skipped the step
        model.update_succeeded()
        if (update_num + 1) % self.cfg.log_interval == 0:
            distance = model.twin.distance(model.encoder, model.projection)
            metrics.log_scalar("twin_dist", distance.item(), round=5)

    def begin_valid_epoch(self, epoch, model) -> None:
        self.validation.reset()

    def valid_step(self, sample, model, criterion):
        result = super().valid_step(sample, model, criterion)
        net_input, swapped = sample["net_input"], sample["swapped"][:, None]
        with torch.no_grad():
            query = model.embed(first_sequences(net_input["query_input"], sample["nsentences"]))  # (N, C)
            key = model.embed(net_input["key_input"])
        source, target = torch.where(swapped, key, query), torch.where(swapped, query, key)
        self.validation.add(sample["id"], sample["pair"], source, target)
        return result

    def reduce_metrics(self, logging_outputs, criterion) -> None:
        super().reduce_metrics(logging_outputs, criterion)
        if not len(self.validation):
            return
        # fairseq asks for derived values after every batch too; only the split's own totals have seen every batch.
        metrics.log_scalar("_valid_batches", 1)

        def accuracy(name):
            def value(meters):
                complete = meters["_valid_batches"].count == len(self.validation)
                return round(self.validation.accuracy()[name], 2) if complete else 0.0

            return value

        metrics.log_derived("retrieval", accuracy("mean"), priority=20)
        for direction in self.validation.directions():
            metrics.log_derived(f"retrieval_{direction}", accuracy(direction), priority=21)

    def post_validate(self, model, stats, agg) -> None:
        self.validation.reset()
