"""Hugging Face's names for the parts of BERT and XLM-RoBERTa, and for their sizes in config.json."""

from dataclasses import dataclass

from ppa_fairseq.checkpoints.weights import CLASSIFICATION_HEAD, LM_HEAD, SPAN_HEAD, TAGGING_HEAD

# Size in BertShape -> key of config.json, and transformers' default for it.
SIZES = {
    "vocab_size": ("vocab_size", None),
    "layers": ("num_hidden_layers", None),
    "dim": ("hidden_size", None),
    "ffn_dim": ("intermediate_size", None),
    "heads": ("num_attention_heads", None),
    "max_positions": ("max_position_embeddings", None),
    "token_types": ("type_vocab_size", 2),
    "layer_norm_eps": ("layer_norm_eps", 1e-12),
    "dropout": ("hidden_dropout_prob", 0.1),
    "attention_dropout": ("attention_probs_dropout_prob", 0.1),
}
# Keys of config.json that would change the network: their only value here, which is also transformers' default.
REQUIRED = {
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
}
# Ending of a class name -> the head of such a model; a checkpoint is exported as the first class whose head it has.
CLASSES = {
    "ForSequenceClassification": CLASSIFICATION_HEAD,
    "ForQuestionAnswering": SPAN_HEAD,
    "ForTokenClassification": TAGGING_HEAD,
    "ForMaskedLM": LM_HEAD,
}
EMBEDDINGS = {
    "embed_tokens": "word_embeddings",
    "embed_positions": "position_embeddings",
    "embed_token_types": "token_type_embeddings",
}
LAYER = {
    "self_attn.qkv_proj": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "self_attn.out_proj": ("attention.output.dense",),
    "self_attn_layer_norm": ("attention.output.LayerNorm",),
    "fc1": ("intermediate.dense",),
    "fc2": ("output.dense",),
    "final_layer_norm": ("output.LayerNorm",),
}


@dataclass(frozen=True)
class Layout:
    """A kind of model in Hugging Face's names. `heads` has {our module: theirs} for each of our heads."""

    name: str
    model_type: str
    class_prefix: str
    prefix: str  # of the encoder's tensors
    mlm_prefix: str
    heads: dict[str, dict[str, str]]
    required: dict  # keys of config.json, as REQUIRED
    position_offset: int = 0  # row of the position table that a sequence's first token takes

    @property
    def words(self) -> str:
        return f"{self.prefix}embeddings.word_embeddings.weight"

    @property
    def copies(self) -> set[str]:
        """Modules without weights of their own: index buffers of old releases, and the decoder, tied to the words."""
        buffers = {f"{self.prefix}embeddings.{name}" for name in ("position_ids", "token_type_ids")}
        return buffers | {self.mlm_prefix + "decoder"}

    def current_name(self, name: str) -> str:
        """Translate the tensor's name in any model class and release into today's name."""
        if name.startswith(("embeddings.", "encoder.", "pooler.")):
            name = self.prefix + name
        return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")

    def name_table(self, layers: int, heads: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
        """Map our name of a tensor to Hugging Face's names of the tensors stacked in it, in their order."""
        inside = f"{self.prefix}embeddings."
        table = {f"encoder.{ours}.weight": (f"{inside}{theirs}.weight",) for ours, theirs in EMBEDDINGS.items()}
        modules = {"encoder.layernorm_embedding.": (inside + "LayerNorm",)}
        for i in range(layers):
            for ours, theirs in LAYER.items():
                names = tuple(f"{self.prefix}encoder.layer.{i}.{name}" for name in theirs)
                modules[f"encoder.layers.{i}.{ours}."] = names
        for head in heads:
            modules |= {head + ours: (theirs,) for ours, theirs in self.heads[head].items()}
        for ours, theirs in modules.items():
            for kind in ("weight", "bias"):
                table[ours + kind] = tuple(f"{name}.{kind}" for name in theirs)
        if LM_HEAD in heads:
            table[LM_HEAD + "bias"] = (self.mlm_prefix + "bias",)
        return table


LAYOUTS = (
    Layout(
        name="BERT",
        model_type="bert",
        class_prefix="Bert",
        prefix="bert.",
        mlm_prefix="cls.predictions.",
        heads={
            LM_HEAD: {
                "dense.": "cls.predictions.transform.dense",
                "layer_norm.": "cls.predictions.transform.LayerNorm",
            },
            CLASSIFICATION_HEAD: {"dense.": "bert.pooler.dense", "out_proj.": "classifier"},
            SPAN_HEAD: {"": "qa_outputs"},
            TAGGING_HEAD: {"": "classifier"},
        },
        required=REQUIRED,
    ),
    Layout(
        name="XLM-RoBERTa",
        model_type="xlm-roberta",
        class_prefix="XLMRoberta",
        prefix="roberta.",
        mlm_prefix="lm_head.",
        heads={
            LM_HEAD: {"dense.": "lm_head.dense", "layer_norm.": "lm_head.layer_norm"},
            CLASSIFICATION_HEAD: {"dense.": "classifier.dense", "out_proj.": "classifier.out_proj"},
            SPAN_HEAD: {"": "qa_outputs"},
            TAGGING_HEAD: {"": "classifier"},
        },
        required=REQUIRED | {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2},
        position_offset=2,  # behind the row of the padding id
    ),
)
