"""A head at work on sequences of one or two texts: classification, tagging, question answering and masked LM."""

from collections.abc import Sequence

import numpy as np
import torch

from ppa_fairseq.checkpoints.weights import KINDS, Checkpoint, build_empty, part
from ppa_fairseq.data.sentence_pairs import PairLayout
from ppa_fairseq.evaluation.embedding import device
from ppa_fairseq.evaluation.precision import Precision
from ppa_fairseq.modules.packing import pack
from ppa_fairseq.utils.errors import InputError


class PairModel:
    """The encoder, head and tokenizer of one checkpoint, subclasses choose the head.

    Args:
        model: a checkpoint with such a head. Its weights stay in host memory until the first batch.
        source: names the model in messages.
        max_length: of a sequence, specials included; None: the length of the position table.
        batch_tokens: tokens in one batch; a longer sequence makes a batch of its own.
        cpu: do not use a GPU.
        dtype: the type in which encoder and head compute, as `Precision` takes it.
        sentences: texts in a sequence, 1 or 2.

    Attributes:
        shape: sizes of the encoder.
        training: the checkpoint's `training_facts`.
        truncated: sequences that were cut so far.

    Raises:
        InputError: no such head, a `max_length` that does not fit the position table, one token type where the
            tokenizer needs two.
    """

    head_prefix: str  # of the names of its weights
    head_name: str  # for messages, as is the task that trains it
    task: str

    def __init__(
        self,
        model: Checkpoint,
        source: str,
        max_length: int | None,
        batch_tokens: int = 4096,
        cpu: bool = False,
        dtype: str = "float32",
        sentences: int = 2,
    ):
        head = part(model.state, self.head_prefix)
        if KINDS[self.head_prefix] not in model.kinds:
            raise InputError(f"{source}: no {self.head_name}; fine-tune it first with `--task {self.task}`")
        self.special = model.build_tokenizer(source)
        self.tokenizer = self.special.backend
        if sentences == 2 and 0 < model.shape.token_types <= self.special.second_type:
            raise InputError(f"{source}: has one token type, but the second sentence of a pair needs another")
        self.encoder, self.head = build_empty(model.shape, KINDS[self.head_prefix], len(model.labels or ()))
        longest = self.encoder.max_positions()
        max_length = max_length or longest
        self.layout = PairLayout(self.special, max_length, sentences)
        shortest = self.layout.specials + 2
        if not shortest <= max_length <= longest:
            raise InputError(
                f"--max-length {max_length}: the encoder has {longest} positions; give {shortest} to {longest}"
            )
        for module, state in ((self.encoder, part(model.state, "encoder.")), (self.head, head)):
            module.load_state_dict(state, assign=True)
            module.eval()
        self.device = device(cpu)
        self.precision = Precision(dtype, self.device, self.encoder, self.head)
        self.is_placed = False
        self.shape = model.shape
        self.training = training_facts(model)
        self.max_length = max_length
        self.batch_tokens = batch_tokens
        self.truncated = 0

    def token_ids(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Token ids of each text, without [CLS] and [SEP]."""
        encodings = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(encoding.ids, dtype=np.int64) for encoding in encodings]

    def pack(self, sequences: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict:
        """A packed batch, on the model's device, of sequences from the layout: token ids and token types."""
        if not self.is_placed:
            with torch.inference_mode(False):  # which would not let weights move
                self.encoder.float().to(self.device)
                self.head.float().to(self.device)
            self.is_placed = True
        tokens, token_types = zip(*sequences, strict=True)
        packed = pack(list(map(torch.from_numpy, tokens)), list(map(torch.from_numpy, token_types)))
        return {k: v.to(self.device) if torch.is_tensor(v) else v for k, v in packed.items()}


def training_facts(model: Checkpoint) -> dict | None:
    """What a checkpoint of `fairseq-train` says of its training; None for an import and for a Hugging Face folder."""
    if not model.training.get("checkpoint"):
        return None
    task, rule, state = (model.training[part] for part in ("task", "checkpoint", "extra_state"))
    return {
        "train_langs": task.get("train_langs"),
        "code_switch": task.get("code_switch"),
        "metric": rule.get("best_checkpoint_metric"),
        "highest": rule.get("maximize_best_checkpoint_metric"),
        "value": state.get("val_loss"),  # of the metric, at this checkpoint
        "best": state.get("best"),  # of the metric, until this checkpoint
    }
