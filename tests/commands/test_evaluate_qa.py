"""`ppa evaluate-qa`: answers against transformers and a loop over all spans; what it reports, writes and refuses."""

import json
import shutil
from statistics import fmean

import numpy as np
import pytest
import torch
from helpers.hf_folders import make_bert, make_xlm_roberta, sample_sentences
from helpers.qa_by_hand import f1_by_hand, words_by_hand
from helpers.qa_data import SHIFT, make_qa_bin
from helpers.qa_data import questions as made_up_questions
from helpers.training import run_training
from ppa_fairseq.evaluation.question_answering.results import Measured, results_of
from transformers import (
    AutoModelForQuestionAnswering,
    AutoTokenizer,
    BertForMaskedLM,
    BertForQuestionAnswering,
    XLMRobertaForQuestionAnswering,
)

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.checkpoints.weights import SPAN_HEAD
from ppa_fairseq.commands import main as cli
from ppa_fairseq.data.qa.squad import Question, read_squad
from ppa_fairseq.evaluation import plots
from ppa_fairseq.evaluation.question_answering import report as qa_report
from ppa_fairseq.evaluation.question_answering.answerer import QuestionAnswerer
from ppa_fairseq.evaluation.question_answering.metrics import Scores
from ppa_fairseq.evaluation.question_answering.sets import QuestionSet, find_question_sets
from ppa_fairseq.evaluation.significance import interval
from ppa_fairseq.utils.errors import InputError

LANGUAGES = ("de", "en", "zh")
SIZES = {"max_length": 40, "doc_stride": 8, "max_answer_length": 6}
FLAGS = [f for name, size in SIZES.items() for f in (f"--{name.replace('_', '-')}", size)]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """{name: Hugging Face folder} of two question answerers over letters, which lower-case and strip accents."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("before", "after")}
    make_bert(folders["before"], BertForQuestionAnswering)
    shutil.copytree(folders["before"], folders["after"], dirs_exist_ok=True)
    model = BertForQuestionAnswering.from_pretrained(folders["before"])
    torch.manual_seed(7)
    with torch.no_grad():
        model.qa_outputs.weight.normal_()
    model.save_pretrained(folders["after"])
    return folders


def some_questions(count: int, seed: int, asked_in: str = "en") -> list[Question]:
    """Contexts of up to 120 odd characters for two questions each, which have one or two answers."""
    rng = np.random.default_rng(seed)
    characters = list("abcdefgh  ..  ÀÉ北京, \n\t") + ["  ", "e\u0301", "\u0001", "ﬁ"]
    questions = []
    for number in range(count):
        if number % 2 == 0:
            context = "a" + "".join(rng.choice(characters, rng.integers(3, 121)))
        answers = []
        for _ in range(rng.integers(1, 3)):
            start = int(rng.integers(len(context)))
            answers.append((context[start : start + rng.integers(1, 40)], start))
        asked = asked_in + "".join(rng.choice(characters, rng.integers(0, 12)))
        questions.append(Question(f"q{number}", asked, context, tuple(answers), f"question {number}"))
    return questions


def write_squad(path, questions):
    paragraphs = {}
    for question in questions:
        answers = [{"text": text, "answer_start": start} for text, start in question.answers]
        entry = {"id": question.id, "question": question.question, "answers": answers}
        paragraphs.setdefault(question.context, []).append(entry)
    data = [{"title": "", "paragraphs": [{"context": text, "qas": qas} for text, qas in paragraphs.items()]}]
    path.write_text(json.dumps({"version": "1.0", "data": data}))


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """MLQA's file names in three languages of contexts and of questions; en and de have all ids, zh a part."""
    folder = tmp_path_factory.mktemp("mlqa")
    for seed, context in enumerate(LANGUAGES):
        for asked in LANGUAGES:
            questions = some_questions(24, seed, asked)
            write_squad(
                folder / f"dev-context-{context}-question-{asked}.json",
                [q for q in questions if "zh" not in (context, asked) or int(q.id[1:]) % 3],
            )
    (folder / "mlqa.train.json").write_text("no JSON, and never read")
    return folder


