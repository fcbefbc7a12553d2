"""A tiny Hugging Face folder."""

import json
from pathlib import Path

from helpers.checkpoints import SHAPE, TOKENIZER, random_state
from safetensors.torch import save_file

from ppa_fairseq.checkpoints import huggingface
from ppa_fairseq.checkpoints.weights import Checkpoint


def make_folder(folder: Path, **changes) -> Path:
    """A sound Hugging Face folder of `SHAPE`, but for the changes in its config.json."""
    folder.mkdir()
    shape = SHAPE.__class__(**{**vars(SHAPE), "position_offset": 0})
    written = Checkpoint(shape, random_state(), TOKENIZER)
    save_file(huggingface.to_tensors(written), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(huggingface.to_config(written) | changes))
    for name, text in TOKENIZER.items():
        (folder / name).write_text(text)
    return folder
