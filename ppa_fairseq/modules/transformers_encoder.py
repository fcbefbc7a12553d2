"""Any encoder of transformers, with its own heads, behind the interface of `modules/bert.py`.

No line here names an architecture: sizes, padding, token types and tied weights are the model's, and a head runs
through the forward of the class that it belongs to. `transformers` is imported only when such a model is built.
"""

import inspect
import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar

import torch
from torch import Tensor, nn

from ppa_fairseq.modules.bert import SelectedPositions, too_long
from ppa_fairseq.utils.errors import InputError

MASKED_LM, CLASSIFICATION, SPANS = "MaskedLM", "SequenceClassification", "QuestionAnswering"  # as AutoModelFor… ends
TAGS = "TokenClassification"
SHORTEST = 0.75  # of a padded batch's sequences, relative to its longest,
ENOUGH = 1024  # unless it has fewer tokens than this: a pass costs more than padding
CLASSIFIER, OTHER_HEADS = "classif", ("qa", "summary")  # in names of dropouts that belong to heads
# In a config.json: what would run code, from the folder or from the hub.
UNWANTED = ("auto_map", "attn_implementation", "_attn_implementation", "experts_implementation", "_name_or_path")


@dataclass
class TransformersShape:
    """A model of transformers: its config.json and what was found out about it when it was imported."""

    config: str  # the text of config.json
    vocab_size: int  # of the tokenizer; the model may have more word embeddings
    layers: int
    dim: int
    max_positions: int  # the longest sequence, in tokens
    token_types: int  # 0: the model has none
    pads: bool = True  # whether hidden states are the same in a padded batch; else sequences of one length share one
    dropout: float | None = None  # None: as in config.json
    attention_dropout: float | None = None

    position_offset: ClassVar[int] = 0

    def read_config(self, head_dropout: float | None = None):
        """Build the configuration of transformers, with these dropouts, and *head_dropout* in a classifier."""
        config = config_of(json.loads(self.config))
        for name, value in config.to_dict().items():
            if "dropout" not in name or any(head in name for head in OTHER_HEADS):
                continue
            chosen = self.attention_dropout if "att" in name else self.dropout
            chosen = head_dropout if CLASSIFIER in name else chosen
            if chosen is not None and isinstance(value, (int, float, type(None))):
                setattr(config, name, float(chosen))
        return config


class TransformersEncoder(nn.Module):
    """Packed token ids -> packed hidden states, by a base model of transformers on batches padded by length.

    Its weights have transformers' names. *base_arguments* are for another base class of a subclass.
    """

    def __init__(self, cfg: TransformersShape, model: nn.Module, *base_arguments):
        super().__init__(*base_arguments)
        self.cfg = cfg
        self.prefix = model.base_model_prefix or "model"
        self.add_module(self.prefix, model)
        self.pad = getattr(model.config, "pad_token_id", None) or 0

    @property
    def base_model(self) -> nn.Module:
        """The model of transformers, without a head."""
        return self._modules[self.prefix]

    @property
    def embed_tokens(self) -> nn.Embedding:
        return self.base_model.get_input_embeddings()

    def max_positions(self) -> int:
        """Return the longest sequence, in tokens, that the model takes."""
        return self.cfg.max_positions

    def keep_layers(self, number: int) -> None:
        """Keep all layers: which modules they are differs between models."""

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        token_types: Tensor,
        cu_seqlens: Tensor,
        lengths: list[int],
        max_length: int,
        added_embedding: Tensor | None = None,
        return_layers: bool = False,
        selected: SelectedPositions | None = None,
        tied: bool = False,
    ) -> dict:
        """Encode a packed batch; arguments, result and errors are those of `BertEncoder.forward`.

        The model counts positions itself. *added_embedding* is added to the word embeddings.
        """
        if max_length > self.max_positions():
            raise InputError(too_long(max_length, self.max_positions()))
        batches, places = pad_by_length(lengths, self.cfg.pads)
        outputs = []
        for index, mask in batches:
            padded = not mask.all()  # on the host: with a mask, transformers would ask the device
            index, mask = index.to(tokens.device), mask.to(tokens.device)
            inputs = {"input_ids": tokens[index].masked_fill(~mask, self.pad)}
            if padded:
                inputs["attention_mask"] = mask.long()
            if self.cfg.token_types:
                inputs["token_type_ids"] = token_types[index] * mask
            if added_embedding is not None:
                words = self.embed_tokens(inputs.pop("input_ids"))
                inputs["inputs_embeds"] = words + (added_embedding[index] * mask.unsqueeze(-1)).to(words.dtype)
            output = self.base_model(**inputs, output_hidden_states=return_layers, return_dict=True)
            # The last of the hidden states is not normalised in every model.
            outputs.append([*(output.hidden_states[:-1] if return_layers else ()), output.last_hidden_state])
        places = places.to(tokens.device)
        layers = [torch.cat([one.flatten(0, 1) for one in batch]) for batch in zip(*outputs, strict=True)]
        hidden = layers[-1][places if selected is None else places[selected.places]]
        output = {"hidden": hidden}
        if return_layers:
            output["layers"] = [layer[places] for layer in layers]
        if tied:
            output["word_embeddings"] = self.embed_tokens.weight
        return output

    def _apply(self, fn, recurse=True):
        """Leave buffers such as rotary frequencies in their precision: half of it loses distant positions."""
        before = [(module, dict(module._buffers)) for module in self.modules()]
        super()._apply(fn, recurse)
        for module, buffers in before:
            for name, buffer in buffers.items():
                now = module._buffers[name]
                if now is not None and now.dtype != buffer.dtype:
                    module._buffers[name] = buffer.to(now.device)
        return self


