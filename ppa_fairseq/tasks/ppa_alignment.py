"""The task `ppa_alignment`: align a multilingual BERT on sentence pairs (Pan et al. 2021)."""

import logging
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
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
from ppa_fairseq.data.update_iterator import stamp_pairs_per_masked
from ppa_fairseq.fairseq_compat.arguments import refuse_lone_ranks
from ppa_fairseq.fairseq_compat.environment import prepare
from ppa_fairseq.fairseq_compat.rank_check import check_ranks
from ppa_fairseq.fairseq_compat.trainer import step
from ppa_fairseq.models.ppa import PPAModel
from ppa_fairseq.modules.host_memory import return_freed
from ppa_fairseq.modules.packing import some_sequences
from ppa_fairseq.tasks._encoder_task import TRAIN, EncoderTask, EncoderTaskConfig
from ppa_fairseq.tasks._validation_retrieval import ValidationRetrieval
from ppa_fairseq.utils.errors import InputError

logger = logging.getLogger(__name__)
CPU_TOKENS_AT_ONCE = 2048  # more than enough for matrix products at their full speed


@dataclass
class PPAAlignmentConfig(EncoderTaskConfig):
    data: str = field(
        default=MISSING, metadata={"help": "data-bin folder; several, separated by colons, are shards: one an epoch"}
    )
    lang_pairs: Optional[str] = field(
        default=None, metadata={"help": "language pairs, e.g. de-en,fr-en (default: all in the data folder)"}
    )
    pivot: str = field(
        default=ENGLISH,
        metadata={"help": "the language that pairs share: keys of one sentence in it are no negatives of each other"},
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
    tokens_at_once: Optional[int] = field(
        default=None,
        metadata={
            "help": "give the encoder about so many tokens at a time: the same update in less memory, in a little more "
            "time; 0: the whole batch (default: 2048 on a CPU, 0 on a GPU)"
        },
    )
    check_ranks: bool = field(
        default=False, metadata={"help": "after every update, stop unless all ranks hold the same weights, momentum encoder and queue"}
    )


@register_task("ppa_alignment", dataclass=PPAAlignmentConfig)
class PPAAlignmentTask(EncoderTask):
    """Loads pairs, feeds the criterion, moves the momentum encoder and the queue after each real update, measures retrieval."""

    same_on_resume = ("lang_pairs", "tlm_language_embeddings")

    def __init__(self, cfg: PPAAlignmentConfig, dictionary: WordPieceDictionary, pairs: list[str]):
        super().__init__(cfg, dictionary)
        self.pairs = pairs
        self.languages = sorted({language for pair in pairs for language in pair.split("-")})
        self.validation = ValidationRetrieval(pairs)
        self.contrastive = self.tlm = True  # which objectives the criterion trains

    @classmethod
    def setup_task(cls, cfg: PPAAlignmentConfig, **kwargs) -> "PPAAlignmentTask":
        prepare()
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

    def load_dataset(self, split: str, epoch: int = 1, **kwargs) -> None:
        """Open the pairs of *split*. Training goes round-robin over the shards, one an epoch."""
        folders = utils.split_paths(self.cfg.data)
        training = split == TRAIN
        if training:
            refuse_lone_ranks()
        else:
            self.validation.reset()
        folder = folders[(epoch - 1) % len(folders)] if training else folders[0]
        if load_dictionary(folder, self.pairs) != self.dictionary:
            raise InputError(f"{folder} and {folders[0]} have different dictionaries: binarize all shards with one")
        corpora = load_corpora(folder, split, self.pairs, all_needed=training, dictionary=self.dictionary)
        tlm = self.tlm or not training
        masking = MaskingScheme.for_dictionary(self.dictionary, self.cfg.mask_prob)
        self.datasets[split] = AlignmentDataset(
            corpora,
            self.dictionary,
            masking if tlm else None,
            self.cfg.seed,
            contrastive=self.contrastive or not training,
            pivot=self.cfg.pivot,
            input_shuffle=not self.cfg.no_input_shuffle,
            sampling_exponent=self.cfg.sampling_exponent if training else 1.0,
            reset_positions=self.cfg.tlm_reset_positions,
            languages=self.languages if tlm and self.cfg.tlm_language_embeddings else None,
            shard=folder if len(folders) > 1 else None,
        )
        logger.info(f"{split}: {len(self.datasets[split]):,} pairs an epoch from {folder}")

    def metrics_of(self, split: str) -> list[str]:
        pairs = {corpus.number for corpus in self.datasets[split].corpora}
        return [*self.validation.metrics(pairs), *PPACriterion.metrics_of(self.contrastive)]

    def filter_indices_by_size(self, indices, dataset, max_positions=None, ignore_invalid_inputs=False):
        """Leave out, with a warning, pairs too long for the position table; in validation they are an error."""
        kept, ignored = dataset.filter_indices_by_size(indices, max_positions)
        if ignored:
            longest = max(dataset.size(index) for index in ignored)
            limit = f"{max_positions} tokens, what the encoder or --max-tokens takes"
            message = f"{len(ignored):,} pairs have over {limit} (longest: {longest})"
            if not ignore_invalid_inputs:
                raise InputError(
                    f"{message}: prepare them with a smaller --max-tokens, or skip them with "
                    "--skip-invalid-size-inputs-valid-test"
                )
            logger.warning(f"{message}: they are left out")
        if not len(kept):
            raise InputError(f"{message}: none is left")
        return kept

    @property
    def parts_of_loss(self) -> tuple[str, ...]:
        return ("contrastive",) * self.contrastive + ("tlm",) * self.tlm

    def stamp_update(self, samples: list[dict]) -> None:
        super().stamp_update(samples)
        stamp_pairs_per_masked(samples)

    def check_update_size(self, pairs: int) -> None:
        if self.contrastive and pairs > self.queue_size:
            raise InputError(
                f"--queue-size {self.queue_size} is smaller than the {pairs} pairs of one update (batch size × "
                "--update-freq × ranks): raise it, or make the batch smaller"
            )

    def build_criterion(self, cfg, from_checkpoint: bool = False):
        criterion = super().build_criterion(cfg, from_checkpoint)
        if isinstance(criterion, PPACriterion):  # an objective of weight 0 needs no batches
            self.contrastive, self.tlm = criterion.cfg.contrastive_weight > 0, criterion.cfg.tlm_weight > 0
            if self.contrastive and not criterion.cfg.no_pivot_aware:
                self._check_pivot()
        return criterion

    def _check_pivot(self) -> None:
        """Warn of pairs that are named by another language than the others are."""
        named_by = [pivot_of(*pair.split("-"), self.cfg.pivot) for pair in self.pairs]
        if len(set(named_by)) > 1:
            others = (f"{pair} by {name}" for pair, name in zip(self.pairs, named_by, strict=True))
            logger.warning(
                f"keys of one sentence are told by its text in --pivot {self.cfg.pivot}, but not all pairs have that "
                f"language ({', '.join(others)}): where pairs differ, its translations count as negatives of each other"
            )

    def build_model(self, cfg, from_checkpoint: bool = False):
        self.queue_size = cfg.queue_size
        return super().build_model(cfg, from_checkpoint)

    def train_step(self, sample, model, criterion, optimizer, update_num, ignore_grad=False):
        most, on_cpu = self.cfg.tokens_at_once, sample["target"].device.type == "cpu"
        if most is None:
            most = CPU_TOKENS_AT_ONCE if on_cpu else 0
        *parts, last = micro_batches(sample, most) if most else [sample]
        run = partial(super().train_step, optimizer=optimizer, update_num=update_num, ignore_grad=ignore_grad)
        done = []
        with model.no_sync() if parts and hasattr(model, "no_sync") else nullcontext():  # ranks meet after the last
            for part in parts:
                done.append(run(part, model, criterion))
                if on_cpu:
                    return_freed()  # the gradients lie in between: the next part would not fit where this one was
        done.append(run(last, model, criterion))
        if ignore_grad and self.contrastive:
            for _ in done:
                model.queue.unstage()
        losses, sizes, logged = zip(*done, strict=True)
        return sum(losses), sum(sizes), {name: sum(part[name] for part in logged) for name in logged[0]}

    def optimizer_step(self, optimizer, model: PPAModel, update_num: int) -> None:
        """Step, then move the momentum encoder and the queue: here and nowhere else, so that a skipped update moves neither."""
        if not step(optimizer):
            return
        if self.contrastive:
            model.update_succeeded()
            if (update_num + 1) % self.cfg.log_interval == 0:
                distance = model.momentum_encoder.distance(model.encoder, model.projection)
                metrics.log_scalar("momentum_distance", distance.item(), round=5)
        if self.cfg.check_ranks:
            check_ranks(model, update_num + 1)

    def begin_valid_epoch(self, epoch, model) -> None:
        self.validation.reset()

    def valid_step(self, sample, model, criterion):
        result = super().valid_step(sample, model, criterion)
        net_input = sample["net_input"]
        queries = some_sequences(net_input["query_input"], (0, sample["nsentences"]))
        queries.pop("languages", None)  # which are those of TLM alone
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
