"""Write an encoder for onnxruntime: fp32 and int8, checked against transformers.

  ppa export-onnx checkpoint_best.pt aligned-onnx --pairs tatoeba/
  python -c 'import onnxruntime as o; print(o.InferenceSession("aligned-onnx/onnx/model.onnx").get_inputs())'

OUT gets the tokenizer, config.json, onnx/model.onnx and onnx/model_quantized.onnx. Inputs are input_ids and
attention_mask; outputs are last_hidden_state and sentence_embedding, of unit length. Needs
`pip install ppa_fairseq[onnx]`. int8 keeps in fp32 the layers that narrow (after the GELU), whose inputs have outliers.
"""

import argparse
import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.checkpoints.tokenizer import write_files
from ppa_fairseq.commands.export_hf import CONFIG_FILE, write_model
from ppa_fairseq.evaluation.retrieval.pair_sets import find_pair_sets, read_pairs, text_numbers
from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.extras import load_extra
from ppa_fairseq.utils.files import output_folder
from ppa_fairseq.utils.markdown import markdown_table

FILES = {"fp32": "model.onnx", "int8": "model_quantized.onnx"}
LEAST = {"fp32": 0.9999, "int8": 0.99}  # mean cosine to transformers' vectors
INPUTS = ["input_ids", "attention_mask"]
SENTENCES = ("A dog sleeps.", "Ein Hund schläft.", "Собака спит.", "एक कुत्ता सो रहा है।", "一只狗在睡觉。", "dog " * 40)
MOST_PAIRS = 300  # of each set


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("checkpoint", metavar="CKPT", type=Path, help="checkpoint, imported folder or Hugging Face folder")
    add("out", metavar="OUT", type=Path, help="new folder (an earlier export is replaced)")
    add("--pooling", choices=("cls", "mean"), help="sentence vector (default: as trained or imported, else mean)")
    add("--pairs", metavar="PATH", type=Path, nargs="+", default=[],
        help=f"sets of pairs, as for `ppa retrieve`: checks the vectors of the first {MOST_PAIRS} pairs of each, and "
        "what int8 costs in retrieval (default: a few built-in sentences)")  # fmt: skip


def run(args: argparse.Namespace) -> None:
    for module in ("onnx", "onnxscript", "onnxruntime"):
        load_extra(module, "onnx", "ppa export-onnx")
    sets = {found.name: read_pairs(found, MOST_PAIRS, None) for found in find_pair_sets(args.pairs)}
    with output_folder(args.out, "export-onnx") as folder:
        trained = checkpoint.read(args.checkpoint)
        tokenizer = trained.build_tokenizer(str(args.checkpoint)).backend
        tokenizer.enable_truncation(trained.max_length)
        pooling = args.pooling or trained.pooling or "mean"
        write_files(trained.tokenizer, folder)
        paths = {kind: folder / "onnx" / name for kind, name in FILES.items()}
        paths["fp32"].parent.mkdir()
        with _quiet():
            model = _model(folder, trained, pooling)
            _write_fp32(model, paths["fp32"])
            _write_int8(paths["fp32"], paths["int8"])
        texts = [text for sides in sets.values() for side in sides for text in side] or list(SENTENCES)
        rows = _check(model, paths, tokenizer, texts, sets)
    print(f"{markdown_table(rows)}\n{args.out}: onnx/{', onnx/'.join(FILES.values())}, {pooling} pooling")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of torch's exporter and of the quantizer, none of which a user can act on."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _model(folder: Path, trained, pooling: str):
    """transformers' model with pooling, in eval mode; leaves its config.json in *folder*."""
    import torch
    from transformers import AutoModel

    class SentenceModel(torch.nn.Module):
        def __init__(self, encoder):
            super().__init__()
            self.encoder = encoder

        def forward(self, input_ids, attention_mask):
            hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            if pooling == "cls":
                vector = hidden[:, 0]
            else:
                mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
                vector = (hidden * mask).sum(1) / mask.sum(1)
            return hidden, torch.nn.functional.normalize(vector, dim=1)

    with TemporaryDirectory() as scratch:
        trained.state = {name: weight.float() for name, weight in trained.state.items()}
        write_model(Path(scratch), trained)
        (folder / CONFIG_FILE).write_bytes((Path(scratch) / CONFIG_FILE).read_bytes())
        return SentenceModel(AutoModel.from_pretrained(scratch)).eval()


