"""`ppa evaluate-qa`: answers against transformers and a loop over all spans; what it reports, writes and refuses."""

import json
import shutil
from dataclasses import replace
from itertools import product
from statistics import fmean

import numpy as np
import pytest
import torch
from helpers.hf_folders import make_bert, make_xlm_roberta, sample_sentences
from helpers.qa_by_hand import f1_by_hand, words_by_hand
from helpers.qa_data import SHIFT, make_qa_bin
from helpers.qa_data import questions as made_up_questions
from helpers.tables import table_rows
from helpers.training import run_training
from transformers import (
    AutoModelForQuestionAnswering,
    AutoTokenizer,
    BertForQuestionAnswering,
    XLMRobertaForQuestionAnswering,
)

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.checkpoints.weights import SPAN_HEAD
from ppa_fairseq.commands import main as cli
from ppa_fairseq.data.qa.squad import Question, read_squad
from ppa_fairseq.evaluation.question_answering.answerer import QuestionAnswerer
from ppa_fairseq.evaluation.question_answering.metrics import Scores
from ppa_fairseq.evaluation.question_answering.report import Measured, results_of
from ppa_fairseq.evaluation.question_answering.sets import QuestionSet, find_question_sets
from ppa_fairseq.evaluation.significance import interval

LANGUAGES = ("de", "en", "zh")
SIZES = {"max_length": 40, "doc_stride": 8, "max_answer_length": 6}
FLAGS = [f for name, size in SIZES.items() for f in (f"--{name.replace('_', '-')}", size)]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """{name: Hugging Face folder} of two question answerers over letters, which lower-case and strip accents."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("before", "after")}
    for seed, folder in enumerate(folders.values()):
        model = make_bert(folder, BertForQuestionAnswering)
        torch.manual_seed(seed)
        torch.nn.init.normal_(model.qa_outputs.weight)
        model.save_pretrained(folder)
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
    for context, asked in product(LANGUAGES, LANGUAGES):
        questions = some_questions(24, LANGUAGES.index(context), asked)
        questions = [q for q in questions if "zh" not in (context, asked) or int(q.id[1:]) % 3]
        write_squad(folder / f"dev-context-{context}-question-{asked}.json", questions)
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
    for question, answer in zip(questions, found, strict=True):
        score, text = best_by_transformers(model, tokenizer, question, **sizes)
        assert answer.score == pytest.approx(score, abs=1e-4) and answer.text == text
        assert question.context.startswith(answer.text, answer.start)


def test_answers_equal_transformers(models):
    questions = some_questions(30, seed=5)
    assert_answers_equal_transformers(models["before"], questions, **SIZES)
    # One window holds each context.
    assert_answers_equal_transformers(models["after"], questions[:6], **SIZES | {"max_length": 66})


def test_answers_of_xlm_roberta_equal_transformers(tmp_path):
    """In 15 languages; a token begins with the space before it, an answer does not."""
    make_xlm_roberta(tmp_path, XLMRobertaForQuestionAnswering)
    lines = sample_sentences("valid", 2)
    questions = [
        Question(str(k), lines[k][:25], f"{lines[k - 1]}  {lines[k - 2]}", (), "") for k in range(0, len(lines), 2)
    ]
    assert_answers_equal_transformers(tmp_path, questions, **SIZES)


def test_answers_in_real_text_equal_transformers(shared_data, tmp_path):
    """mBERT's vocabulary, windows of MLQA's Arabic, Hindi and Chinese contexts with questions in English."""
    model = BertForQuestionAnswering.from_pretrained(shared_data("standin"))
    shutil.copytree(shared_data("standin"), tmp_path, dirs_exist_ok=True)
    torch.manual_seed(0)
    model.qa_outputs.weight.data.normal_()
    model.save_pretrained(tmp_path)
    for language in ("ar", "hi", "zh"):
        questions = read_squad(shared_data("mlqa-dev") / f"dev-context-{language}-question-en.json")[:2]
        assert_answers_equal_transformers(tmp_path, questions, max_length=96, doc_stride=24, max_answer_length=30)


def test_odd_questions_get_answers(models):
    answerer = QuestionAnswerer(checkpoint.read(models["after"]), "it", **SIZES)
    texts = [("q" * 99, "a b. " * 30), ("\u0001", "a b"), ("q", "\u0001\u0002")]  # long, blank, without a token
    long, blank, empty = answerer([Question(str(i), *text, (), "") for i, text in enumerate(texts)])
    assert long.text and long.text in texts[0][1]
    assert blank.text in ("a", "b", "a b")
    assert (empty.text, empty.start) == ("", 0)


def evaluate(*flags) -> int:
    return cli.main(["evaluate-qa", *map(str, flags)])


def test_a_grid_of_two_models(models, grid, tmp_path, capsys):
    output = tmp_path / "new" / "out"
    flags = [flag for name, path in models.items() for flag in ("--model", f"{name}={path}")]
    assert evaluate(*flags, *FLAGS, "--data", grid, "--output", output) == 0
    document = json.loads((output / "qa.json").read_text())
    found = {(r["model"], r["name"]): r for r in document["results"]}
    assert len(found) == len(document["results"]) == 2 * (9 + 2)
    percents, cells = {}, list(product(LANGUAGES, LANGUAGES))
    for model in models:
        for context, asked in cells:
            name = f"dev-context-{context}-question-{asked}"
            questions = read_squad(grid / f"{name}.json")
            predictions = json.loads((output / f"predictions-{model}" / f"{name}.json").read_text())
            assert predictions.keys() == {question.id for question in questions}
            place = {"group": "mlqa-dev", "context": context, "asked": asked, "metric": "mlqa"}
            assert found[model, name].items() >= (place | {"questions": len(questions)}).items()
            percents[model, context, asked] = percents_by_hand(questions, predictions, context)
            for kind, percent in percents[model, context, asked].items():
                assert found[model, name][kind]["percent"] == percent  # to the last digit
                assert (found[model, name][kind]["interval"] is None) == (context != asked)
        diagonal = [(language, language) for language in LANGUAGES]
        for name, members in {"XLT average": diagonal, "G-XLT average": cells}.items():
            for kind in ("f1", "exact_match"):
                expected = fmean(percents[(model, *member)][kind] for member in members)
                assert found[model, name][kind]["percent"] == pytest.approx(expected)
                low, high = found[model, name][kind]["interval"]
                assert low <= expected <= high
    for (model, name), result in found.items():
        before = found["before", name]["f1"]
        assert before["gain"] is before["p_value"] is None
        if model == "after":
            assert result["f1"]["gain"] == pytest.approx(result["f1"]["percent"] - before["percent"])
            assert (result["f1"]["p_value"] is None) == (result["context"] != result["asked"])
    assert len({result["f1"]["percent"] for result in found.values()}) > 12  # no constants

    printed = capsys.readouterr().out
    assert (output / "table.md").read_text() in printed
    f1, rows = found["after", "G-XLT average"]["f1"], table_rows(printed)
    line = next(row for row in rows if row[0] == "G-XLT average")
    assert line[4] == "{:.1f} [{:.1f}, {:.1f}]".format(f1["percent"], *f1["interval"])
    assert line[5].startswith(f"{f1['gain']:+.1f} (p ")
    line = [percents["before", "de", asked] for asked in LANGUAGES]
    assert ["de", *(f"{cell['f1']:.1f} / {cell['exact_match']:.1f}" for cell in line)] in rows
    names = {"table.md", "qa.json", "predictions-before", "predictions-after", ".ppa-output.json"}
    assert {path.name for path in output.iterdir()} == names

    # What was predicted can be measured again, and an earlier result replaced.
    given = [flag for name in models for flag in ("--predictions", f"{name}={output}/predictions-{name}")]
    for _ in range(2):
        assert evaluate(*given, "--data", grid, "--output", tmp_path / "again") == 0
    assert json.loads((tmp_path / "again" / "qa.json").read_text())["results"] == document["results"]
    assert (tmp_path / "again" / "table.md").read_text() == (output / "table.md").read_text()


def percents_by_hand(questions, predictions, language):
    """By MLQA's official metric."""
    f1 = exact_match = 0
    for question in questions:
        predicted = words_by_hand(predictions[question.id], "mlqa", language)
        answers = [words_by_hand(text, "mlqa", language) for text, _ in question.answers]
        f1 += max(f1_by_hand(predicted, answer) for answer in answers)
        exact_match += max(predicted == answer for answer in answers)
    return {"f1": 100.0 * f1 / len(questions), "exact_match": 100.0 * exact_match / len(questions)}