@torch.no_grad()
def best_by_transformers(model, tokenizer, question, max_length, doc_stride, max_answer_length) -> tuple[float, str]:
    """Score and text of the best of all spans, one window at a time."""
    windows = tokenizer(
        question.question, question.context, truncation="only_second", max_length=max_length, stride=doc_stride,
        return_overflowing_tokens=True, return_offsets_mapping=True,
    )  # fmt: skip
    best = -float("inf"), ""
    for number, offsets in enumerate(windows.pop("offset_mapping")):
        inputs = {k: torch.tensor([windows[k][number]]) for k in tokenizer.model_input_names if k in windows}
        logits = model(**inputs)
        context = [place for place, side in enumerate(windows.sequence_ids(number)) if side == 1]
        for start in context:
            for end in range(start, min(start + max_answer_length, context[-1] + 1)):
                score = float(logits.start_logits[0, start] + logits.end_logits[0, end])
                if score > best[0]:
                    best = score, question.context[offsets[start][0] : offsets[end][1]].strip()
    return best


def assert_answers_equal_transformers(folder, questions, **sizes):
    found = QuestionAnswerer(checkpoint.read(folder), "it", **sizes, batch_tokens=300, cpu=True)(questions)
    model = AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for question, (answer,) in zip(questions, found, strict=True):
        score, text = best_by_transformers(model, tokenizer, question, **sizes)
        assert answer.score == pytest.approx(score, abs=1e-4) and answer.text == text
        assert question.context.startswith(answer.text, answer.start) and answer.probability == 1


def test_answers_equal_transformers(models):
    questions = some_questions(30, seed=5)
    assert_answers_equal_transformers(models["before"], questions, **SIZES)
    # with one window for each context, too
    assert_answers_equal_transformers(models["after"], questions[:6], **SIZES | {"max_length": 66})


def test_xlm_roberta_too(tmp_path):
    """In 15 languages; a piece begins with the space before it, an answer does not."""
    make_xlm_roberta(tmp_path, XLMRobertaForQuestionAnswering)
    sentences = sample_sentences("valid", 2)
    questions = [
        Question(str(k), sentences[k][:25], f"{sentences[k - 1]}  {sentences[k - 2]}", (), "")
        for k in range(0, len(sentences), 2)
    ]
    assert_answers_equal_transformers(tmp_path, questions, **SIZES)


def test_real_text_of_the_standin_equals_transformers(shared_data, tmp_path):
    """mBERT's vocabulary, windows of MLQA's Arabic, Hindi and Chinese contexts with questions in English."""
    model = BertForQuestionAnswering.from_pretrained(shared_data("standin"))
    shutil.copytree(shared_data("standin"), tmp_path, dirs_exist_ok=True)
    torch.manual_seed(0)
    model.qa_outputs.weight.data.normal_()
    model.save_pretrained(tmp_path)
    for language in ("ar", "hi", "zh"):
        questions = read_squad(shared_data("mlqa-dev") / f"dev-context-{language}-question-en.json")[:2]
        sizes = {"max_length": 96, "doc_stride": 24, "max_answer_length": 30}
        assert_answers_equal_transformers(tmp_path, questions, **sizes)


def test_contexts_are_tokenized_once(models, monkeypatch):
    answerer, questions = QuestionAnswerer(checkpoint.read(models["after"]), "it", **SIZES), some_questions(8, seed=6)
    texts, tokenizer = [], answerer.tokenizer

    class Recorder:
        def encode_batch(self, batch, **options):
            texts.extend(batch)
            return tokenizer.encode_batch(batch, **options)

    answerer.tokenizer = Recorder()
    answerer(questions)
    answerer([Question(q.id, f"{q.question} b", q.context, q.answers, q.place) for q in questions])
    assert len(texts) == len(set(texts)) == 4 + 8 + 8


def test_odd_questions_get_answers(models):
    answerer = QuestionAnswerer(checkpoint.read(models["after"]), "it", **SIZES)
    long, blank, no_piece = (
        Question(name, asked, context, (), "")
        for name, asked, context in (("1", "q" * 99, "a b. " * 30), ("2", "\u0001", "a b"), ("3", "q", "\u0001\u0002"))
    )
    answers = answerer([long, blank, no_piece], count=4)
    assert len(answers[0]) == 4 and answers[0][0].text in long.context
    assert {answer.text for answer in answers[1]} == {"a", "b", "a b"}  # all there are
    assert sum(answer.probability for answer in answers[1]) == pytest.approx(1)
    assert answers[2] == []


