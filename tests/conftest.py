"""What several test files need: the shared data, a tiny vocabulary, a tiny model, a tiny data-bin folder."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

# The re-builds of fairseq bring a torchaudio that a CPU-only torch cannot load; transformers imports it if it is there.
sys.modules.setdefault("torchaudio", None)

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_configure(config):
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data(tmp_path_factory):
    """``shared_data("standin")`` unpacks a data set or the stand-in encoder and returns its path, or skips the test."""
    folder = tmp_path_factory.mktemp("shared")

    def unpack(name: str) -> Path:
        if not (SHARED / "unpack.sh").exists():
            pytest.skip(f"needs the data set {name!r}, which is not part of the repository")
        path = folder / ("mbert-vocab.txt" if name == "mbert-vocab" else name)
        if not path.exists():
            subprocess.run(["bash", SHARED / "unpack.sh", folder, name], check=True)
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
    from ppa_fairseq.models.momentum_twin import MomentumTwin
    from ppa_fairseq.models.ppa import PPAModel, PPAModelConfig, shape_of

    def build(**settings):
        sizes = dict(
            encoder_layers=2,
            encoder_embed_dim=16,
            encoder_ffn_embed_dim=32,
            encoder_attention_heads=2,
            max_positions=64,
            token_types=2,
            layer_norm_eps=1e-12,
            position_offset=0,
            dropout=0.0,
            attention_dropout=0.0,
            projection_dim=8,
            queue_size=16,
            contrastive_weight=1.0,
            tlm_weight=1.0,
            tlm_language_embeddings=False,
        )
        cfg = PPAModelConfig(**(sizes | settings))
        torch.manual_seed(0)
        model = PPAModel(cfg, shape_of(cfg, len(dictionary)), dictionary, num_languages=3)
        model.twin = MomentumTwin(model.encoder, model.projection)
        return model

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
    import numpy as np
    from fairseq.data import ListDataset

    from ppa_fairseq.data.alignment_dataset import AlignmentDataset, ParallelCorpus
    from ppa_fairseq.data.masking import MaskingScheme

    def build(sizes=None, seed=1, **settings):
        rng = np.random.default_rng(0)

        def side(count):
            rows = [[*rng.integers(10, len(dictionary), rng.integers(3, 13)), dictionary.eos()] for _ in range(count)]
            return ListDataset([torch.tensor(row) for row in rows], np.array([len(row) for row in rows]))

        corpora = [
            ParallelCorpus(number, *name.split("-"), side(count), side(count))
            for number, (name, count) in enumerate((sizes or {"de-en": 9, "fr-en": 5}).items())
        ]
        scheme = MaskingScheme(0.15, dictionary.mask(), np.array(dictionary.random_ids()))
        settings.setdefault("masking", scheme)
        return AlignmentDataset(corpora, dictionary, seed=seed, **settings)

    return build
