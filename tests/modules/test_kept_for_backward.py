"""What a layer keeps for its backward pass: nothing that is quick to make again, and the same gradients with less."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F

from ppa_fairseq.modules import attention as packed_attention
from ppa_fairseq.modules import bert as bert_encoder
from ppa_fairseq.modules.bert import BertEncoder, BertShape
from ppa_fairseq.modules.dropout import draw, drop
from ppa_fairseq.modules.dropout_attention import DropoutAttention
from ppa_fairseq.modules.feed_forward import FeedForward
from ppa_fairseq.modules.packing import pack

LENGTHS = [16] * 24  # without padding
SHAPE = BertShape(50, layers=3, dim=32, ffn_dim=128, heads=4, max_positions=16, dropout=0.1, attention_dropout=0.1)


def encoder(dtype: torch.dtype = torch.float32) -> BertEncoder:
    torch.manual_seed(0)
    return BertEncoder(SHAPE).to(dtype).train()


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


def test_a_layer_keeps_what_it_needs_and_no_more():
    tokens, width = sum(LENGTHS), SHAPE.dim
    rows = tokens * width
    # In numbers of 4 bytes: the layer's input; query, key and value; what they attend to; both LayerNorms' inputs, the
    # first one's output; the feed-forward layer before GELU; and two bytes for each draw of a dropout.
    layer = rows * (1 + 3 + 1 + 2 + 1) + tokens * SHAPE.ffn_dim + 2 * rows // 2
    attended = sum(length**2 for length in LENGTHS) * SHAPE.heads
    layer += attended // 2  # draws
    more = encoder()
    more.layers.append(bert_encoder.BertLayer(SHAPE).train())
    found = kept_bytes(more) - kept_bytes(encoder())  # of one layer
    slack = 32 * tokens  # LayerNorm's mean and deviation, places
    assert 4 * layer <= found <= 4 * layer + slack


def test_under_autocast_gelus_output_is_not_kept_either(monkeypatch):
    found = []
    for kept in (False, True):
        if kept:
            monkeypatch.setattr(bert_encoder, "checkpoint", lambda part, wide, **_: part(wide))
        with torch.autocast("cpu", torch.bfloat16):
            size, model = kept_bytes(encoder()), encoder()
            torch.manual_seed(2)
            hidden = model(**batch())["hidden"]
        hidden.float().square().mean().backward()
        found.append((size, [weight.grad for weight in model.parameters() if weight.grad is not None]))
    (less, gradients), (more, expected) = found
    assert more - less >= SHAPE.layers * sum(LENGTHS) * SHAPE.ffn_dim * 2  # bytes of bfloat16
    assert len(gradients) > 40
    torch.testing.assert_close(gradients, expected, rtol=0, atol=0)


def test_a_backward_pass_may_follow_an_evaluation():
    """What is used again is first made in inference mode here: in a new thread, which has none yet."""

    def evaluate_and_train():
        model = encoder()
        with torch.inference_mode():
            model(**batch())
        model(**batch())["hidden"].sum().backward()
        return model.layers[0].fc1.weight.grad

    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(evaluate_and_train).result().abs().max() > 0


EVALUATION = """
import sys, torch
from ppa_fairseq.modules.bert import BertEncoder, BertShape
from ppa_fairseq.modules.packing import pack
encoder = BertEncoder(BertShape(9, layers=1, dim=8, ffn_dim=8, heads=2, max_positions=8)).eval()
with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=AUTOCAST):
    encoder(**pack([torch.arange(5)]))
print("torch._dynamo" in sys.modules)
"""


@pytest.mark.parametrize("autocast", ["False", "True"])
def test_evaluation_does_without_torchs_compiler(autocast):
    """Its import takes seconds, and `torch.utils.checkpoint` does it at the first call."""
    code = EVALUATION.replace("AUTOCAST", autocast)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def written_out(query, key, value, mask, p):
    scores = (query * query.size(-1) ** -0.5) @ key.transpose(-2, -1)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    probabilities = scores.softmax(-1)
    kept = drop(torch.ones_like(probabilities), draw(probabilities.shape), p)
    return (probabilities * kept) @ value


def plain_feed_forward(hidden, weight1, bias1, weight2, bias2):
    return F.linear(F.gelu(F.linear(hidden, weight1, bias1)), weight2, bias2)


def test_the_feed_forward_layer_has_autograds_gradients_whatever_came_before():
    """Sizes grow and shrink: the scratch space is made anew, or has more in it than is asked for."""
    for rows in (5, 9, 2):
        torch.manual_seed(rows)
        inputs = [torch.randn(size, dtype=torch.float64).requires_grad_() for size in ((rows, 4), (6, 4), 6, (4, 6), 4)]
        weight = torch.randn(rows, 4, dtype=torch.float64)
        results = []
        for function in (FeedForward.apply, plain_feed_forward):
            out = function(*inputs)
            results.append((out, *torch.autograd.grad((out * weight).sum(), inputs)))
        for ours, autograds in zip(*results, strict=True):
            torch.testing.assert_close(ours, autograds, rtol=1e-12, atol=1e-12)


def test_attention_with_dropout_has_autograds_gradients():
    torch.manual_seed(0)
    query, key, value = (torch.randn(3, 2, rows, 4, dtype=torch.float64).requires_grad_() for rows in (5, 7, 7))
    mask = (torch.arange(7) < torch.tensor([7, 4, 1])[:, None])[:, None, None]
    weight = torch.randn(3, 2, 5, 4, dtype=torch.float64)
    results = []
    for attention in (DropoutAttention.apply, written_out):
        torch.manual_seed(1)
        out = attention(query, key, value, mask, 0.3)
        results.append((out, *torch.autograd.grad((out * weight).sum(), (query, key, value))))
    for ours, autograds in zip(*results, strict=True):
        torch.testing.assert_close(ours, autograds, rtol=1e-12, atol=1e-12)


def test_training_is_as_if_all_were_kept(monkeypatch):
    """Output and gradients of the encoder with its own backward passes against autograd's."""
    results = []
    for kept in (False, True):
        if kept:
            monkeypatch.setattr(bert_encoder.FeedForward, "apply", plain_feed_forward)
            monkeypatch.setattr(packed_attention.DropoutAttention, "apply", written_out)
        model = encoder(torch.float64)
        torch.manual_seed(2)
        hidden = model(**batch())["hidden"]
        F.mse_loss(hidden, torch.ones_like(hidden)).backward()
        results.append([hidden, *(weight.grad for weight in model.parameters() if weight.grad is not None)])
    assert len(results[0]) > 40
    for less, all_kept in zip(*results, strict=True):
        torch.testing.assert_close(less, all_kept, rtol=1e-10, atol=1e-12)
