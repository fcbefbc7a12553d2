"""Folders of any encoder that transformers loads: what the model is asked when it is imported, and its export."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from ppa_fairseq.checkpoints.tokenizer import ModelTokenizer
from ppa_fairseq.checkpoints.weights import CLASSIFICATION_HEAD, FINETUNED_HEADS, KINDS, LM_HEAD, part
from ppa_fairseq.modules.bert import MaskedLMHead
from ppa_fairseq.modules.packing import pack
from ppa_fairseq.modules.transformers_encoder import (
    MASKED_LM,
    TransformersEncoder,
    TransformersHead,
    TransformersShape,
    build_class,
    class_of,
    config_of,
)
from ppa_fairseq.utils.errors import InputError, quote

HEAD_SEED = 0  # draws the MLM head that a folder does not have
NO_LIMIT = 512  # tokens, where config.json sets no limit


def read_model(folder: Path, content: dict, tensors: dict[str, Tensor], source: Path) -> tuple[nn.Module, list[str]]:
    """Load the weights into transformers' own class for this config.json, with an MLM head if there is one.

    Returns the model and what was added or left out, for the user. Raises InputError if it is not transformers' own
    class, not an encoder, or if weights are missing or of another shape. No code of the folder is run.
    """
    config = read_config(content, folder / "config.json")
    model_class, settings = class_of(config, MASKED_LM)
    with torch.random.fork_rng(devices=[]), quiet(), torch.device("cpu"):
        torch.manual_seed(HEAD_SEED)
        try:
            model, found = model_class.from_pretrained(
                None, config=config, state_dict=without_wrapper(tensors, config), output_loading_info=True, **settings
            )
        except (RuntimeError, ValueError) as error:
            raise InputError(f"{source}: {one_line(error)}; config.json belongs to another model") from error
    base = model.base_model
    inside = "" if base is model else model.base_model_prefix + "."
    missing = sorted(found["missing_keys"])
    if absent := next((name for name in missing if name.startswith(inside)), None):
        raise InputError(f"{source}: tensor {absent} is missing; {why_missing(content)}")
    notes = []
    if missing:
        notes.append(
            f"no MLM head in {source.name}: initialised one with seed {HEAD_SEED} ({', '.join(modules_of(missing))}); "
            "before TLM trains the encoder, --freeze-encoder fits the head: see docs/recipes.md"
        )
    if unused := modules_of(found["unexpected_keys"]):
        notes.append(f"left out, as alignment does not use it: {', '.join(unused)}")
    with torch.device("meta"):
        would_be = build_class(config, MASKED_LM, initialise=False)
    if is_tied(would_be) and not is_tied(model):
        model.config.tie_word_embeddings = False  # whatever config.json says: the file has two
    return model, notes


def is_tied(model: nn.Module) -> bool:
    """Whether the decoder of its MLM head is the word embeddings."""
    decoder = model.get_output_embeddings()
    return decoder is not None and decoder.weight is model.get_input_embeddings().weight


def why_missing(content: dict) -> str:
    """Say why weights that belong to a config.json can be missing."""
    if "auto_map" in content:
        return "config.json names code of its own, which is not run; give the model in a form of transformers itself"
    return "the file is not complete, or config.json belongs to another model"


def read_config(content: dict, path: Path):
    """Build transformers' configuration from a config.json; no remote code. Raises InputError as `read_model`."""
    from transformers import CONFIG_MAPPING

    model_type = content.get("model_type")
    if model_type not in CONFIG_MAPPING:
        remote = "it needs code of its own, and none is run" if "auto_map" in content else ""
        raise InputError(
            f"{path}: model_type is {quote(model_type)}, which this version of transformers does not have"
            f"{'; ' * bool(remote)}{remote}; give a model of a class in transformers, or install a later version"
        )
    if content.get("quantization_config"):
        raise InputError(f"{path}: the weights are quantised; give the model's folder in full precision")
    try:
        config = config_of(content)
    except Exception as error:  # whatever is wrong with values of another's
        raise InputError(f"{path}: transformers refuses it ({one_line(error)}); fetch the file again") from error
    if getattr(config, "is_encoder_decoder", False):
        raise InputError(f"{path}: {model_type} is an encoder-decoder; give a model that is an encoder alone")
    return config