def _write_fp32(model, path: Path) -> None:
    import torch

    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    ids = torch.arange(8).reshape(2, 4)
    torch.onnx.export(
        model, (ids, torch.ones_like(ids)), path, dynamo=True, external_data=False, verbose=False,
        input_names=INPUTS, output_names=["last_hidden_state", "sentence_embedding"], dynamic_shapes=(sizes, sizes),
    )  # fmt: skip


def _write_int8(source: Path, path: Path) -> None:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = onnx.load(source).graph
    shapes = {weight.name: weight.dims for weight in graph.initializer if len(weight.dims) == 2}
    narrowing = [
        node.name
        for node in graph.node
        if node.op_type == "MatMul" and any(name in shapes and shapes[name][0] > shapes[name][1] for name in node.input)
    ]
    kinds = ["MatMul", "Gather"]
    quantize_dynamic(source, path, kinds, per_channel=True, weight_type=QuantType.QInt8, nodes_to_exclude=narrowing)


def _check(model, paths: dict[str, Path], tokenizer, texts: list[str], sets: dict) -> list[list[str]]:
    """A table of size, speed, cosine and retrieval. Raises InputError if fp32 differs from transformers."""
    import torch

    def by_torch(ids):
        with torch.inference_mode():
            return model(torch.from_numpy(ids), torch.ones(ids.shape, dtype=torch.long))[1].numpy()

    expected, seconds = _vectors(by_torch, tokenizer, texts)
    rows = [["", "MB", "sentences/s", "mean cosine", "least", *(["retrieval, %"] if sets else [])]]
    rows.append(["transformers", "", f"{len(texts) / seconds:,.0f}", "", "", *_retrieval(expected, sets)])
    for kind, path in paths.items():
        session = load_extra("onnxruntime", "onnx", path).InferenceSession(path, providers=["CPUExecutionProvider"])

        def by_onnx(ids, session=session):
            inputs = dict(zip(INPUTS, (ids, np.ones_like(ids)), strict=True))
            return session.run(["sentence_embedding"], inputs)[0]

        found, seconds = _vectors(by_onnx, tokenizer, texts)
        cosines = (found * expected).sum(axis=1)
        if kind == "fp32" and not cosines.min() >= LEAST[kind]:
            fault = f"its fp32 vectors differ from transformers' (cosine {cosines.min():.5f})"
            raise InputError(f"{path.name}: {fault}; this model cannot be exported")
        note = "" if cosines.mean() >= LEAST[kind] else f" (below {LEAST[kind]})"
        size, speed = path.stat().st_size / 1e6, len(texts) / seconds
        cells = [f"{size:,.0f}", f"{speed:,.0f}", f"{cosines.mean():.5f}{note}", f"{cosines.min():.5f}"]
        rows.append([kind, *cells, *_retrieval(found, sets)])
    return rows


def _vectors(embed, tokenizer, texts: list[str]) -> tuple[np.ndarray, float]:
    """Vectors of all texts, (N, C), one at a time, and the seconds that it took."""
    encoded = [np.array([encoding.ids], dtype=np.int64) for encoding in tokenizer.encode_batch(texts)]
    start = time.perf_counter()
    return np.concatenate([embed(ids) for ids in encoded]), time.perf_counter() - start


def _retrieval(vectors: np.ndarray, sets: dict) -> list[str]:
    """Top-1 accuracy over all sets and both directions; no cell without sets."""
    import torch

    from ppa_fairseq.evaluation.retrieval.accuracy import retrieval_accuracy

    found, start = [], 0
    for sides in sets.values():
        count = len(sides[0])
        both = [torch.from_numpy(vectors[place : place + count]) for place in (start, start + count)]
        found += retrieval_accuracy(*both, texts=tuple(torch.from_numpy(text_numbers(side)) for side in sides))
        start += 2 * count
    return [f"{np.mean(found):.2f}"] if found else []
