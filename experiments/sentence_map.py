"""Compare translated sentences with English, and map the sentences of all languages to a plane.

    python experiments/sentence_map.py OUT.npz --xnli DIR --model before=imported --model after=checkpoint.pt

OUT.npz has languages (L,) and for each model: similarity (L, M, M), cosines of the first M sentences (rows) with their
English versions, and coordinates (L, N, 2) of all N sentences from one t-SNE over all languages.
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.manifold import TSNE

from ppa_fairseq.checkpoints.format import load_encoder
from ppa_fairseq.commands.arguments import add_models_argument
from ppa_fairseq.data.nli.files import find_nli
from ppa_fairseq.evaluation.embedding import SentenceEmbedder
from ppa_fairseq.utils.files import atomic_path


def same_sentences(folder: Path, count: int) -> dict[str, list[str]]:
    """{language: its first distinct premises}; line by line, they are translations of each other."""
    data = find_nli([str(folder)])
    first = {row.premise: number for number, row in reversed(list(enumerate(data["en"])))}
    numbers = sorted(first.values())[:count]
    return {language: [rows[number].premise for number in numbers] for language, rows in data.items()}


def main(args: argparse.Namespace) -> None:
    sentences = same_sentences(args.xnli, args.sentences)
    arrays = {"languages": np.array(list(sentences))}
    for name, path in args.models:
        encoder, tokenizer = load_encoder(path)
        embed = SentenceEmbedder(encoder, tokenizer, [encoder.cfg.layers])
        vectors = np.stack([embed(texts)["mean"][0].numpy() for texts in sentences.values()])  # (L, N, C)
        vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
        few = vectors[:, : args.heatmap]
        arrays[f"{name}-similarity"] = few @ few[list(sentences).index("en")].T  # (L, M, M)
        flat = vectors.reshape(-1, vectors.shape[2])
        plane = TSNE(metric="cosine", perplexity=min(30, len(flat) // 4), random_state=0).fit_transform(flat)
        arrays[f"{name}-coordinates"] = plane.reshape(*vectors.shape[:2], 2)
    with atomic_path(args.out) as part, part.open("wb") as file:
        np.savez_compressed(file, **arrays)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--xnli", type=Path, required=True, help="files of the same rows in every language")
    add_models_argument(parser, "an encoder")
    parser.add_argument("--sentences", type=int, default=200, metavar="N")
    parser.add_argument("--heatmap", type=int, default=40, metavar="M")
    main(parser.parse_args())