def evaluate(*flags) -> int:
    return cli.main(["evaluate-qa", *map(str, flags)])


def rows_of(text):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]


def test_a_grid_of_two_models(models, grid, tmp_path, capsys):
    output = tmp_path / "new" / "out"
    flags = [flag for name, path in models.items() for flag in ("--model", f"{name}={path}")]
    assert evaluate(*flags, *FLAGS, "--data", grid, "--output", output) == 0
    document = json.loads((output / "qa.json").read_text())
    found = {(r["model"], r["name"]): r for r in document["results"]}
    assert len(found) == len(document["results"]) == 2 * (9 + 2)
    percents = {}
    for model in models:
        for context in LANGUAGES:
            for asked in LANGUAGES:
                name = f"dev-context-{context}-question-{asked}"
                questions = read_squad(grid / f"{name}.json")
                predictions = json.loads((output / f"predictions-{model}" / f"{name}.json").read_text())
                assert predictions.keys() == {question.id for question in questions}
                result = found[model, name]
                assert (result["group"], result["context"], result["asked"]) == ("mlqa-dev", context, asked)
                assert (result["metric"], result["questions"]) == ("mlqa", len(questions))
                percents[model, context, asked] = percents_by_hand(questions, predictions, context)
                for kind, percent in percents[model, context, asked].items():
                    assert result[kind]["percent"] == percent  # to the last digit
                    assert (result[kind]["interval"] is None) == (context != asked)
        for name, members in {
            "XLT average": [(language, language) for language in LANGUAGES],
            "G-XLT average": [(context, asked) for context in LANGUAGES for asked in LANGUAGES],
        }.items():
            assert (found[model, name]["averaged"], found[model, name]["context"]) == (len(members), None)
            for kind in ("f1", "exact_match"):
                expected = fmean(percents[(model, *member)][kind] for member in members)
                assert found[model, name][kind]["percent"] == pytest.approx(expected)
                low, high = found[model, name][kind]["interval"]
                assert low <= expected <= high
    for (model, name), result in found.items():
        before = found["before", name]["f1"]
        if model == "before":
            assert before["gain"] is before["p_value"] is None
        else:
            assert result["f1"]["gain"] == pytest.approx(result["f1"]["percent"] - before["percent"])
            assert (result["f1"]["p_value"] is None) == (result["context"] != result["asked"])
    assert len({result["f1"]["percent"] for result in found.values()}) > 12  # no constants

    printed = capsys.readouterr().out
    assert (output / "table.md").read_text() in printed
    rows = rows_of(printed)
    assert ["", "questions", "before F1", "before EM", "after F1", "gain", "after EM"] in rows
    line = next(row for row in rows if row[0] == "G-XLT average")
    result = found["after", "G-XLT average"]
    assert line[4] == "{:.1f} [{:.1f}, {:.1f}]".format(result["f1"]["percent"], *result["f1"]["interval"])
    assert line[5].startswith(f"{result['f1']['gain']:+.1f} (p ")
    assert line[6] == f"{result['exact_match']['percent']:.1f}"
    cells = [percents["before", "de", asked] for asked in LANGUAGES]
    assert ["de", *(f"{cell['f1']:.1f} / {cell['exact_match']:.1f}" for cell in cells)] in rows
    names = {"table.md", "qa.json", "predictions-before", "predictions-after", ".ppa-output.json"}
    pictures = {f"mlqa-dev-{name}.png" for name in ("by-language", "grid-f1", "grid-em")}
    assert {path.name for path in output.iterdir()} == names | pictures
    assert all((output / name).read_bytes().startswith(b"\x89PNG") for name in pictures)

    # What was predicted can be measured again, and an earlier result replaced.
    again = tmp_path / "again"
    for _ in range(2):
        given = [flag for name in models for flag in ("--predictions", output / f"predictions-{name}")]
        assert evaluate(*given, "--data", grid, "--output", again) == 0
        assert json.loads((again / "qa.json").read_text())["results"] == document["results"]
        assert (again / "table.md").read_text() == (output / "table.md").read_text()
    assert not list(again.glob("predictions-*"))


