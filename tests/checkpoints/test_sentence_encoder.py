"""Folders of sentence-transformers."""

import pytest

from ppa_fairseq.checkpoints.sentence_encoder import read
from ppa_fairseq.utils.errors import InputError


@pytest.mark.parametrize("content", ["[{", '{"a": 1}', '[{"path": ""}]', '[{"type": 1, "path": ""}]'])
def test_a_damaged_list_of_modules_is_refused(tmp_path, content):
    (tmp_path / "modules.json").write_text(content)
    with pytest.raises(InputError, match="modules.json: no list of modules"):
        read(tmp_path)
