"""The README.md of an exported model: metadata that the Hugging Face Hub reads, what was trained, how to load it."""

from dataclasses import dataclass, field

from huggingface_hub import ModelCard, ModelCardData

from ppa_fairseq.checkpoints.weights import Checkpoint
from ppa_fairseq.utils.markdown import markdown_table

PAPER = "https://arxiv.org/abs/2010.12547"
TASKS = {  # transformers' class without its prefix: the Hub's tag
    "ForSequenceClassification": "text-classification",
    "ForQuestionAnswering": "question-answering",
    "ForTokenClassification": "token-classification",
}
LOAD = {
    "sentence-similarity": '''from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{name}")
vectors = model.encode(["Guten Morgen!", "Good morning!"])
print(model.similarity(vectors[0], vectors[1]))''',
    "text-classification": '''from transformers import pipeline

classify = pipeline("text-classification", "{name}")
print(classify({{"text": "Ein Hund schläft.", "text_pair": "Ein Tier schläft."}}))''',
    "token-classification": '''from transformers import pipeline

tag = pipeline("token-classification", "{name}")
print(tag("Ein Hund schläft."))''',
    "question-answering": '''from transformers import AutoModelForQuestionAnswering, AutoTokenizer

model = AutoModelForQuestionAnswering.from_pretrained("{name}")
tokenizer = AutoTokenizer.from_pretrained("{name}")
inputs = tokenizer("Wer schläft?", "Ein Hund schläft.", return_tensors="pt")
output = model(**inputs)
start, end = output.start_logits.argmax(), output.end_logits.argmax()
print(tokenizer.decode(inputs["input_ids"][0, start : end + 1]))''',
}


@dataclass
class Facts:
    """What the user knows and the checkpoint does not."""

    name: str  # the model's, for the title and to load it
    base: str | None = None  # the Hub's id of the model that was aligned
    licence: str | None = None  # of the base: the Hub's identifier, as apache-2.0
    pairs: dict[str, int] = field(default_factory=dict)  # language pair: training pairs
    table: str = ""  # results in Markdown


def model_card(trained: Checkpoint, model_class: str, pooling: str | None, facts: Facts) -> str:
    """Write the card of a model of transformers' class *model_class*; *pooling* makes its sentence vectors."""
    task = next((tag for ending, tag in TASKS.items() if model_class.endswith(ending)), "sentence-similarity")
    languages = sorted({code.split("_")[0].lower() for pair in facts.pairs for code in pair.split("-")})
    is_encoder = task == "sentence-similarity"
    metadata = ModelCardData(
        language=languages or None,
        license=facts.licence,
        base_model=facts.base,
        library_name="sentence-transformers" if is_encoder else "transformers",
        pipeline_tag=task,
        tags=["multilingual", "cross-lingual", "ppa", *(["feature-extraction"] if is_encoder else [])],
    )
    sections = [f"# {facts.name}", _summary(trained, pooling, facts)]
    sections += ["## Load it", f"```python\n{LOAD[task].format(name=facts.name)}\n```"]
    sections += ["## Training", _training(trained, facts)]
    if facts.table:
        sections += ["## Results", facts.table.strip()]
    known = f"`{facts.licence}`" if facts.licence else "not recorded here; see the base model's page before you use it"
    sections += ["## Licence", f"The licence of the base model holds for these weights: {known}."]
    return str(ModelCard(f"---\n{metadata.to_yaml()}\n---\n\n" + "\n\n".join(sections) + "\n"))


def _summary(trained: Checkpoint, pooling: str | None, facts: Facts) -> str:
    base = f"[{facts.base}](https://huggingface.co/{facts.base})" if facts.base else "a pretrained multilingual encoder"
    sizes = f"{trained.shape.layers} layers, {trained.shape.dim} dimensions, at most {trained.max_length} tokens"
    vector = {
        "cls": " A sentence's vector is the last layer's first token.",
        "mean": " A sentence's vector is the mean of the last layer.",
    }
    if not _criterion(trained):
        return f"Exported from {base} ({sizes}), without training by this plugin.{vector.get(pooling, '')}"
    how = "fine-tuned" if pooling is None else "aligned on parallel text"
    return f"{base}, {how} by ppa_fairseq, an implementation of [PPA]({PAPER}): {sizes}.{vector.get(pooling, '')}"


def _training(trained: Checkpoint, facts: Facts) -> str:
    criterion, state = _criterion(trained), trained.training.get("extra_state") or {}
    lines = []
    if "contrastive_weight" in criterion:
        lines.append(
            f"- objective: {criterion['contrastive_weight']} x contrastive loss over sentences (negatives: "
            f"{criterion.get('negatives', 'queue')}, temperature {criterion.get('temperature')}) + "
            f"{criterion.get('tlm_weight')} x translation language modelling"
        )
    if updates := trained.training.get("updates"):
        lines.append(f"- updates: {updates:,}, epochs begun: {(state.get('train_iterator') or {}).get('epoch')}")
    if facts.pairs:
        lines += ["", markdown_table([["pair", "training pairs"], *([p, f"{n:,}"] for p, n in facts.pairs.items())])]
        lines.append(f"\nIn all {sum(facts.pairs.values()):,} sentence pairs.")
    return "\n".join(lines) or "Not recorded in the checkpoint."


def _criterion(trained: Checkpoint) -> dict:
    """fairseq's configuration of the loss, if the model was trained."""
    return trained.training.get("criterion") or {}
