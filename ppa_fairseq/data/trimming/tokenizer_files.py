"""A tokenizer's files with a part of the vocabulary: the same order, new ids without gaps."""

import json
from tempfile import TemporaryDirectory

from ppa_fairseq.checkpoints.tokenizer import ModelTokenizer, read_files, write_files
from ppa_fairseq.utils.errors import InputError

TRIMMABLE = ("WordPiece", "Unigram")


def cut_files(texts: dict[str, str], kept: list[int], source: str) -> dict[str, str]:
    """Return *texts* with the ids *kept* alone, which are ascending; the k-th of them becomes id k.

    *kept* must include all added tokens; *source* names the tokenizer in messages. Raises InputError if the tokenizer
    is of another kind than `TRIMMABLE`, or if its files then have other tokens than these.
    """
    with TemporaryDirectory() as folder:  # into the form that transformers writes today
        write_files(texts, folder)
        texts = read_files(folder)
    new_id = {old: new for new, old in enumerate(kept)}
    content = json.loads(texts["tokenizer.json"])
    model = content["model"]
    if model["type"] not in TRIMMABLE:
        raise InputError(f"{source}: its tokenizer is a {model['type']}; only {' and '.join(TRIMMABLE)} can be trimmed")
    if model["type"] == "WordPiece":
        model["vocab"] = {token: new_id[index] for token, index in model["vocab"].items() if index in new_id}
    else:  # tokens with their scores, at their ids
        model["vocab"] = [entry for index, entry in enumerate(model["vocab"]) if index in new_id]
        model["unk_id"] = new_id[model["unk_id"]]
    content["added_tokens"] = [token | {"id": new_id[token["id"]]} for token in content["added_tokens"]]
    content["post_processor"] = _renumber(content["post_processor"], new_id)
    cut = texts | {"tokenizer.json": json.dumps(content, ensure_ascii=False)}
    if "vocab.txt" in texts:
        lines = texts["vocab.txt"].split("\n")
        cut["vocab.txt"] = "".join(f"{lines[index]}\n" for index in kept if lines[index:])
    whole = ModelTokenizer(texts, source).symbols
    if ModelTokenizer(cut, source).symbols != [whole[index] for index in kept]:
        raise InputError(f"{source}: its tokenizer keeps ids where `ppa trim-vocab` cannot change them")
    return cut


def _renumber(value, new_id: dict[int, int]):
    """A post-processor with new ids: they stand in lists named "ids" and in pairs like ["[SEP]", 102]."""
    if isinstance(value, dict):
        return {k: [new_id[i] for i in v] if k == "ids" else _renumber(v, new_id) for k, v in value.items()}
    if isinstance(value, list):
        if [type(item) for item in value] == [str, int]:
            return [value[0], new_id[value[1]]]
        return [_renumber(item, new_id) for item in value]
    return value