def ask(model: nn.Module, tokenizer: ModelTokenizer, source: str) -> TransformersShape:
    """Find the sizes of a model by running it on its tokenizer's ids.

    Raises InputError if it is no encoder of text with one hidden state a token, or if the tokenizer is not its own.
    """
    base, tokens, pad = model.base_model, len(tokenizer), tokenizer.pad()
    config = base.config
    try:
        rows = base.get_input_embeddings().num_embeddings
    except (NotImplementedError, AttributeError) as error:
        raise InputError(f"{source}: {config.model_type} has no word embeddings; give an encoder of text") from error
    if tokens > rows:
        raise InputError(
            f"{source}: the tokenizer has {tokens:,} tokens and the model {rows:,} word embeddings; take both from the "
            "same model"
        )
    if config.pad_token_id not in (None, pad):
        raise InputError(
            f"{source}: the tokenizer's padding token has the id {pad}, but the model's has {config.pad_token_id}; "
            "take both from the same model"
        )
    text = config.to_json_string(use_diff=True)
    shape = TransformersShape(text, tokens, 0, 0, NO_LIMIT, getattr(config, "type_vocab_size", 0) or 0)
    exact = base if base.dtype == torch.float32 else copy.deepcopy(base).float()
    encoder = TransformersEncoder(shape, exact).eval()
    words = [i for i in range(tokens) if i not in tokenizer.special and i != tokenizer.unk()][:5]
    whole = torch.tensor([tokenizer.bos(), *words[:-1], tokenizer.eos()])
    shorter, changed = whole[:-1], torch.cat([whole[:-1], torch.tensor(words[-1:])])
    try:
        with torch.no_grad():
            layers, short, other, padded = (
                encoder(**pack(batch), return_layers=True)["layers"]
                for batch in ([whole], [shorter], [changed], [whole, shorter])
            )
    except Exception as error:
        raise InputError(
            f"{source}: {config.model_type} does not run as an encoder of text ({type(error).__name__}: "
            f"{one_line(error)}); give another model"
        ) from error
    shape.layers, shape.dim = len(layers) - 1, layers[-1].shape[-1]
    if any(layer.shape != layers[-1].shape for layer in layers):
        raise InputError(f"{source}: {config.model_type} has hidden states of different shapes; give another model")
    if torch.equal(layers[-1][0], other[-1][0]):
        raise InputError(
            f"{source}: in this {config.model_type}, the first token's hidden state does not depend on the last token; "
            "give an encoder, not a decoder"
        )
    shape.pads = torch.allclose(padded[-1][len(whole) :], short[-1], rtol=1e-2, atol=1e-3)
    shape.max_positions = longest(exact, words[0])
    return shape


class _Embedded(Exception):
    """The embeddings took the sequence: a layer begins."""


def longest(base: nn.Module, token: int) -> int:
    """The longest sequence that the embeddings take, up to config.json's limit: some tables lose rows to padding."""

    def fits(length: int) -> bool:
        try:
            base(input_ids=torch.full((1, length), token), attention_mask=torch.ones(1, length, dtype=torch.int64))
        except _Embedded:
            return True
        except (IndexError, RuntimeError):
            return False
        return True

    def stop(*_):
        raise _Embedded

    high = getattr(base.config, "max_position_embeddings", None) or 0
    if high <= 0:
        return NO_LIMIT
    if not any(isinstance(module, nn.Embedding) and module.num_embeddings == high for module in base.modules()):
        return high  # there is no table of positions, so none loses rows; a long sequence would take much memory
    low = 1
    hooks = [m.register_forward_pre_hook(stop) for m in base.modules() if isinstance(m, nn.Linear)]
    try:
        with torch.no_grad():
            if fits(high):
                return high
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if fits(middle) else (low, middle)
    finally:
        for hook in hooks:
            hook.remove()
    return low


def state_of(model: nn.Module, shape: TransformersShape) -> dict[str, Tensor]:
    """The weights under their names in a checkpoint; an MLM head of ours if the model has none."""
    base = model.base_model
    encoder = TransformersEncoder(shape, base)
    if base is not model:
        head = TransformersHead(model, MASKED_LM, shape.vocab_size)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(HEAD_SEED)
            width = encoder.embed_tokens.embedding_dim
            head = MaskedLMHead(shape.dim, shape.vocab_size, 1e-5, width).to(encoder.embed_tokens.weight.dtype)
    parts = {"encoder.": encoder, LM_HEAD: head}
    return {p + name: tensor for p, module in parts.items() for name, tensor in module.state_dict().items()}


def write(folder: Path, checkpoint, exported_by: str) -> tuple[str, str]:
    """Write config.json and the weights; return the name of the class, and what of the checkpoint is not in them."""
    kind, labels = next(iter(checkpoint.kinds), None), checkpoint.labels or []
    config = checkpoint.shape.read_config()
    model = build_class(config, kind, len(labels), initialise=False)
    state, left_out = part(checkpoint.state, "encoder."), ""
    head = next((prefix for prefix, its in KINDS.items() if its == kind), "")
    if model.base_model is model:
        prefix = f"{model.base_model_prefix or 'model'}."
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
        if head in FINETUNED_HEADS:
            left_out = f", without its head: transformers has no class of {config.model_type} for it"
    else:
        state |= part(checkpoint.state, head)
    dtype = next(iter(state.values())).dtype
    model.to(dtype).load_state_dict(state, strict=False)  # not the weights that are tied; all others are checked
    if labels:
        model.config.id2label = dict(enumerate(labels))
        model.config.label2id = {label: index for index, label in enumerate(labels)}
        if head == CLASSIFICATION_HEAD:
            model.config.problem_type = "single_label_classification"
    model.config.exported_by = exported_by
    with quiet():
        model.save_pretrained(folder)
    return type(model).__name__, left_out


def without_wrapper(tensors: dict[str, Tensor], config) -> dict[str, Tensor]:
    """Remove what wrappers put before all names ("module.", "0.auto_model.", ...): what leaves most names known."""
    with torch.device("meta"):
        model = build_class(config, MASKED_LM, initialise=False)
    known = model.state_dict().keys() | model.base_model.state_dict().keys()
    wrappers = {""}
    for name in tensors:
        parts = name.split(".")
        wrappers |= {".".join(parts[:count]) + "." for count in range(1, min(len(parts), 5))}

    def hits(wrapper: str) -> tuple[int, int]:
        names = (name.removeprefix(wrapper) for name in tensors if name.startswith(wrapper))
        return sum(name in known for name in names), -len(wrapper)

    best = max(wrappers, key=hits)
    return {name.removeprefix(best): tensor for name, tensor in tensors.items()}


def modules_of(names) -> list[str]:
    """The modules of some weights."""
    return sorted({name.removesuffix(".weight").removesuffix(".bias") for name in names})


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' reports of loading off the terminal: the user gets notes."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()

