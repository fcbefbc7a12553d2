"""What every task of this plugin shares: the base model's vocabulary, where a model starts from, its batches."""

import logging
from pathlib import Path

from fairseq.data import data_utils
from fairseq.tasks import FairseqTask

from ppa_fairseq import checkpoint
from ppa_fairseq.data.corpora import check_vocabulary
from ppa_fairseq.data.dictionary import WordPieceDictionary
from ppa_fairseq.data.update_iterator import UpdateBatchIterator
from ppa_fairseq.errors import InputError
from ppa_fairseq.host_memory import return_freed
from ppa_fairseq.models.encoder_config import take_sizes
from ppa_fairseq.optim import fused_adamw  # noqa: F401  (registers it: of --user-dir fairseq imports tasks and models)

logger = logging.getLogger(__name__)
TRIM_INTERVAL = 5  # updates


class EncoderTask(FairseqTask):
    """A task on a pretrained encoder.

    Its config has ``data``, ``seed``, ``update_freq``, ``save_dir`` and ``restore_file``.

    Attributes:
        same_on_resume: names in the config without whose old values a checkpoint is another training's.
    """

    same_on_resume: tuple[str, ...] = ()

    def __init__(self, cfg, dictionary: WordPieceDictionary):
        super().__init__(cfg)
        self.dictionary = dictionary

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

    def build_model(self, cfg, from_checkpoint: bool = False):
        """Build the model; sizes that --pretrained knows are written into *cfg*, so that a checkpoint stands alone."""
        if from_checkpoint:
            return super().build_model(cfg, from_checkpoint)
        if not cfg.pretrained:
            logger.warning("no --pretrained: the encoder starts from random weights, and checkpoints get no tokenizer")
            return super().build_model(cfg)
        self._refuse_another_training(cfg.pretrained)
        source = f"--pretrained {cfg.pretrained}"
        pretrained = checkpoint.read(cfg.pretrained)
        check_vocabulary(self.dictionary, pretrained.tokenizer, source)
        self.state.merge_state_dict({"tokenizer": pretrained.tokenizer})
        take_sizes(cfg, pretrained, source)
        model = super().build_model(cfg)
        model.start_from(pretrained)
        return model

    def _refuse_another_training(self, pretrained: str) -> None:
        """fairseq goes on from whatever it finds in --save-dir, and the encoder just read would be gone."""
        last = Path(self.cfg.save_dir) / self.cfg.restore_file
        if self.cfg.restore_file != "checkpoint_last.pt" or not last.is_file():  # another name was given on purpose
            return
        old = checkpoint.read_cfg(last)
        compared = [("pretrained", old["model"].get("pretrained"), pretrained)]
        compared += [(name, old["task"].get(name), getattr(self.cfg, name)) for name in self.same_on_resume]
        for name, then, now in compared:
            if str(then) != str(now):
                flag = "--" + name.replace("_", "-")
                raise InputError(
                    f"{last} is of a training with {flag} {then}, not {now}: give another --save-dir, or go on with it "
                    f"all the same by --restore-file {last}"
                )

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

        def make_batches(dataset, epoch):
            with data_utils.numpy_seed(seed + epoch):
                indices = dataset.ordered_indices()
            indices = self.filter_indices_by_size(indices, dataset, max_positions, ignore_invalid_inputs)
            # No --required-batch-size-multiple: fairseq drops the items that are over a multiple at the end, and
            # packed batches gain nothing from it.
            batches = dataset.batch_by_size(indices, max_tokens=max_tokens, max_sentences=max_sentences)
            if dataset is self.datasets.get("train"):
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
            update_freq=list(self.cfg.update_freq),
            stamp=self.stamp_update,
            **iterator,
        )

    def check_update_size(self, items: int) -> None:
        """Raise InputError if an update of so many items is too large."""

    def stamp_update(self, samples: list[dict]) -> None:
        """Write into the samples of one update, those of this rank, what they are to know of it."""

    def train_step(self, sample, model, criterion, optimizer, update_num, ignore_grad=False):
        loss, sample_size, logged = super().train_step(sample, model, criterion, optimizer, update_num, ignore_grad)
        if ignore_grad:  # a dummy batch, which keeps this rank in step with the others
            sample_size, logged = 0, {name: value * 0 for name, value in logged.items()}
        if loss.device.type == "cpu" and update_num % TRIM_INTERVAL == 0:
            return_freed()
        return loss, sample_size, logged
