"""Fixtures for several test files: the large test data, a tiny vocabulary, a tiny model, a tiny data-bin folder."""

import logging
import os
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch
from helpers import training

# The re-builds of fairseq bring a torchaudio that a CPU-only torch cannot load; transformers imports it if it is there.
sys.modules.setdefault("torchaudio", None)


def pytest_configure(config):
    torch.set_num_threads(1)
    # Tests compare to an oracle's fp32 on every CPU; tests/modules/test_cpu.py asks for bfloat16 by flag.
    torch.cpu._is_avx512_bf16_supported = torch.cpu._is_amx_tile_supported = lambda: False
    # Else fairseq's tools, when imported, send all logging to the captured output of the test that is running then.
    logging.root.addHandler(logging.NullHandler())


@pytest.fixture(scope="session")
def shared_data(tmp_path_factory):
    """``shared_data("standin")`` unpacks a data set or an encoder from $PPA_TEST_DATA and returns its path.

    It skips the test where the variable is not set: the repository does not hold these data.
    """
    folder, source = tmp_path_factory.mktemp("test-data"), os.environ.get("PPA_TEST_DATA")

    def unpack(name: str) -> Path:
        if not source:
            pytest.skip(f"needs {name}; set PPA_TEST_DATA to the folder of large test data")
        path = folder / ("mbert-vocab.txt" if name == "mbert-vocab" else name)
        if not path.exists():
            subprocess.run(["bash", Path(source, "unpack.sh"), folder, name], check=True)
        return path

    return unpack


@pytest.fixture(scope="session")
def dictionary():
    """Ten entries of BERT's own, then 200 words."""
    from ppa_fairseq.data.dictionary import WordPieceDictionary

    own = ["[PAD]", *(f"[unused{i}]" for i in range(1, 6)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return WordPieceDictionary(own + [f"w{i}" for i in range(200)])


@pytest.fixture
def make_model(dictionary):
    """``make_model(pooling="mean", …)``: a tiny PPA model with the same weights every time."""
    from ppa_fairseq.checkpoints import format as checkpoint
    from ppa_fairseq.models._config import shape_of
    from ppa_fairseq.models.ppa import PPAModel, PPAModelConfig
    from ppa_fairseq.modules.bert import BertShape

    def build(**settings):
        sizes = BertShape(layers=2, dim=16, ffn_dim=32, heads=2, max_positions=64, dropout=0.0, attention_dropout=0.0)
        others = dict(projection_dim=8, queue_size=16, contrastive_weight=1.0, negatives="queue", tlm_weight=1.0)
        others |= dict(tlm_language_embeddings=False)
        cfg = PPAModelConfig(**(checkpoint.sizes_in_cfg(sizes) | others | settings))
        torch.manual_seed(0)
        return PPAModel(cfg, shape_of(cfg, dictionary), dictionary, num_languages=3)

    return build


@pytest.fixture
def make_criterion(dictionary):
    """``make_criterion(temperature=0.1, …)``: the criterion, outside fairseq's trainer."""
    from ppa_fairseq.criterions.ppa import PPACriterion, PPACriterionConfig

    def build(**settings):
        return PPACriterion(PPACriterionConfig(**settings), SimpleNamespace(target_dictionary=dictionary))

    return build


@pytest.fixture
def make_dataset(dictionary):
    """``make_dataset(sizes={"de-en": 9}, …)``: pairs of random words, of 3 to 12 WordPieces a side."""
    from fairseq.data import ListDataset

    from ppa_fairseq.data.bitext.dataset import AlignmentDataset, ParallelCorpus
    from ppa_fairseq.data.bitext.masking import MaskingScheme

    def build(sizes=None, seed=1, **settings):
        rng = np.random.default_rng(0)

        def side(count):
            rows = [[*rng.integers(10, len(dictionary), rng.integers(3, 13)), dictionary.eos()] for _ in range(count)]
            return ListDataset([torch.tensor(row) for row in rows], np.array([len(row) for row in rows]))

        corpora = [
            ParallelCorpus(number, *name.split("-"), side(count), side(count))
            for number, (name, count) in enumerate((sizes or {"de-en": 9, "fr-en": 5}).items())
        ]
        settings.setdefault("masking", MaskingScheme.for_dictionary(dictionary, 0.15))
        return AlignmentDataset(corpora, dictionary, seed=seed, **settings)

    return build


@pytest.fixture(scope="session")
def data_bin(tmp_path_factory, dictionary):
    """A data-bin folder of two pairs, made by fairseq-preprocess: `de` and `fr` are ciphers of `en`."""
    from fairseq_cli import preprocess

    import ppa_fairseq.tasks.ppa_alignment  # noqa: F401  (fairseq does it where the package is not imported yet)

    root, rng = tmp_path_factory.mktemp("data"), random.Random(0)
    dictionary.save(str(root / "dict.txt"))
    for pair, sizes in {"de-en": {"train": 75, "valid": 13}, "fr-en": {"train": 40, "valid": 9}}.items():
        language = pair[:2]
        for split, count in sizes.items():
            english = [[rng.randrange(100) for _ in range(rng.randint(3, 9))] for _ in range(count)]
            for name, shift in (("en", 0), (language, 100)):
                text = "".join(" ".join(f"w{shift + word}" for word in row) + "\n" for row in english)
                (root / f"{split}.{pair}.{name}").write_text(text)
        arguments = f"""--user-dir ppa_fairseq --task ppa_alignment -s {language} -t en --destdir {root}/bin
            --srcdict {root}/dict.txt --tgtdict {root}/dict.txt
            --trainpref {root}/train.{pair} --validpref {root}/valid.{pair}"""
        with mock.patch.object(sys, "argv", ["fairseq-preprocess", *arguments.split()]):
            preprocess.cli_main()
    return root / "bin"


@pytest.fixture
def train(data_bin, tmp_path):
    """``train("--max-update", "6", …)`` runs fairseq-train in this process and returns its last checkpoint."""

    def run(*arguments, save_dir="checkpoints", data=data_bin):
        return training.run_training([str(data), *training.TINY_TRAINING, *arguments], tmp_path / save_dir)

    return run


@pytest.fixture
def imported(tmp_path, dictionary):
    """What `ppa import-hf` would write for a tiny BERT under the data's vocabulary."""
    from ppa_fairseq.checkpoints import format as checkpoint
    from ppa_fairseq.checkpoints import huggingface
    from ppa_fairseq.checkpoints.weights import Checkpoint
    from ppa_fairseq.modules.bert import BertEncoder, BertShape

    def write(symbols=tuple(dictionary.symbols), **sizes):
        shape = BertShape(len(symbols), **(dict(layers=1, dim=16, ffn_dim=32, heads=2, max_positions=64) | sizes))
        torch.manual_seed(3)
        state = {f"encoder.{name}": weight for name, weight in BertEncoder(shape).state_dict().items()}
        state |= huggingface.initial_head(shape, torch.float32)
        texts = {"vocab.txt": "".join(symbol + "\n" for symbol in symbols), "tokenizer_config.json": "{}"}
        checkpoint.write(tmp_path / "imported" / "model.pt", Checkpoint(shape, state, texts))
        return tmp_path / "imported"

    return write
