"""A tokenizer's files with some of the vocabulary left out: the same order, new ids without gaps."""

import json

from ppa_fairseq.checkpoints.tokenizer_files import symbols
from ppa_fairseq.utils.errors import InputError


def cut_files(texts: dict[str, str], kept: list[int], source: str) -> dict[str, str]:
    """*texts* with the ids *kept*, ascending, alone; the k-th of them becomes id k. *source* names them in messages.

    Added tokens have to be among *kept*. Raises InputError if the files would then say anything else than that.
    """
    whole = symbols(texts, source)
    new_id = {old: new for new, old in enumerate(kept)}
    result = dict(texts)
    if "vocab.txt" in texts:
        lines = texts["vocab.txt"].replace("\r\n", "\n").removesuffix("\n").split("\n")
        result["vocab.txt"] = "".join(f"{lines[index]}\n" for index in kept if index < len(lines))
    for name, cut in (
        ("tokenizer.json", _cut_tokenizer),
        ("tokenizer_config.json", _cut_config),
        ("added_tokens.json", _cut_ids),
    ):
        if name in texts:
            result[name] = json.dumps(cut(json.loads(texts[name]), new_id), ensure_ascii=False, indent=2) + "\n"
    if symbols(result, source) != [whole[index] for index in kept]:
        raise InputError(f"{source}: its tokenizer has ids in a place unknown here; a BERT's or an XLM-R's is needed")
    return result


def _cut_tokenizer(content: dict, new_id: dict[int, int]) -> dict:
    model = content["model"]
    if isinstance(model["vocab"], dict):
        vocabulary = _cut_ids(model["vocab"], new_id)
    else:  # of a unigram model: pieces with their scores, at their ids
        vocabulary = [entry for index, entry in enumerate(model["vocab"]) if index in new_id]
    cut = content | {"model": model | {"vocab": vocabulary}}
    if model.get("unk_id") is not None:
        cut["model"]["unk_id"] = new_id[model["unk_id"]]
    cut["added_tokens"] = [token | {"id": new_id[token["id"]]} for token in content["added_tokens"]]
    cut["post_processor"] = _cut_processor(content["post_processor"], new_id)
    if content.get("padding"):
        cut["padding"] = content["padding"] | {"pad_id": new_id[content["padding"]["pad_id"]]}
    return cut


def _cut_processor(content: dict, new_id: dict[int, int]) -> dict:
    """What puts [CLS] and [SEP] around sentences, in each of the forms that tokenizers has for it."""
    cut = dict(content)
    if "processors" in cut:
        cut["processors"] = [_cut_processor(part, new_id) for part in cut["processors"]]
    if "special_tokens" in cut:
        cut["special_tokens"] = {
            name: token | {"ids": [new_id[index] for index in token["ids"]]}
            for name, token in cut["special_tokens"].items()
        }
    for name in {"cls", "sep"} & cut.keys():
        symbol, index = cut[name]
        cut[name] = [symbol, new_id[index]]
    return cut


def _cut_config(content: dict, new_id: dict[int, int]) -> dict:
    if "added_tokens_decoder" not in content:
        return content
    decoder = content["added_tokens_decoder"].items()
    added = {str(new_id[int(index)]): token for index, token in decoder if int(index) in new_id}
    return content | {"added_tokens_decoder": added}


def _cut_ids(content: dict[str, int], new_id: dict[int, int]) -> dict[str, int]:
    return {symbol: new_id[index] for symbol, index in content.items() if index in new_id}
