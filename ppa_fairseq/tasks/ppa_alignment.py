"""The task `ppa_alignment`: the post-pretraining alignment of Pan et al. (2021), on sentence pairs.

To read the method, start with `models/ppa.py`; this file comes last: the data, the training step, validation.
"""

import logging
from dataclasses import dataclass, field
from typing import Optional

import torch
from fairseq import utils
from fairseq.logging import metrics
from fairseq.tasks import register_task
from omegaconf import MISSING

from ppa_fairseq.criterions.ppa import PPACriterion
from ppa_fairseq.data.bitext.corpora import find_pairs, load_corpora, load_dictionary
from ppa_fairseq.data.bitext.dataset import AlignmentDataset, pivot_of
from ppa_fairseq.data.bitext.masking import MaskingScheme
from ppa_fairseq.data.bitext.micro_batches import micro_batches
from ppa_fairseq.data.code_switching import ENGLISH
from ppa_fairseq.data.dictionary import WordPieceDictionary
from ppa_fairseq.data.update_iterator import add_update_totals
from ppa_fairseq.fairseq_compat.arguments import refuse_lone_ranks
from ppa_fairseq.fairseq_compat.trainer import guarded_optimizer_step, guarded_train_step, guarded_valid_step
from ppa_fairseq.models.ppa import PPAModel
from ppa_fairseq.modules.packing import some_sequences
from ppa_fairseq.tasks._encoder_task import TRAIN, EncoderTask, EncoderTaskConfig
from ppa_fairseq.tasks._validation_retrieval import ValidationRetrieval
from ppa_fairseq.utils.errors import InputError

logger = logging.getLogger(__name__)
CPU_TOKENS_AT_ONCE = 2048  # matrix products reach their full speed with fewer
LORA_TOKENS_AT_ONCE = 512  # a tenth slower: beside frozen weights, activations are most of the memory


@dataclass
class PPAAlignmentConfig(EncoderTaskConfig):
    data: str = field(
        default=MISSING, metadata={"help": "data-bin folder, or several separated by colons: shards, one per epoch"}
    )
    lang_pairs: Optional[str] = field(
        default=None, metadata={"help": "language pairs, e.g. de-en,fr-en (default: all in the data folder)"}
    )
    pivot: str = field(
        default=ENGLISH,
        metadata={
            "help": "the language that all pairs share; two keys with the same sentence in it are not used as "
            "negatives for each other"
        },
    )
    sampling_exponent: float = field(
        default=1.0,
        metadata={"help": "a language pair's share of an epoch is its size to this power; 1: all its sentences once"},
    )
    no_input_shuffle: bool = field(
        default=False,
        metadata={"help": "always use the first language as the query, instead of random input shuffling"},
    )
    mask_prob: float = field(default=0.15, metadata={"help": "share of a TLM sequence's tokens to mask"})
    tlm_reset_positions: bool = field(
        default=False, metadata={"help": "XLM's TLM: positions start again at the second sentence"}
    )
    tlm_language_embeddings: bool = field(default=False, metadata={"help": "XLM's TLM: add language embeddings"})
    tokens_at_once: Optional[int] = field(
        default=None,
        metadata={
            "help": "tokens that the encoder gets at once, approximately: the same update in less memory and a little "
            "more time; 0: the whole batch (default: 0 on a GPU; on a CPU 2048, or 512 with --lora-rank)"
        },
    )
    check_ranks: bool = field(
        default=False,
        metadata={"help": "after every update, stop if weights, momentum encoder or queue differ between ranks"},
    )


