"""Fixtures of several commands' tests."""

import json

import pytest
from helpers.bitext_data import TOKENIZER
from helpers.hf_folders import make_bert, make_xlm_roberta

from ppa_fairseq.checkpoints import tokenizer
from ppa_fairseq.commands import main as cli


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """{family: Hugging Face folder}, masked language models of random weights; BERT's vocabulary has letters alone."""
    paths = {name: tmp_path_factory.mktemp(name) for name in ("bert", "xlmr")}
    make_bert(paths["bert"])
    make_xlm_roberta(paths["xlmr"])
    return paths


@pytest.fixture(scope="session")
def letters(tmp_path_factory):
    """A folder with the tokenizer of `helpers.bitext_data`."""
    folder = tmp_path_factory.mktemp("letters")
    tokenizer.write_files(TOKENIZER, folder)
    return folder


@pytest.fixture
def prepare(letters, tmp_path, capsys):
    """``prepare("de-en=…", "--shards", "2")``: run the command; its output folder, statistics and table."""

    def run(*arguments, out="text", status=0):
        folder = tmp_path / out
        command = ["prepare-bitext", "--tokenizer", str(letters), "--out", str(folder)]
        command += ["--workers", "1", "--valid-share", "0.2"]
        found = cli.main([*command, *map(str, arguments)])
        printed = capsys.readouterr()
        assert found == status, printed.err
        if status:
            return printed.err.splitlines()[-1]
        return folder, json.loads((folder / "statistics.json").read_text()), printed.out + printed.err

    return run