def test_predictions_of_others_by_either_metric(tmp_path, capsys):
    """Missing predictions are reported, and count as the official scripts count them."""
    answers = ("Die Stadt", 0), ("Köln", 10), ("Stadt Köln", 4), ("Die", 0)
    questions = [Question(str(i), "?", "Die Stadt Köln", (answer,), "") for i, answer in enumerate(answers, 1)]
    data, predictions = tmp_path / "xquad.de.json", tmp_path / "theirs.json"
    write_squad(data, questions)
    predictions.write_text(json.dumps({"1": "«Stadt»", "2": "the Köln!", "3": "Stadt Köln", "9": "x", "8": "y"}))
    for metric, f1 in (("squad", 50.0), ("mlqa", 100 * (1 + 2 / 3 + 1) / 4)):
        flags = [f"--predictions=theirs={predictions}", "--data", data, "--output", tmp_path / "out"]
        assert evaluate(*flags, "--metric", metric) == 0
        document = json.loads((tmp_path / "out" / "qa.json").read_text())
        (result,) = document["results"]
        assert (result["model"], result["context"], result["metric"]) == ("theirs", "de", metric)
        assert (result["f1"]["percent"], result["exact_match"]["percent"]) == (pytest.approx(f1), 50)
        assert document["gaps"] == [
            {"model": "theirs", "set": "xquad.de", "unanswered": ["4"], "unknown": ["8", "9"]}
        ]
        gap = "theirs, xquad.de: 1 of 4 questions have no prediction and score 0; 2 predictions are for other questions"
        assert gap in capsys.readouterr().err


