"""Encoders of many architectures, tiny and random, as Hugging Face's folders."""

import transformers
from helpers.hf_folders import save_random
from transformers import AutoModel, AutoModelForMaskedLM

SIZES = dict(
    hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, max_position_embeddings=320
)
IDS = dict(pad_token_id=0, bos_token_id=7, eos_token_id=8, cls_token_id=7, sep_token_id=8, mask_token_id=9)
DEBERTA = dict(
    relative_attention=True, position_buckets=8, pos_att_type=["p2c", "c2p"], norm_rel_ebd="layer_norm",
    share_att_key=True, position_biased_input=False, type_vocab_size=0,
)  # fmt: skip
XLM = dict(emb_dim=16, n_layers=2, n_heads=2, n_langs=3, max_position_embeddings=320, pad_index=0, eos_index=8)
MODELS = {  # model type, its options, its class of question answering
    "BERT": ("bert", SIZES, "BertForQuestionAnswering"),
    "DistilBERT": (
        "distilbert",
        dict(dim=16, n_layers=2, n_heads=2, hidden_dim=32, max_position_embeddings=320),
        "DistilBertForQuestionAnswering",
    ),
    "XLM": ("xlm", XLM, "XLMForQuestionAnsweringSimple"),
    "XLM-RoBERTa": ("xlm-roberta", SIZES | {"type_vocab_size": 2}, "XLMRobertaForQuestionAnswering"),
    "ModernBERT": ("modernbert", SIZES, "ModernBertForQuestionAnswering"),
    "EuroBERT": ("eurobert", SIZES | {"num_key_value_heads": 1}, None),
    "mDeBERTa-v3": ("deberta-v2", SIZES | DEBERTA, "DebertaV2ForQuestionAnswering"),
    "GTE": ("gte", SIZES | {"type_vocab_size": 2}, None),
    "LUKE": (  # ties the entities' decoder, not the words'
        "luke",
        SIZES | {"entity_vocab_size": 10, "entity_emb_size": 8},
        "LukeForQuestionAnswering",
    ),
    "ELECTRA": ("electra", SIZES | {"embedding_size": 8}, "ElectraForQuestionAnswering"),
    "Gemma, bidirectional": (  # without a masked-LM class
        "gemma3_text",
        SIZES | {"head_dim": 8, "num_key_value_heads": 1, "use_bidirectional_attention": True},
        None,
    ),
}


def make_folder(folder, name, symbols, surplus=3):
    """Write a random model of this kind, with more rows than tokens, and its tokenizer; return the model."""
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("".join(f"{symbol}\n" for symbol in symbols))
    bert = transformers.BertTokenizer(str(folder / "vocab.txt"), do_lower_case=False)
    (folder / "vocab.txt").unlink()
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    # An XLM would take token types for words.
    inputs = ["input_ids", *["token_type_ids"] * (name != "XLM"), "attention_mask"]
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=bert.backend_tokenizer, model_input_names=inputs, **names
    ).save_pretrained(folder)
    model_type, options, _ = MODELS[name]
    config = transformers.CONFIG_MAPPING[model_type](vocab_size=len(symbols) + surplus, **IDS, **options)
    auto = AutoModelForMaskedLM if type(config) in AutoModelForMaskedLM._model_mapping else AutoModel
    return save_random(auto.from_config(config), folder)
