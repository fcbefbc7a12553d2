"""Build an encoder of either form, ours or transformers', with a head of a kind."""

from torch import nn

from ppa_fairseq.modules import transformers_encoder
from ppa_fairseq.modules.bert import BertEncoder, BertShape, MaskedLMHead
from ppa_fairseq.modules.heads import ClassificationHead, SpanHead, TaggingHead
from ppa_fairseq.modules.transformers_encoder import (
    CLASSIFICATION,
    MASKED_LM,
    SPANS,
    TAGS,
    TransformersEncoder,
    TransformersShape,
)

Shape = BertShape | TransformersShape
Encoder = BertEncoder | TransformersEncoder


def build(
    shape: Shape,
    kind: str | None = None,
    classes: int = 0,
    head_dropout: float = 0.0,
    encoder_classes: tuple[type, type] = (BertEncoder, TransformersEncoder),
    arguments: tuple = (),
    initialise: bool = True,
) -> tuple[Encoder, nn.Module | None]:
    """Build an encoder and its head of a *kind* (MASKED_LM, CLASSIFICATION, SPANS, TAGS or None).

    A model of transformers gets its own class's head, or else ours. Without *initialise*, its weights have no values.
    """
    if isinstance(shape, BertShape):
        encoder, head = encoder_classes[0](shape, *arguments), None
        width, epsilon = shape.dim, shape.layer_norm_eps
    else:
        settings = head_dropout, encoder_classes[1], arguments, initialise
        encoder, head = transformers_encoder.build(shape, kind, classes, *settings)
        width, epsilon = encoder.embed_tokens.embedding_dim, 1e-5
    if head is None and kind == MASKED_LM:
        head = MaskedLMHead(shape.dim, shape.vocab_size, epsilon, width)
    if head is None and kind == CLASSIFICATION:
        head = ClassificationHead(shape.dim, classes, head_dropout)
    if head is None and kind == SPANS:
        head = SpanHead(shape.dim)
    if head is None and kind == TAGS:
        head = TaggingHead(shape.dim, classes, head_dropout)
    return encoder, head