def test_two_sets_of_one_language_have_a_bar_each(tmp_path, monkeypatch):
    results = results_of([measured("m", name, "12", [0.0, 1.0]) for name in ("xquad.de", "x.de")])
    drawn = []
    monkeypatch.setattr(plots, "plot_bars", lambda path, title, bars, intervals: drawn.append(bars))
    for some in (results, results[:1]):
        qa_report.plot(some, tmp_path)
    assert drawn == [{"F1, %": {"m": {"xquad.de": 50.0, "x.de": 50.0}}}, {"F1, %": {"m": {"de": 50.0}}}]


def percents_by_hand(questions, predictions, language, metric="mlqa"):
    f1 = exact_match = 0
    for question in questions:
        if question.id in predictions:
            predicted = words_by_hand(predictions[question.id], metric, language)
            answers = [words_by_hand(text, metric, language) for text, _ in question.answers]
            f1 += max(f1_by_hand(predicted, answer) for answer in answers)
            exact_match += max(predicted == answer for answer in answers)
    return {"f1": 100.0 * f1 / len(questions), "exact_match": 100.0 * exact_match / len(questions)}


def test_checkpoint_gives_what_its_folder_gives(models, grid, tmp_path, capsys):
    checkpoint.write(tmp_path / "model.pt", checkpoint.read(models["after"]))
    printed = []
    for path, batch_tokens in ((models["after"], 4096), (tmp_path / "model.pt", 100)):
        data = grid / "dev-context-de-question-de.json", grid / "dev-context-en-question-en.json"
        model = ("--model", f"m={path}", "--batch-tokens", batch_tokens)
        assert evaluate(*model, *FLAGS, "--data", *data) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] and "XLT" not in printed[0]
    assert [row[0] for row in rows_of(printed[0])] == ["", "-" * 7, "de", "en", "average"]


def test_n_best_answers_with_probabilities(models, tmp_path):
    questions = some_questions(10, seed=3)
    write_squad(tmp_path / "xquad.de.json", questions)
    flags = ["--model", f"m={models['after']}", *FLAGS, "--data", tmp_path / "xquad.de.json"]
    assert evaluate(*flags, "--n-best", 4, "--output", tmp_path / "out") == 0
    n_best = json.loads((tmp_path / "out" / "nbest-m" / "xquad.de.json").read_text())
    predictions = json.loads((tmp_path / "out" / "predictions-m" / "xquad.de.json").read_text())
    for question in questions:
        answers = n_best[question.id]
        assert len(answers) == 4 and answers[0]["text"] == predictions[question.id]
        scores = np.array([answer["score"] for answer in answers])
        assert list(scores) == sorted(scores, reverse=True)
        powers = np.exp(scores - scores[0])
        assert [answer["probability"] for answer in answers] == pytest.approx(list(powers / powers.sum()))
        assert all(question.context.startswith(answer["text"], answer["start"]) for answer in answers)


def test_predictions_of_others_by_either_metric(tmp_path, capsys):
    """Gaps are reported and counted as the official scripts count them."""
    questions = [
        Question("1", "?", "Die Stadt Köln", (("Die Stadt", 0),), ""),
        Question("2", "?", "Die Stadt Köln", (("Köln", 10),), ""),
        Question("3", "?", "Die Stadt Köln", (("Köln", 10), ("Stadt Köln", 4)), ""),
        Question("4", "?", "Die Stadt Köln", (("Die", 0),), ""),
    ]
    data, predictions = tmp_path / "xquad.de.json", tmp_path / "theirs.json"
    write_squad(data, questions)
    predictions.write_text(json.dumps({"1": "«Stadt»", "2": "the Köln!", "3": "Stadt Köln", "9": "x", "8": "y"}))
    for metric, f1, exact_match in (("squad", 50.0, 50.0), ("mlqa", 100 * (1 + 2 / 3 + 1) / 4, 50.0)):
        flags = ["--predictions", predictions, "--data", data, "--output", tmp_path / "out", "--metric", metric]
        assert evaluate(*flags) == 0
        document = json.loads((tmp_path / "out" / "qa.json").read_text())
        (result,) = document["results"]
        assert (result["model"], result["context"], result["metric"]) == ("theirs", "de", metric)
        assert result["f1"]["percent"] == pytest.approx(f1)
        assert result["exact_match"]["percent"] == exact_match
        assert document["gaps"] == [
            {"model": "theirs", "set": "xquad.de", "unanswered": ["4"], "unknown": ["8", "9"]}
        ]
        errors = capsys.readouterr().err
        assert "theirs, xquad.de: 1 of 4 questions have no prediction: they score 0 (4)\n" in errors
        assert "theirs, xquad.de: 2 predictions are for questions that are not in" in errors and "(8, 9)" in errors


