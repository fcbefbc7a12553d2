"""The model card of an export: valid metadata, what was trained, code that runs; and the upload, against a stub."""

import json
import re

import huggingface_hub
import pytest
from huggingface_hub import ModelCard
from huggingface_hub.errors import LocalTokenNotFoundError

from ppa_fairseq.commands import main as cli


def export(capsys, source, out, *flags):
    status = cli.main(["export-hf", str(source), str(out), *map(str, flags)])
    return status, *capsys.readouterr()


def test_the_card_says_what_was_trained_and_on_what(train, imported, tmp_path, capsys):
    train("--pretrained", str(imported()), "--max-update", "3", "--tlm-weight", "0.5")
    (tmp_path / "statistics.json").write_text(json.dumps({"zh_CN-en": {"train": 1200}, "de-en": {"train": 34}}))
    (tmp_path / "table.md").write_text("| pair | before | after |\n| --- | --- | --- |\n| de-en | 40.0 | 61.5 |\n")
    flags = ["--base", "some/base", "--license", "apache-2.0", "--name", "aligned"]
    flags += ["--statistics", tmp_path / "statistics.json", "--results", tmp_path / "table.md"]
    assert export(capsys, tmp_path / "checkpoints" / "checkpoint_last.pt", tmp_path / "out", *flags)[0] == 0
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.to_dict() == {
        "language": ["de", "en", "zh"],
        "license": "apache-2.0",
        "base_model": "some/base",
        "library_name": "sentence-transformers",
        "pipeline_tag": "sentence-similarity",
        "tags": ["multilingual", "cross-lingual", "ppa", "feature-extraction"],
    }
    for fact in (
        "# aligned\n",
        "[some/base](https://huggingface.co/some/base), aligned on parallel text",
        "1.0 x contrastive loss over sentences (negatives: queue",
        "+ 0.5 x translation language modelling",
        "- updates: 3, epochs begun: 1",
        "1,234 sentence pairs",
        "| de-en | 40.0 | 61.5 |",
        "`apache-2.0`",
    ):
        assert fact in card.text


def test_the_card_of_an_import_claims_no_training_and_its_code_runs(folders, tmp_path, capsys):
    out = tmp_path / "out"
    assert export(capsys, folders["bert"], out, "--name", out)[0] == 0
    card = ModelCard.load(out / "README.md")
    assert "without training by this plugin" in card.text and "## Results" not in card.text
    assert "licence of the base model holds for these weights: not recorded here" in card.text
    (code,) = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)
    exec(code, {})  # noqa: S102
    assert "tensor([[" in capsys.readouterr().out


class Hub:
    """A stub of the Hub's client."""

    calls = []

    def create_repo(self, repository, **options):
        self.calls.append((repository, options))

    def upload_folder(self, repo_id, folder_path, ignore_patterns):
        self.calls.append((repo_id, sorted(path.name for path in folder_path.iterdir()), ignore_patterns))


def test_push_uploads_the_whole_folder(folders, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(Hub, "calls", [])
    status, printed, _ = export(capsys, folders["bert"], tmp_path / "out", "--push", "me/aligned")
    assert status == 0 and "me/aligned: uploaded" in printed
    create, upload = Hub.calls
    assert create == ("me/aligned", {"private": True, "exist_ok": True})
    assert {"README.md", "config.json", "model.safetensors", "modules.json"} <= set(upload[1])
    assert upload[0] == "me/aligned" and upload[2] == [".ppa-output.json"]
    assert "# me/aligned" in (tmp_path / "out" / "README.md").read_text()


def test_a_refused_upload_is_one_line_and_keeps_the_folder(folders, tmp_path, capsys, monkeypatch):
    def refuse(*_, **__):
        raise LocalTokenNotFoundError("Token is required, but no token found")

    monkeypatch.setattr(Hub, "create_repo", refuse)
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    status, _, error = export(capsys, folders["bert"], tmp_path / "out", "--push", "me/aligned")
    assert status == 1 and "error: --push me/aligned: Token is required, but no token found; the folder" in error
    assert (tmp_path / "out" / "model.safetensors").exists()


BAD = {
    "repository": (["--push", "no such/name/here"], "--push no such/name/here: "),
    "base": (["--base", "a b"], "--base a b: "),
    "licence": (["--license", "Apache License"], "--license Apache License: not one of the Hub's identifiers"),
    "statistics": (["--statistics", "{}/x.json"], "x.json: not statistics.json of `ppa prepare-bitext`"),
    "no statistics": (["--statistics", "{}/none.json"], "none.json: no such file or directory"),
    "no results": (["--results", "{}/none.md"], "none.md: "),
}


@pytest.mark.parametrize(("flags", "message"), BAD.values(), ids=BAD.keys())
def test_a_bad_flag_is_one_line_and_leaves_nothing(folders, tmp_path, capsys, flags, message):
    (tmp_path / "x.json").write_text('{"de-en": 3}')
    flags = [flag.format(tmp_path) for flag in flags]
    status, _, error = export(capsys, folders["bert"], tmp_path / "out", *flags)
    assert status == 1 and message in error.splitlines()[-1] and not (tmp_path / "out").exists()