@register_task("ppa_alignment", dataclass=PPAAlignmentConfig)
class PPAAlignmentTask(EncoderTask):
    """Align an encoder on sentence pairs; validation measures retrieval beside the losses."""

    same_on_resume = (
        "lang_pairs",
        "tlm_language_embeddings",
        "freeze_encoder",
        "freeze_embeddings",
        "train_layers",
        "lora_alpha",
        "projection_head",
        "negatives",
        "contrastive_weight",
        "tlm_weight",
    )
    add_update_totals = staticmethod(add_update_totals)

    def __init__(self, cfg: PPAAlignmentConfig, dictionary: WordPieceDictionary, pairs: list[str]):
        super().__init__(cfg, dictionary)
        self.pairs = pairs
        self.languages = sorted({language for pair in pairs for language in pair.split("-")})
        self.validation = ValidationRetrieval(pairs)
        self.contrastive = self.tlm = True  # which objectives the criterion trains; see build_criterion
        self.negatives = "queue"

    @classmethod
    def open_data(cls, cfg: PPAAlignmentConfig) -> "PPAAlignmentTask":
        folder = utils.split_paths(cfg.data)[0]
        present = find_pairs(folder, "train") or find_pairs(folder, "valid")
        pairs = cfg.lang_pairs.split(",") if cfg.lang_pairs else present
        unknown = [pair for pair in pairs if pair not in present]
        if unknown or not pairs:
            raise InputError(
                f"{folder}: no language pair {', '.join(unknown) or 'at all'}; the folder holds "
                f"{', '.join(present) or 'no train.SRC-TGT.LANG.idx'} (set --lang-pairs to names of these)"
            )
        dictionary = load_dictionary(folder, pairs)
        logger.info(f"{len(pairs)} language pairs ({', '.join(pairs)}), {len(dictionary):,} vocabulary entries")
        return cls(cfg, dictionary, pairs)

    def load_dataset(self, split: str, epoch: int = 1, **kwargs) -> None:
        """Open the pairs of *split*. Training takes one shard per epoch, in turn."""
        folders = utils.split_paths(self.cfg.data)
        training = split == TRAIN
        if training:
            refuse_lone_ranks()
        else:
            self.validation.reset()
        folder = folders[(epoch - 1) % len(folders)] if training else folders[0]
        if load_dictionary(folder, self.pairs) != self.dictionary:
            raise InputError(f"{folder} and {folders[0]} have different dictionaries; binarize all shards with one")
        corpora = load_corpora(folder, split, self.pairs, all_needed=training, dictionary=self.dictionary)
        tlm = self.tlm or not training  # validation always has both objectives' data
        self.datasets[split] = AlignmentDataset(
            corpora,
            self.dictionary,
            masking=MaskingScheme.for_dictionary(self.dictionary, self.cfg.mask_prob) if tlm else None,
            seed=self.cfg.seed,
            contrastive=self.contrastive or not training,
            pivot=self.cfg.pivot,
            input_shuffle=not self.cfg.no_input_shuffle,
            sampling_exponent=self.cfg.sampling_exponent if training else 1.0,
            reset_positions=self.cfg.tlm_reset_positions,
            languages=self.languages if tlm and self.cfg.tlm_language_embeddings else None,
            shard=folder if len(folders) > 1 else None,
        )
        logger.info(f"{split}: {len(self.datasets[split]):,} pairs per epoch from {folder}")

    def build_criterion(self, cfg, from_checkpoint: bool = False):
        criterion = super().build_criterion(cfg, from_checkpoint)
        if isinstance(criterion, PPACriterion):  # an objective with weight 0 needs no data
            self.contrastive, self.tlm = criterion.cfg.contrastive_weight > 0, criterion.cfg.tlm_weight > 0
            self.negatives = str(criterion.cfg.negatives)
            if self.contrastive and not criterion.cfg.no_pivot_aware:
                self._warn_of_mixed_pivots()
        return criterion

    def build_model(self, cfg, from_checkpoint: bool = False):
        self.queue_size = cfg.queue_size
        self.cpu_tokens_at_once = LORA_TOKENS_AT_ONCE if cfg.lora_rank else CPU_TOKENS_AT_ONCE
        return super().build_model(cfg, from_checkpoint)

    @guarded_train_step
    def train_step(self, sample, model: PPAModel, criterion: PPACriterion, optimizer):
        """Forward and backward on a micro-batch of N pairs: momentum contrast of sentences plus TLM.

        The query encoder encodes the queries and the TLM sequences, the momentum encoder the keys. The criterion stages
        the keys for the queue: they are negatives in later updates.
        """
        loss, pairs, logged = criterion(model, sample)  # summed over the N pairs
        optimizer.backward(loss)
        return loss, pairs, logged

    @guarded_optimizer_step
    def optimizer_step(self, optimizer, model: PPAModel, update_num: int) -> None:
        """Update the query encoder by gradient, then the momentum encoder by momentum, then the queue.

        An update that overflows ends at `optimizer.step()`: none of the three moves.
        """
        optimizer.step()  # θ_q
        model.update_succeeded()  # θ_k ← m θ_k + (1 − m) θ_q, and the staged keys replace the oldest in the queue
        self._log_momentum_distance(model, update_num + 1)

    def begin_valid_epoch(self, epoch, model) -> None:
        self.validation.reset()

    @guarded_valid_step
    def valid_step(self, sample, model, criterion):
        """Compute the losses, and collect the vectors of both sides for retrieval."""
        result = super().valid_step(sample, model, criterion)
        net_input = sample["net_input"]
        queries = some_sequences(net_input["query_input"], (0, sample["nsentences"]))
        queries.pop("languages", None)  # only TLM uses them
        with torch.no_grad():
            query = model.embed(queries)  # (N, C)
            key = model.embed(net_input["key_input"])
        self.validation.add(sample, queries, query, key)
        return result

    def reduce_metrics(self, logging_outputs, criterion) -> None:
        super().reduce_metrics(logging_outputs, criterion)
        if len(self.validation):
            self.validation.log(sum(int(log["nsentences"]) for log in logging_outputs))

    def post_validate(self, model, stats, agg) -> None:
        self.validation.reset()

    def metrics_of(self, split: str) -> list[str]:
        pairs = {corpus.number for corpus in self.datasets[split].corpora}
        return [*self.validation.metrics(pairs), *PPACriterion.metrics_of(self.contrastive)]

    def micro_batches(self, sample: dict, device: str) -> list[dict]:
        if self.contrastive and self.negatives != "queue":  # every pair of a batch is a negative of the others
            return [sample]
        most_tokens = self.cfg.tokens_at_once
        if most_tokens is None:
            most_tokens = self.cpu_tokens_at_once if device == "cpu" else 0
        return micro_batches(sample, most_tokens) if most_tokens else [sample]

    def filter_indices_by_size(self, indices, dataset, max_positions=None, ignore_invalid_inputs=False):
        """Leave out pairs that are too long for the position table, with a warning; refuse them in validation."""
        kept, ignored = dataset.filter_indices_by_size(indices, max_positions)
        if ignored:
            longest = max(dataset.size(index) for index in ignored)
            limit = f"{max_positions} tokens, the limit of the encoder or of --max-tokens"
            message = f"{len(ignored):,} pairs have over {limit} (longest: {longest})"
            if not ignore_invalid_inputs:
                raise InputError(
                    f"{message}; prepare them with a smaller --max-tokens, or skip them with "
                    "--skip-invalid-size-inputs-valid-test"
                )
            logger.warning(f"{message}: they are left out")
        if not len(kept):
            raise InputError(f"{message}; no pair remains")
        return kept

    def check_update_size(self, pairs: int) -> None:
        if self.contrastive and self.negatives != "in-batch" and pairs > self.queue_size:
            raise InputError(
                f"--queue-size {self.queue_size} is smaller than the {pairs} pairs of one update (batch size × "
                "--update-freq × ranks); increase it, or make the batch smaller"
            )

    def _warn_of_mixed_pivots(self) -> None:
        """Warn if language pairs identify a sentence by different languages (see `pivot_of`)."""
        pivots = [pivot_of(*pair.split("-"), self.cfg.pivot) for pair in self.pairs]
        if len(set(pivots)) > 1:
            named = (f"{pair} by {pivot}" for pair, pivot in zip(self.pairs, pivots, strict=True))
            logger.warning(
                f"a sentence is identified by its text in --pivot {self.cfg.pivot}, but not all pairs have that "
                f"language ({', '.join(named)}): across such pairs, translations count as negatives of each other"
            )

    def _log_momentum_distance(self, model: PPAModel, updates: int) -> None:
        if model.momentum_encoder is not None and updates % self.cfg.log_interval == 0:
            distance = model.momentum_encoder.distance(model.encoder, model.projection)
            metrics.log_scalar("momentum_distance", distance.item(), round=5)