def test_one_question_alone(tmp_path, capsys):
    write_squad(tmp_path / "squad.json", [Question("1", "?", "a b", (("a", 0),), "")])
    (tmp_path / "p.json").write_text('{"1": "b"}')
    given = ("--predictions", f"x={tmp_path / 'p.json'}", "--predictions", tmp_path / "p.json")
    assert evaluate(*given, "--data", tmp_path / "squad.json", "--output", tmp_path / "out") == 0
    assert ["squad", "1", "0.0", "0.0", "0.0", "+0.0 (p = 1.000)", "0.0"] in rows_of(capsys.readouterr().out)


def test_repeated_ids_get_new_ones_where_asked(tmp_path, capsys):
    questions = some_questions(6, seed=1)
    write_squad(tmp_path / "tydiqa.en.dev.json", [*questions, *questions])
    (tmp_path / "p.json").write_text("{}")
    flags = ["--predictions", tmp_path / "p.json", "--data", tmp_path / "tydiqa.en.dev.json"]
    assert evaluate(*flags) == 1
    assert "has the same id" in capsys.readouterr().err
    assert evaluate(*flags, "--renumber") == 0
    assert "p, tydiqa.en.dev: 12 of 12 questions have no prediction" in capsys.readouterr().err


def test_names_tell_sets(tmp_path):
    names = (
        "test-context-ar-question-vi.json.gz", "xquad.de.json", "tydiqa.goldp.sw.dev.json", "dev-v1.1.json",
        "squad.translate.test.de-en.json", "zh.jsonl", "x.en.train.json", ".hidden.json", "notes.txt",
    )  # fmt: skip
    for name in names:
        (tmp_path / name).touch()
    found = {one.name: (one.group, one.context, one.asked, one.metric) for one in find_question_sets([str(tmp_path)])}
    assert found == {
        "test-context-ar-question-vi": ("mlqa-test", "ar", "vi", "mlqa"),
        "xquad.de": ("xquad", "de", "de", "squad"),
        "tydiqa.goldp.sw.dev": ("tydiqa.goldp.dev", "sw", "sw", "squad"),
        "dev-v1.1": ("dev-v1.1", None, None, "squad"),
        "squad.translate.test.de-en": ("squad.translate.test.de-en", None, None, "squad"),
        "zh": ("zh", "zh", "zh", "squad"),
    }
    paths = [f"ar={tmp_path}/dev-v1.1.json", f"{tmp_path}/xquad.de.json", f"es={tmp_path}/x.en.train.json"]
    found = [(one.name, one.context, one.asked, one.metric) for one in find_question_sets(paths, "mlqa")]
    assert found == [
        ("dev-v1.1", "ar", "ar", "mlqa"), ("xquad.de", "de", "de", "mlqa"), ("x.en.train", "es", "es", "mlqa"),
    ]  # fmt: skip


def measured(model, name, ids, f1):
    language = name.split(".")[1]
    scores = Scores(list(ids), list(f1), [value == 1 for value in f1], [], [])
    return Measured(model, QuestionSet(name, "x", language, language, "squad", None), scores)


