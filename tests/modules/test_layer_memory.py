"""What a layer keeps for its backward pass: GELU's output is computed again, with the same gradients."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from ppa_fairseq.modules.bert import BertEncoder, BertLayer, BertShape
from ppa_fairseq.modules.packing import pack

LENGTHS = [16] * 24  # without padding
SHAPE = BertShape(50, layers=3, dim=32, ffn_dim=128, heads=4, max_positions=16, dropout=0.1, attention_dropout=0.1)


def encoder() -> BertEncoder:
    torch.manual_seed(0)
    return BertEncoder(SHAPE).train()


def batch() -> dict:
    return pack([torch.randint(0, 50, (length,), generator=torch.Generator().manual_seed(1)) for length in LENGTHS])


def kept_bytes(model: BertEncoder) -> int:
    """Of all storages that the graph of a forward pass holds, the model's own left out."""
    own, kept = {weight.untyped_storage().data_ptr() for weight in model.parameters()}, {}

    def pack_hook(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = tensor, storage.nbytes()  # held, so that no address is used twice
        return tensor

    packed = batch()
    given = {value.untyped_storage().data_ptr() for value in packed.values() if torch.is_tensor(value)}
    with torch.autograd.graph.saved_tensors_hooks(pack_hook, lambda tensor: tensor):
        model(**packed)["hidden"].sum()
    return sum(size for address, (_, size) in kept.items() if address not in own | given)


@pytest.mark.parametrize("autocast", [False, True], ids=["fp32", "autocast"])
def test_a_layer_does_not_keep_gelus_output(monkeypatch, autocast):
    found = []
    for plain in (False, True):
        if plain:
            monkeypatch.setattr(BertLayer, "_feed", lambda self, hidden: self.fc2(F.gelu(self.fc1(hidden))))
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            size, model = kept_bytes(encoder()), encoder()
            torch.manual_seed(2)
            hidden = model(**batch())["hidden"]
        hidden.float().square().mean().backward()
        found.append((size, [weight.grad for weight in model.parameters() if weight.grad is not None]))
    (less, gradients), (more, expected) = found
    assert more - less >= SHAPE.layers * sum(LENGTHS) * SHAPE.ffn_dim * (2 if autocast else 4)
    assert len(gradients) > 40
    torch.testing.assert_close(gradients, expected, rtol=1e-2 if autocast else 1e-5, atol=1e-4 if autocast else 1e-7)


EVALUATION = """
import sys, torch
from ppa_fairseq.modules.bert import BertEncoder, BertShape
from ppa_fairseq.modules.packing import pack
encoder = BertEncoder(BertShape(9, layers=1, dim=8, ffn_dim=8, heads=2, max_positions=8)).eval()
for autocast in (False, True):
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        encoder(**pack([torch.arange(5)]))
print("torch._dynamo" in sys.modules)
"""


def test_evaluation_does_without_torchs_compiler():
    """Its import takes seconds, and `torch.utils.checkpoint` does it at the first call."""
    done = subprocess.run([sys.executable, "-c", EVALUATION], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
