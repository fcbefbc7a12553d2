"""Fixtures of several commands' tests."""

import pytest
from helpers.hf_folders import make_bert, make_xlm_roberta


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """{family: Hugging Face folder}, masked language models of random weights; BERT's vocabulary has letters alone."""
    paths = {name: tmp_path_factory.mktemp(name) for name in ("bert", "xlmr")}
    make_bert(paths["bert"])
    make_xlm_roberta(paths["xlmr"])
    return paths
