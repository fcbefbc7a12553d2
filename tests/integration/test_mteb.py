"""An exported model in mteb, offline on local data: bitext mining and STS give the numbers that we measure."""

import numpy as np
import pytest
import torch
from helpers.hf_folders import make_bert, sample_sentences
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer

from ppa_fairseq.checkpoints.format import load_encoder
from ppa_fairseq.commands import main as cli
from ppa_fairseq.evaluation.embedding import SentenceEmbedder
from ppa_fairseq.evaluation.retrieval.accuracy import retrieval_accuracy

mteb = pytest.importorskip("mteb", reason="needs the extra mteb")
datasets = pytest.importorskip("datasets")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    (folder / "hf").mkdir()
    make_bert(folder / "hf")
    assert cli.main(["export-hf", str(folder / "hf"), str(folder / "out")]) == 0
    return folder / "out"


@pytest.fixture(scope="module")
def pairs(exported):
    """Each sentence and its first words. All differ in tokens: where vectors tie, mteb takes the first, we none."""
    _, tokenizer = load_encoder(exported)
    found = {}
    for text in sample_sentences("train", 12):
        start = " ".join(text.split()[: 1 + 2 * len(text.split()) // 3]) + " ."
        found.setdefault(tuple(tokenizer.encode(start).ids), (text, start))
    return tuple(zip(*found.values(), strict=True))


@pytest.fixture(scope="module")
def vectors(exported, pairs):
    encoder, tokenizer = load_encoder(exported)
    embed = SentenceEmbedder(encoder, tokenizer, [2], ["mean"], cpu=True)
    return [embed(side)["mean"][0] for side in pairs]


def run(base, kind, main_score, columns, model):
    """The scores of a task of one data set, which is in memory."""

    class LocalTask(base):
        metadata = mteb.TaskMetadata(
            name=f"Local{kind}", description="Local data.", type=kind, category="t2t", modalities=["text"],
            dataset={"path": "local/data", "revision": "1"}, reference=None, eval_splits=["test"],
            eval_langs=["deu-Latn", "eng-Latn"], main_score=main_score,
        )  # fmt: skip
        min_score, max_score = 0, 5

        def load_data(self, **_):
            self.dataset = datasets.DatasetDict({"test": datasets.Dataset.from_dict(columns)})
            self.data_loaded = True

    result = mteb.evaluate(model, LocalTask(), cache=None, co2_tracker=False, show_progress_bar=False)
    return result.task_results[0].scores["test"][0]


def test_bitext_mining_is_retrieval_from_the_first_side(exported, pairs, vectors):
    columns = {"sentence1": list(pairs[0]), "sentence2": list(pairs[1])}
    model = SentenceTransformer(str(exported), device="cpu")
    found = run(mteb.abstasks.AbsTaskBitextMining, "BitextMining", "f1", columns, model)
    forward, _ = retrieval_accuracy(*vectors)
    assert 100 * found["accuracy"] == pytest.approx(forward, abs=1e-6)
    assert 5 < forward < 100


def test_sts_is_the_rank_correlation_of_our_cosines(exported, pairs, vectors):
    scores = np.linspace(0, 5, len(pairs[0])).tolist()
    columns = {"sentence1": list(pairs[0]), "sentence2": list(pairs[1]), "score": scores}
    model = SentenceTransformer(str(exported), device="cpu")
    found = run(mteb.abstasks.AbsTaskSTS, "STS", "cosine_spearman", columns, model)
    cosines = torch.nn.functional.cosine_similarity(*(side.double() for side in vectors))
    assert found["cosine_spearman"] == pytest.approx(spearmanr(cosines, scores).statistic, abs=1e-4)
