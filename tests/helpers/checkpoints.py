"""A tiny encoder's checkpoints, sound and spoilt."""

import argparse
import os

import torch

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.modules.bert import BertEncoder, BertShape, MaskedLMHead

SHAPE = BertShape(20, 2, 8, 16, 2, 12, 2, 1e-6, position_offset=1, dropout=0.2, attention_dropout=0.0)
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmno"]
TOKENIZER = {"vocab.txt": "\n".join(VOCABULARY) + "\n", "tokenizer_config.json": '{"do_lower_case": false}'}


def random_state():
    torch.manual_seed(0)
    encoder, head = BertEncoder(SHAPE), MaskedLMHead(8, 20, 1e-6)
    state = {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    return state | {f"lm_head.{name}": tensor for name, tensor in head.state_dict().items()}


def trained(**changes):
    """What fairseq's trainer saves, in its places."""
    state = random_state()
    model = {"_name": "ppa_bert", "pooling": "cls", **checkpoint.sizes_in_cfg(SHAPE)}
    content = {
        "args": None,
        "cfg": {"_name": None, "model": argparse.Namespace(**model), "criterion": {"_name": "ppa"}},
        "model": state
        | {"momentum_encoder.0": torch.ones(3), "queue.keys": torch.ones(4, 2), "projection.fc1.bias": torch.ones(2)},
        "criterion": None,
        "optimizer_history": [{"num_updates": 7}],
        "last_optimizer_state": {"state": {0: {"exp_avg": torch.zeros(1000)}}, "param_groups": [{"lr": 1e-3}]},
        "task_state": {"tokenizer": TOKENIZER},
        "extra_state": {"train_iterator": {"epoch": 1}, "val_loss": 0.5},
    }
    return content | changes


class Touch:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def spoilt_model_cfg(**changes):
    sizes = {"_name": "ppa_bert", **checkpoint.sizes_in_cfg(SHAPE), **changes}
    return {"model": {name: value for name, value in sizes.items() if value is not None}}