class TransformersHead(nn.Module):
    """The head of a class of transformers, without the base model, run through the class's own forward.

    While the class runs, its base model returns the hidden states that the head gets here. Weights that the head shares
    with the base model are not the head's: they belong to the encoder.
    """

    def __init__(self, whole: nn.Module, kind: str, vocab_size: int):
        super().__init__()
        self.kind = kind
        self.vocab_size = vocab_size
        self.__dict__["whole"] = whole  # not registered: so the encoder alone has the base model
        base = whole.base_model
        self._parameters, self._buffers = whole._parameters, whole._buffers
        for name, child in whole.named_children():
            if child is not base:
                self.add_module(name, child)
        names = {id(weight): name for name, weight in base.named_parameters()}
        self.tied = []  # modules, the names of their weights, and the names of these in the base model
        for module in self.modules():
            for name in [name for name, weight in module._parameters.items() if id(weight) in names]:
                self.tied.append((module, name, names[id(module._parameters.pop(name))]))

    def forward(self, hidden: Tensor, word_embeddings: Tensor | None = None) -> Tensor:
        """Map hidden states of single tokens (M, C) to logits: vocabulary (M, V), classes (M, K), or answer (M, 2)."""
        ones = torch.ones(1, len(hidden), dtype=torch.int64, device=hidden.device)  # no class's head looks at them
        output = self.run(hidden.unsqueeze(0), ones, ones)
        if self.kind == SPANS:
            return torch.stack([output.start_logits[0], output.end_logits[0]], dim=-1)
        return output.logits[0, :, : self.vocab_size] if self.kind == MASKED_LM else output.logits[0]

    def classify(self, encoder: TransformersEncoder, packed: dict) -> Tensor:
        """Map a packed batch of B sequences to class logits (B, K)."""
        hidden, lengths = encoder(**packed)["hidden"], packed["lengths"]
        starts = torch.tensor([0, *accumulate(lengths)][:-1])
        index = starts[:, None] + torch.arange(max(lengths))
        mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
        index, mask = index.masked_fill(~mask, 0).to(hidden.device), mask.to(hidden.device)
        tokens = packed["tokens"][index].masked_fill(~mask, encoder.pad)  # by which some classes find the last token
        return self.run(hidden[index], tokens, mask.long()).logits

    def run(self, hidden: Tensor, tokens: Tensor, mask: Tensor):
        """Run the class on padded hidden states (B, L, C), with tokens and an attention mask (B, L)."""
        from transformers.modeling_outputs import BaseModelOutputWithPoolingAndCrossAttentions

        class Output(BaseModelOutputWithPoolingAndCrossAttentions):
            def __getattr__(self, name):  # outputs that some models have beside these
                if name.startswith("__"):
                    raise AttributeError(name)

        base = self.whole.base_model
        pooler = getattr(base, "pooler", None)

        def forward(*args, **kwargs):
            return Output(last_hidden_state=hidden, pooler_output=None if pooler is None else pooler(hidden))

        with replaced(base, forward):
            for module, name, shared in self.tied:
                module.__dict__[name] = base.get_parameter(shared)
            try:
                return self.whole(input_ids=tokens, attention_mask=mask, return_dict=True)
            finally:
                for module, name, _ in self.tied:
                    del module.__dict__[name]


