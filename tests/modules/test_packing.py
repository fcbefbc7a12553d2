"""Packed batches, pooling and attention against loops over single sequences."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from ppa_fairseq.modules.attention import PaddedAttention, VarlenAttention, varlen_runs, written_out
from ppa_fairseq.modules.bert import BertEncoder, BertShape
from ppa_fairseq.modules.packing import concatenate, pack, pool, some_sequences

LENGTHS = [3, 9, 1, 17, 8, 9, 2]


def sequences(lengths=LENGTHS):
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(0, 100, (length,), generator=generator) for length in lengths]


def test_pack_lays_sequences_end_to_end():
    packed = pack(sequences([3, 1]), [torch.tensor([0, 1, 1]), torch.tensor([1])])
    tokens = torch.cat(sequences([3, 1])).tolist()
    values = {name: value.tolist() if torch.is_tensor(value) else value for name, value in packed.items()}
    assert values == {
        "tokens": tokens, "positions": [0, 1, 2, 0], "token_types": [0, 1, 1, 1], "cu_seqlens": [0, 3, 4],
        "lengths": [3, 1], "max_length": 3,
    }  # fmt: skip
    assert packed["cu_seqlens"].dtype == torch.int32 and not pack(sequences())["token_types"].any()


@pytest.mark.parametrize("lengths", [[], [3, 0, 2]])
def test_pack_refuses_what_has_no_cls(lengths):
    with pytest.raises(ValueError, match="cannot pack"):
        pack(sequences(lengths))


def test_pool_equals_a_loop_with_its_gradient():
    packed = pack(sequences())
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(sum(LENGTHS), 5, generator=generator, requires_grad=True)
    weight = torch.randn(len(LENGTHS), 5, generator=generator)
    for mode, one in (("cls", lambda rows: rows[0]), ("mean", lambda rows: rows.sum(0) / len(rows))):
        expected = torch.stack([one(rows) for rows in hidden.split(LENGTHS)])
        pooled = pool(hidden, packed["cu_seqlens"], mode)
        torch.testing.assert_close(pooled, expected, rtol=0, atol=1e-6)
        gradients = [torch.autograd.grad((x * weight).sum(), hidden)[0] for x in (pooled, expected)]
        torch.testing.assert_close(*gradients, rtol=0, atol=1e-6)


def test_mean_in_half_precision_sums_in_fp32():
    # 4096 + 1 is 4096 in fp16: a running sum would lose all the ones.
    hidden = torch.ones(4096, 1, dtype=torch.float16)
    hidden[0] = 4096
    mean = pool(hidden, torch.tensor([0, 4096], dtype=torch.int32), "mean")
    assert mean.dtype == torch.float16
    assert mean.item() == torch.tensor((4096 + 4095) / 4096).half().item()


def attention_by_loops(qkv, lengths):
    """softmax(q k / sqrt D) v of each sequence alone, in float64."""
    outputs = []
    for one in qkv.double().split(lengths):
        query, key, value = one.unbind(1)  # (L, H, D)
        scores = torch.einsum("ihd,jhd->hij", query, key) / query.size(-1) ** 0.5
        outputs.append(torch.einsum("hij,jhd->ihd", scores.softmax(-1), value))
    return torch.cat(outputs)


@pytest.mark.parametrize("width", [1, 4, 8, 17, 64])
def test_padded_attention_equals_loops_however_sequences_are_grouped(width):
    generator = torch.Generator().manual_seed(2)
    qkv = torch.randn(sum(LENGTHS), 3, 2, 4, generator=generator, requires_grad=True)
    weight = torch.randn(sum(LENGTHS), 2, 4, generator=generator)
    attended = PaddedAttention(LENGTHS, width, 0.0, torch.device("cpu"))(qkv)
    expected = attention_by_loops(qkv, LENGTHS)
    torch.testing.assert_close(attended.double(), expected, rtol=0, atol=1e-6)
    gradients = [torch.autograd.grad((x * weight).sum(), qkv)[0] for x in (attended, expected)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-5)


def test_dropout_drops_probabilities_of_real_keys_and_keeps_their_mean():
    # Equal keys: each probability is 1/L. The value of token j is one-hot j: the output shows what was kept.
    lengths, p, length = [5, 8, 20], 0.25, 33
    qkv = torch.zeros(length, 3, 1, 20)
    qkv[:, 2, 0] = torch.cat([torch.eye(20)[:n] for n in lengths])
    attention = PaddedAttention(lengths, 8, p, torch.device("cpu"))
    torch.manual_seed(0)
    rounds = torch.stack([attention(qkv) for _ in range(300)]).squeeze(2)  # (rounds, T, 20)
    start = 0
    for n in lengths:
        block = rounds[:, start : start + n]
        start += n
        assert (block[:, :, n:] == 0).all()
        kept = block[:, :, :n]
        scaled = torch.tensor(1 / n / (1 - p))
        assert torch.isclose(kept, torch.zeros(())).logical_or(torch.isclose(kept, scaled)).all()
        share = (kept == 0).float().mean().item()
        assert abs(share - p) < 5 * (p * (1 - p) / kept.numel()) ** 0.5


def test_varlen_attention_agrees_with_torch_on_shapes():
    # No GPU here: torch's own shape function checks the arguments, forward and backward.
    qkv = torch.empty(18, 3, 4, 8, dtype=torch.float16, device="meta", requires_grad=True)
    output = VarlenAttention(torch.empty(5, dtype=torch.int32, device="meta"), 6, dropout=0.1)(qkv)
    output.sum().backward()
    assert output.shape == (18, 4, 8) and qkv.grad.shape == qkv.shape


def needs_flash_attention():
    if not torch.cuda.is_available() or not varlen_runs(torch.device("cuda"), torch.float16, 16):
        pytest.skip("needs a GPU with FlashAttention")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_varlen_attention_equals_loops(dtype):
    needs_flash_attention()
    qkv = torch.randn(sum(LENGTHS), 3, 2, 16, device="cuda", dtype=dtype, requires_grad=True)
    weight = torch.randn(sum(LENGTHS), 2, 16, device="cuda")
    attended = VarlenAttention(pack(sequences())["cu_seqlens"].cuda(), 17)(qkv)
    expected = attention_by_loops(qkv, LENGTHS)
    torch.testing.assert_close(attended.double(), expected, rtol=0, atol=2e-2)
    gradients = [torch.autograd.grad((x * weight).sum(), qkv)[0] for x in (attended, expected)]
    torch.testing.assert_close(*gradients, rtol=0, atol=5e-2)


def test_varlen_attention_reads_some_queries_of_each_sequence():
    """Of some sequences none. What the kernel leaves unwritten would be a gradient of NaN."""
    needs_flash_attention()
    counts = [n % 3 for n in range(len(LENGTHS))]
    assert 0 in counts
    starts = pack(sequences())["cu_seqlens"]
    places = torch.cat([start + torch.arange(n) for start, n in zip(starts, counts, strict=False)]).long().cuda()
    qkv = torch.randn(sum(LENGTHS), 3, 2, 16, device="cuda", dtype=torch.float16, requires_grad=True)
    weight = torch.randn(len(places), 2, 16, device="cuda")
    unwritten = [torch.full((2**n,), torch.nan, device="cuda", dtype=torch.float16) for n in range(8, 24)]
    del unwritten  # the memory of the results
    attended = VarlenAttention(starts.cuda(), 17, counts).attend_selected(qkv[places, 0], qkv[:, 1:])
    expected = attention_by_loops(qkv, LENGTHS)[places]
    torch.testing.assert_close(attended.double(), expected, rtol=0, atol=2e-2)
    gradients = [torch.autograd.grad((x * weight).sum(), qkv)[0] for x in (attended, expected)]
    torch.testing.assert_close(*gradients, rtol=0, atol=5e-2)


def test_varlen_attention_drops_probabilities_and_keeps_their_mean():
    """Equal keys: each probability is 1/L. The value of token j is one-hot j: the output shows what was kept."""
    needs_flash_attention()
    n, p = 16, 0.25
    qkv = torch.zeros(4 * n, 3, 1, n, device="cuda", dtype=torch.float16, requires_grad=True)
    with torch.no_grad():
        qkv[:, 2, 0] = torch.eye(n).repeat(4, 1)
    attention = VarlenAttention(torch.arange(0, 5 * n, n, dtype=torch.int32, device="cuda"), n, dropout=p)
    torch.manual_seed(0)
    kept = torch.stack([attention(qkv) for _ in range(100)]).squeeze(2)  # (rounds, 4 n, n)
    scaled = torch.tensor(1 / n / (1 - p), device="cuda", dtype=torch.float16)
    assert (kept == 0).logical_or(torch.isclose(kept, scaled)).all()
    assert abs((kept == 0).float().mean().item() - p) < 5 * (p * (1 - p) / kept.numel()) ** 0.5
    gradients = []
    for _ in range(2):  # the backward pass draws the same
        torch.manual_seed(1)
        output = attention(qkv)
        gradient = torch.autograd.grad(output.sum(), qkv)[0][:, 2, 0]  # of value j: the weights that it got
        per_sequence = output.detach().view(4, n, n).sum(1)
        torch.testing.assert_close(gradient.sum(-1).view(4, n) / n, per_sequence, rtol=0, atol=2e-3)
        gradients.append(gradient)
    assert torch.equal(*gradients)


def test_packed_batches_are_cut_and_joined_as_if_packed_alone():
    whole = pack(sequences())
    first, second = some_sequences(whole, (0, 3)), some_sequences(whole, (3, len(LENGTHS)))
    for found, expected in ((first, pack(sequences()[:3])), (concatenate(first, second), whole)):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert torch.equal(found[name], value) if torch.is_tensor(value) else found[name] == value, name


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
def test_written_out_attention_is_torchs(masked):
    torch.manual_seed(0)
    parts = [torch.randn(3, 2, 9, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    mask = (torch.arange(9) < torch.tensor([9, 4, 1])[:, None])[:, None, None] if masked else None
    target, results = torch.randn(3, 2, 9, 4, dtype=torch.float64), []
    for attend in (lambda *qkv: written_out(*qkv, mask, 0.0), lambda *qkv: scaled_dot_product_attention(*qkv, mask)):
        attended = attend(*parts)
        results.append([attended, *torch.autograd.grad((attended * target).sum(), parts)])
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)


def test_bf16_on_a_cpu_follows_fp32():
    """Hidden states within 1 % of their norm, the gradient of each weight within 5 %."""
    torch.manual_seed(0)
    encoder = BertEncoder(BertShape(vocab_size=60, layers=3, dim=32, ffn_dim=64, heads=4, dropout=0.0)).eval()
    packed = pack([torch.randint(0, 60, (length,)) for length in (5, 9, 9, 17, 30)])
    target, results = torch.randn(len(packed["tokens"]), 32), []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            hidden = encoder(**packed)["hidden"]
        weights = [weight for name, weight in encoder.named_parameters() if "embed_token_types" not in name]
        results.append([hidden, *torch.autograd.grad((hidden.float() * target).sum(), weights)])
    assert results[1][0].dtype == torch.bfloat16
    for number, (fp32, bf16) in enumerate(zip(*results, strict=True)):
        assert (bf16 - fp32).norm() <= (0.05 if number else 0.01) * fp32.norm(), number