def test_names_tell_languages_and_metrics(tmp_path):
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
    scores = Scores(list(ids), list(f1), [value == 1 for value in f1])
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


@pytest.fixture(scope="module")
def files(models, tmp_path_factory):
    """Models and predictions that are wrong, each in its own way, and two sets."""
    folder = tmp_path_factory.mktemp("files")
    model = checkpoint.read(models["after"])
    headless = {name: tensor for name, tensor in model.state.items() if name.startswith("encoder.")}
    checkpoint.write(folder / "headless.pt", replace(model, state=headless))
    huge = model.state | {SPAN_HEAD + "weight": torch.full_like(model.state[SPAN_HEAD + "weight"], 3e38)}
    checkpoint.write(folder / "huge.pt", replace(model, state=huge))
    for name, text in {"list": '["x"]', "nested": '{"q0": [{"text": "x"}]}', "fine": '{"q0": "x"}'}.items():
        (folder / f"{name}.json").write_text(text)
    for place in ("data/xquad.de", "data/xquad.en", "copy/xquad.de"):
        (folder / place).parent.mkdir(exist_ok=True)
        write_squad(folder / f"{place}.json", some_questions(4, seed=0))
    write_squad(folder / "none.json", [Question("1", "?", "a", (), "")])
    (folder / "good").symlink_to(models["after"])
    return folder


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--data {0}/data", "neither --model nor --predictions"),
        ("--data {0}/data --model a/b={0}/good", "leave the / out"),
        ("--data {0}/data --model x={0}/headless.pt", "model x: {0}/headless.pt: no span head; fine-tune it first"),
        ("--data {0}/data --model x={0}/huge.pt", "model x: the model's logits are not finite"),
        ("--data {0}/data --model a={0}/good --doc-stride 62", "--max-length 66 with --doc-stride 62"),
        ("--data {0}/none.json --model a={0}/good", "question 1: no answer to compare a prediction with"),
        ("--data {0}/data {0}/copy --model a={0}/good", "has the name xquad.de, too"),
        ("--data fr={0}/no.json --model a={0}/good", "no.json: no such file or folder"),
        ("--data {0}/data --predictions x={0}/fine.json", "fine.json: no folder, but --data has 2 sets"),
        ("--data {0}/data --predictions x={0}/good", "good/xquad.de.json: "),
        ("--data {0}/copy --predictions x={0}/list.json", "list.json: no JSON object; give predictions"),
        ("--data {0}/copy --predictions x={0}/nested.json", "nested.json: an answer is not a text"),
        ("--data {0}/copy --predictions x={0}/fine.json --model x={0}/good", "have the same name"),
        ("--data {0}/copy --predictions x={0}/fine.json --output {0}", "is inside --output"),
        ("--data fr={0}/copy/xquad.de.json --predictions x={0}/fine.json --metric mlqa", "not for fr"),
    ],
)
def test_bad_models_predictions_and_flags_are_refused(files, tmp_path, capsys, flags, message):
    before = sorted(files.rglob("*"))
    default = ["--output", tmp_path / "out", "--max-length", 66, "--doc-stride", 8]
    assert evaluate(*default, *flags.format(files).split()) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("ppa evaluate-qa: error: ") and message.format(files) in error
    assert sorted(files.rglob("*")) == before and not list(tmp_path.iterdir())


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