@contextmanager
def replaced(module: nn.Module, forward) -> Iterator[None]:
    """Let *module* run another forward inside this block."""
    module.forward = forward
    try:
        yield
    finally:
        del module.forward


def build(
    cfg: TransformersShape,
    kind: str | None = None,
    classes: int = 0,
    head_dropout: float | None = None,
    encoder_class: type[TransformersEncoder] = TransformersEncoder,
    arguments: tuple = (),
    initialise: bool = True,
) -> tuple[TransformersEncoder, TransformersHead | None]:
    """Build the encoder and its head of a *kind*; None for the head if transformers has no such class for this model.

    Without *initialise*, weights have no values, for those of a file.
    """
    whole = build_class(cfg.read_config(head_dropout), kind, classes, initialise)
    encoder = encoder_class(cfg, whole.base_model, *arguments)
    return encoder, None if whole.base_model is whole else TransformersHead(whole, kind, cfg.vocab_size)


def build_class(config, kind: str | None, classes: int = 0, initialise: bool = True) -> nn.Module:
    """Build transformers' class of a *kind* of head for this configuration, or if there is none its base model."""
    from transformers.initialization import no_init_weights

    model_class, settings = class_of(config, kind)
    if classes:
        config.num_labels = classes
    with nullcontext() if initialise else no_init_weights():
        model = model_class(config, **settings)
    if not initialise:
        model.tie_weights()
    return model


def class_of(config, kind: str | None) -> tuple[type, dict]:
    """transformers' own class for *config* with a head of a *kind*, or else of its base model, and its arguments.

    Raises InputError if there is neither.
    """
    import transformers

    for auto in (f"AutoModelFor{kind}", "AutoModel") if kind else ("AutoModel",):
        found = getattr(transformers, auto)._model_mapping.get(type(config), None)
        if found is not None:
            model_class = found[0] if isinstance(found, tuple) else found
            pooling = "add_pooling_layer" in inspect.signature(model_class.__init__).parameters
            return model_class, {"add_pooling_layer": False} if pooling else {}  # nobody would use the pooler
    raise InputError(f"transformers has no model of type {config.model_type}; give an encoder of text")


def config_of(content: dict):
    """Build the configuration that a config.json holds; no code of a folder or of the hub will run for it.

    Raises InputError if transformers has no such model type.
    """
    from transformers import CONFIG_MAPPING

    model_type = content.get("model_type")
    if model_type not in CONFIG_MAPPING:
        raise InputError(f"this version of transformers has no model type {model_type!r}; install a later one")
    return CONFIG_MAPPING[model_type].from_dict({key: value for key, value in content.items() if key not in UNWANTED})


def pad_by_length(lengths: list[int], pads: bool = True) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
    """Lay packed sequences into batches, the longest first, each of similar length, or unless *pads* of one length.

    Returns:
        the batches, each the packed places of its tokens (b, l), 0 for padding, and which of them are tokens (b, l);
        and the place of each packed token in all batches, flattened one after another, (T,).
    """
    starts = [0, *accumulate(lengths)]
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    batches, places, filled = [], torch.empty(starts[-1], dtype=torch.int64), 0
    while order:
        longest = lengths[order[0]]
        share, least = (SHORTEST, ENOUGH // longest) if pads else (1, 0)
        count = max(sum(lengths[i] >= share * longest for i in order), least)
        batch, order = order[:count], order[count:]
        mask = torch.arange(longest) < torch.tensor([lengths[i] for i in batch])[:, None]
        index = torch.tensor([starts[i] for i in batch])[:, None] + torch.arange(longest)
        places[index[mask]] = filled + mask.flatten().nonzero()[:, 0]
        batches.append((index.masked_fill(~mask, 0), mask))
        filled += mask.numel()
    return batches, places
