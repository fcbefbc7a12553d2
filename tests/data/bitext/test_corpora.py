"""Language pairs in a data-bin folder."""

import pytest
from helpers.checkpoints import TOKENIZER, VOCABULARY

from ppa_fairseq.checkpoints.tokenizer import ModelTokenizer
from ppa_fairseq.data.bitext.corpora import check_vocabulary
from ppa_fairseq.data.dictionary import WordPieceDictionary


@pytest.mark.parametrize("has_tokenizer", [True, False], ids=["with tokenizer", "without"])
def test_data_without_a_tokenizer_is_warned_of(caplog, has_tokenizer):
    tokenizer = ModelTokenizer(TOKENIZER, "model") if has_tokenizer else None
    check_vocabulary(WordPieceDictionary(VOCABULARY, tokenizer=tokenizer), TOKENIZER, "model")
    assert ("the data folder has no tokenizer files" in caplog.text) is not has_tokenizer
