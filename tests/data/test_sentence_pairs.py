"""A sentence pair becomes the sequence of `tokenizers`, with its token types and truncation."""

from types import SimpleNamespace

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from ppa_fairseq.data.sentence_pairs import PairLayout

BERT = SimpleNamespace(bos=lambda: 0, eos=lambda: 1, between=[], second_type=1)
ROBERTA = SimpleNamespace(bos=lambda: 0, eos=lambda: 1, between=[1], second_type=0)
TEMPLATES = {
    "bert": ("[CLS] $A [SEP]", "[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1"),
    "roberta": ("[CLS] $A [SEP]", "[CLS]:0 $A:0 [SEP]:0 [SEP]:0 $B:0 [SEP]:0"),
}


def oracle(family: str, max_length: int) -> Tokenizer:
    vocabulary = {"[CLS]": 0, "[SEP]": 1, "[UNK]": 2, **{f"w{i}": 3 + i for i in range(20)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    single, pair = TEMPLATES[family]
    specials = [("[CLS]", 0), ("[SEP]", 1)]
    tokenizer.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=specials)
    tokenizer.enable_truncation(max_length, strategy="longest_first")
    return tokenizer


@pytest.mark.parametrize("family, dictionary", [("bert", BERT), ("roberta", ROBERTA)])
@pytest.mark.parametrize("max_length", [8, 64])
def test_a_sentence_alone_equals_tokenizers(family, dictionary, max_length):
    tokenizer, layout = oracle(family, max_length), PairLayout(dictionary, max_length, sentences=1)
    for length in range(15):
        tokens, token_types = layout.lay(3 + np.arange(length))
        expected = tokenizer.encode(" ".join(f"w{i}" for i in range(length)))
        assert tokens.tolist() == expected.ids and token_types.tolist() == expected.type_ids
        assert layout.length(length) == len(tokens)


@pytest.mark.parametrize("family, dictionary", [("bert", BERT), ("roberta", ROBERTA)])
@pytest.mark.parametrize("max_length", [8, 11, 12, 64])
def test_every_pair_of_lengths_equals_tokenizers(family, dictionary, max_length):
    tokenizer, layout = oracle(family, max_length), PairLayout(dictionary, max_length)
    for first in range(1, 15):
        for second in range(1, 15):
            words = [f"w{i}" for i in range(first)], [f"w{i}" for i in range(second)]
            expected = tokenizer.encode(" ".join(words[0]), " ".join(words[1]))
            tokens, token_types = layout.lay(3 + np.arange(first), 3 + np.arange(second))
            assert tokens.tolist() == expected.ids, (first, second)
            assert token_types.tolist() == expected.type_ids
            assert layout.length(first, second) == len(tokens)