def test_a_question_in_several_languages_counts_as_one():
    """An average over three copies of a set is as sure as the set itself."""
    rng = np.random.default_rng(0)
    ids = [str(k) for k in range(200)]
    sets = {model: rng.random(200) for model in ("a", "b")}
    alone = results_of([measured(model, "x.de", ids, f1) for model, f1 in sets.items()])
    copies = results_of(
        [measured(model, name, ids, f1) for model, f1 in sets.items() for name in ("x.de", "x.en", "x.fr")]
    )
    one, average = alone[-1], copies[-1]
    assert (one["name"], average["name"]) == ("x.de", "average")
    for name, value in one["f1"].items():
        assert value == pytest.approx(average["f1"][name])
    assert one["f1"]["interval"] == pytest.approx(interval([(ids, 100 * sets["b"])]))


GOOD = some_questions(4, seed=0)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("xquad.de.json", '{"data": []}', "xquad.de.json: no questions in it"),
        ("xquad.de.json", '{"version": 1}', "xquad.de.json: "),
        ("xquad.de.json", [*GOOD, GOOD[0]], "has the same id"),
        ("xquad.de.json", [Question("1", "?", " ", (), "")], "its context is missing or empty"),
        ("xquad.de.json", [Question("1", "", "a", (), "")], "its question is missing or empty"),
        ("xquad.de.json", [*GOOD, Question("1", "?", "a", (), "")], "question 1: no answer to compare"),
        ("dev-context-fr-question-de.json", GOOD, "metric is defined for ar, de, en, es, hi, vi, zh, not for fr"),
        ("notes.txt", GOOD, "no .json or .jsonl in this folder"),
    ],
)
def test_bad_data_is_refused_and_nothing_is_written(models, tmp_path, capsys, name, content, message):
    folder = tmp_path / "data"
    folder.mkdir()
    write_squad(folder / name, content) if isinstance(content, list) else (folder / name).write_text(content)
    assert evaluate("--model", f"m={models['after']}", "--data", folder, "--output", tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert error.startswith("ppa evaluate-qa: error: ") and error.count("\n") == 1 and message in error
    assert {path.name for path in tmp_path.iterdir()} == {"data"}


def test_bad_models_predictions_and_flags_are_refused(models, tmp_path, capsys):
    after = f"after={models['after']}"
    (tmp_path / "headless").mkdir()
    make_bert(tmp_path / "headless", BertForMaskedLM)
    broken = checkpoint.read(models["after"])
    broken.state[SPAN_HEAD + "weight"][0] = 3e38
    checkpoint.write(tmp_path / "overflow.pt", broken)
    for name, text in (
        ("list", '["x"]'), ("nbest", '{"q0": [{"text": "x"}]}'), ("broken", "{"), ("fine", '{"q0": "x"}'),
    ):  # fmt: skip
        (tmp_path / f"{name}.json").write_text(text)
    (tmp_path / "some").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    (tmp_path / "data").mkdir()
    for name in ("xquad.de.json", "xquad.en.json"):
        write_squad(tmp_path / "data" / name, GOOD)
    (tmp_path / "copy").mkdir()
    write_squad(tmp_path / "copy" / "xquad.de.json", GOOD)
    before = sorted(tmp_path.rglob("*"))
    one = ["--data", tmp_path / "data" / "xquad.de.json"]
    for flags, message in (
        ([], "neither --model nor --predictions"),
        (["--model", "x=nowhere"], "x=nowhere: no such file or folder"),
        (["--model", after, "--model", after], "two models of this name"),
        (["--model", f"a/b={models['after']}"], "leave the / out"),
        (["--model", after, "--model", f"x={tmp_path}/headless"], "model x: "),
        (["--model", after, "--model", f"x={tmp_path}/fine.json"], "model x: "),
        (["--model", f"x={tmp_path}/overflow.pt"], "logits are not finite"),
        (["--model", after, "--max-length", 67], "--max-length 67: the encoder has 66 positions"),
        (["--model", after, "--doc-stride", 62], "--max-length 66 with --doc-stride 62"),
        (["--model", after, "--doc-stride", -1], "--doc-stride -1"),
        (["--model", after, "--output", tmp_path / "fine.json"], "fine.json: is a file"),
        (["--model", after, "--output", tmp_path / "full"], "full: holds thesis.tex, which"),
        (["--predictions", tmp_path / "nothing.json", *one], "nothing.json: no such file or directory; give"),
        (["--predictions", tmp_path / "list.json", *one], "list.json: no JSON object; give predictions"),
        (["--predictions", tmp_path / "nbest.json", *one], "nbest.json: 'q0' has ["),
        (["--predictions", tmp_path / "broken.json", *one], "broken.json: no JSON"),
        (["--predictions", tmp_path / "fine.json"], "fine.json: one file, but --data has 2 sets"),
        (["--predictions", tmp_path / "nothing"], "nothing: no such folder, but --data has 2 sets"),
        (["--predictions", tmp_path / "some"], "some/xquad.de.json: no such file or directory; give"),
        (["--predictions", tmp_path / "fine.json", "--model", f"fine={models['after']}"], "have the same name"),
        (["--predictions", tmp_path / "fine.json", *one, "--output", tmp_path], "is inside --output"),
        (["--predictions", tmp_path / "fine.json", *one, "--n-best", 2], "--n-best: needs a --model"),
        (["--model", after, "--data", tmp_path / "data", tmp_path / "copy"], "has the name xquad.de, too"),
        (["--model", after, "--data", tmp_path / "no.json"], "no.json: no such file or folder"),
        (["--model", after, "--data", f"fr={tmp_path}/no.json"], "no.json: no such file or folder"),
        (["--predictions", tmp_path / "fine.json", "--metric", "mlqa", "--data", f"fr={one[1]}"], "not for fr"),
    ):
        data = [] if "--data" in flags else ["--data", tmp_path / "data"]
        default = [*data, "--output", tmp_path / "out", "--max-length", 66]
        assert evaluate(*default, "--doc-stride", 8, *flags) == 1
        error = capsys.readouterr().err
        assert message in error.splitlines()[-1] and "Traceback" not in error, error
        assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(InputError, match="headless: no span head; fine-tune it first"):
        QuestionAnswerer(checkpoint.read(tmp_path / "headless"), "headless")


def test_a_training_scores_as_it_did_in_validation(imported, dictionary, tmp_path):
    """From `fairseq-train` to the table: whenever both ends are right in validation, the answer is.

    Contexts fit into one window, so that validation counts questions, too.
    """
    (tmp_path / "bin").mkdir()
    sizes = {"max_length": 64, "doc_stride": 16}
    data_bin = make_qa_bin(tmp_path / "bin", dictionary, {"train": 300, "valid": 60}, **sizes)
    settings = """
        --user-dir ppa_fairseq --task mlqa_codeswitch --arch ppa_bert_reader --criterion span_prediction --cpu
        --optimizer adam --lr 1e-2 --batch-size 16 --max-epoch 9 --no-epoch-checkpoints --num-workers 0 --dropout 0
        --best-checkpoint-metric accuracy_avg --maximize-best-checkpoint-metric --train-langs en,de --code-switch
    """.split()
    run_training([str(data_bin), *settings, "--pretrained", str(imported())], tmp_path / "trained")
    (tmp_path / "text").mkdir()
    for language, shift in SHIFT.items():
        found = []
        for number, (asked, context, (first, last)) in enumerate(made_up_questions(60, seed=len("valid"))):
            asked, words = ([f"w{word + shift}" for word in side] for side in (asked, context))
            answer = " ".join(words[first : last + 1]), len(" ".join([*words[:first], ""]))
            found.append(Question(f"q{number}", " ".join(asked), " ".join(words), (answer,), ""))
        write_squad(tmp_path / "text" / f"valid.{language}.json", found)
    best, output = tmp_path / "trained" / "checkpoint_best.pt", tmp_path / "out"
    flags = [flag for name, size in sizes.items() for flag in (f"--{name.replace('_', '-')}", size)]
    assert evaluate("--model", f"m={best}", "--data", tmp_path / "text", *flags, "--output", output) == 0
    document = json.loads((output / "qa.json").read_text())
    average = next(result for result in document["results"] if result["name"] == "average")
    training = document["models"]["m"]["training"]
    # The best span may be right where one end alone is not: a window's [CLS] or a wrong order may have won.
    assert training["value"] <= average["exact_match"]["percent"] + 0.01
    assert training["value"] > 1  # by chance one in hundreds
