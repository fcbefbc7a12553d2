"""An encoder with a head, on pairs of texts: what classification, question answering and perplexity share."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from ppa_fairseq.checkpoints.weights import Checkpoint, no_values, part
from ppa_fairseq.data.sentence_pairs import PairLayout
from ppa_fairseq.modules.bert import BertEncoder
from ppa_fairseq.modules.packing import pack
from ppa_fairseq.utils.errors import InputError


class PairModel(ABC):
    """Encoder, head and tokenizer of one checkpoint, in fp32; subclasses say which head.

    Args:
        model: a checkpoint with such a head; it is moved to the GPU when there is one (and not `cpu`).
        source: names the model in messages.
        max_length: of a sequence, specials included.
        batch_tokens: tokens in one batch; a longer sequence makes a batch of its own.

    Raises:
        InputError: no such head, a length that the position table cannot hold, or one token type where the tokenizer
            needs two.
    """

    head_prefix: str  # of the names of its weights
    head_name: str  # for messages, as is the task that trains it
    task: str

    def __init__(self, model: Checkpoint, source: str, max_length: int, batch_tokens: int, cpu: bool):
        head = part(model.state, self.head_prefix)
        if not head:
            raise InputError(f"{source}: no {self.head_name}; fine-tune it first, by `--task {self.task}`")
        self.dictionary = model.build_tokenizer(source)
        if self.dictionary.second_type >= model.shape.token_types:
            raise InputError(f"{source}: has one token type, but the second sentence of a pair needs another")
        with no_values():
            self.encoder = BertEncoder(model.shape)
            self.head = self.new_head(model)
        self.layout = PairLayout(self.dictionary, max_length)
        shortest, longest = self.layout.specials + 2, self.encoder.max_positions()
        if not shortest <= max_length <= longest:
            raise InputError(
                f"--max-length {max_length}: the encoder has {longest} positions; give {shortest} to {longest}"
            )
        self.device = torch.device("cuda" if torch.cuda.is_available() and not cpu else "cpu")
        for module, state in ((self.encoder, part(model.state, "encoder.")), (self.head, head)):
            module.load_state_dict(state, assign=True)
            module.float().eval().to(self.device)
        self.tokenizer = self.dictionary.backend
        self.max_length = max_length
        self.batch_tokens = batch_tokens

    @abstractmethod
    def new_head(self, model: Checkpoint) -> nn.Module:
        """A head of the sizes of *model*, whose weights it is about to get."""

    def pieces(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Token ids of each text, without [CLS] and [SEP]."""
        encodings = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(encoding.ids, dtype=np.int64) for encoding in encodings]

    def pack(self, sequences: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict:
        """A packed batch, on the model's device, of sequences as the layout lays them: token ids and token types."""
        tokens, token_types = zip(*sequences, strict=True)
        packed = pack(list(map(torch.from_numpy, tokens)), list(map(torch.from_numpy, token_types)))
        return {name: part.to(self.device) if torch.is_tensor(part) else part for name, part in packed.items()}
