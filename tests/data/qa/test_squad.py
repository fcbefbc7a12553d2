"""SQuAD-format files: every question comes out as it stands; whatever is broken is named."""

import gzip
import json
import lzma
import random

import pytest

from ppa_fairseq.data.qa import squad as squad_reader
from ppa_fairseq.data.qa.squad import Question, read_squad
from ppa_fairseq.utils.errors import InputError

LANGUAGES = "ar de en es hi vi zh".split()


def entry(name="a", question="Where?", answers=(("Bonn", 3),)):
    return {"id": name, "question": question, "answers": [{"text": t, "answer_start": s} for t, s in answers]}


def squad(*paragraphs):
    """One article of paragraphs (context, entries)."""
    return {"data": [{"title": "x", "paragraphs": [{"context": c, "qas": list(qas)} for c, qas in paragraphs]}]}


@pytest.fixture
def write(tmp_path):
    """``write(content, "name.json.gz")``: a file of JSON, or of bytes as they are."""

    def written(content, name="a.json"):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        opened = {".gz": gzip.open, ".xz": lzma.open}.get(name[-3:], open)
        with opened(tmp_path / name, "wb") as file:
            file.write(data)
        return tmp_path / name

    return written


def test_questions_come_in_order_with_all_their_answers(write):
    content = squad(
        ("in Bonn, Köln", [entry(answers=[("Bonn", 3), ("Köln", 9)]), entry("b", "Whither? ")]),
        (" a 𝄞 clef", [entry(7, answers=[("clef", 5)]), {"id": "d", "question": "Why?", "is_impossible": True}]),
    )
    content["data"].append({"paragraphs": [{"context": "x", "qas": []}, {"context": "y", "qas": [entry("e")]}]})
    path = write(content)
    assert read_squad(path) == [
        Question("a", "Where?", "in Bonn, Köln", (("Bonn", 3), ("Köln", 9)), f"{path}: paragraph 1: question a"),
        Question("b", "Whither? ", "in Bonn, Köln", (("Bonn", 3),), f"{path}: paragraph 1: question b"),
        Question("7", "Where?", " a 𝄞 clef", (("clef", 5),), f"{path}: paragraph 2: question 7"),
        Question("d", "Why?", " a 𝄞 clef", (), f"{path}: paragraph 2: question d"),
        Question("e", "Where?", "y", (("Bonn", 3),), f"{path}: paragraph 4: question e"),
    ]


@pytest.mark.parametrize("name", ["a.json.gz", "a.json.xz", "a.json"])
def test_packed_files_and_byte_order_marks(write, name):
    path = write("\ufeff".encode() + json.dumps(squad(("im Jänner", [entry()]))).encode(), name)
    assert [question.context for question in read_squad(str(path))] == ["im Jänner"]


@pytest.mark.parametrize("name", ["a.json.gz", "a.json.xz", "a.json"])
def test_a_file_too_large_to_be_one_is_not_read_to_its_end(write, monkeypatch, name):
    """The end is not there: it would be told, were it come to."""
    monkeypatch.setattr(squad_reader, "LARGEST", 1 << 20)
    path = write(random.Random(0).randbytes(4 << 20), name)
    path.write_bytes(path.read_bytes()[:-9])
    unpacked = "when unpacked" if name != "a.json" else "which are read"
    with pytest.raises(InputError, match=f"{name}: over 1,048,576 bytes.* {unpacked}"):
        read_squad(path)


def test_equal_contexts_are_one_object(write):
    first, second = read_squad(write(squad(("in Bonn", [entry("a")]), ("in Bonn", [entry("b")]))))
    assert first.context is second.context


def test_json_lines_hold_the_same_questions(write):
    nested = write(squad(("in Bonn", [entry(), entry("b", "Why?", [])]), ("\u2028to Bonn", [entry("c")])))
    lines = [
        {
            "id": question.id,
            "context": question.context,
            "question": question.question,
            "answers": {"text": [t for t, _ in question.answers], "answer_start": [s for _, s in question.answers]},
        }
        for question in read_squad(nested)
    ]
    text = "\n\n".join(json.dumps(line, ensure_ascii=False) for line in lines) + "\n"
    path = write(text.encode(), "a.jsonl.gz")
    assert [vars(question) | {"place": ""} for question in read_squad(path)] == [
        vars(question) | {"place": ""} for question in read_squad(nested)
    ]
    assert [question.place for question in read_squad(path)][1:] == [f"{path}:3: question b", f"{path}:5: question c"]


def test_renumbering_takes_new_ids_where_they_repeat(write):
    twice = write(squad(("in Bonn", [entry("a"), entry("b"), entry("a")])), "twice.json")
    unique = write(squad(("in Bonn", [entry("c"), entry("d")])), "unique.json")
    again = write(squad(("in Bonn", [entry("e"), entry("d")])), "again.json")
    new = ["twice.json:1", "twice.json:2", "twice.json:3"]
    assert [question.id for question in read_squad(twice, unique, renumber=True)] == [*new, "c", "d"]
    assert [question.id for question in read_squad(unique, again, renumber=True)] == [
        *(f"unique.json:{k}" for k in (1, 2)),
        *(f"again.json:{k}" for k in (1, 2)),
    ]
    message = (
        f"{again}: paragraph 1: question d: {unique}: paragraph 1: question d has the same id, and so have 1 of 4 "
        "questions; .*--renumber"
    )
    with pytest.raises(InputError, match=message):
        read_squad(unique, again)
    with pytest.raises(InputError, match="has the same id, and so have 1 of 3"):
        read_squad(twice)


def line(**changes):
    good = {"id": "a", "context": "in Bonn", "question": "Where?", "answers": {"text": ["Bonn"], "answer_start": [3]}}
    return json.dumps(good | changes).encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"data": [', ": no JSON (Expecting value"),
        (b"", ": no JSON (Expecting value"),
        (b"\xff\xfe{", ": not UTF-8"),
        ([1], ": no list 'data' in it; expected SQuAD's format"),
        ({"rows": []}, ": no list 'data' in it"),
        ({"data": {}}, ": no list 'data' in it"),
        ({"data": ["x"]}, ": entry 1 of data: no list 'paragraphs' in it"),
        ({"data": [{"paragraphs": [{"context": "x"}]}]}, ": paragraph 1: no list 'qas' in it"),
        ({"data": [{"paragraphs": [[]]}]}, ": paragraph 1: no list 'qas' in it"),
        ({"data": []}, ": no questions in it"),
        (squad(("in Bonn", [])), ": no questions in it"),
        ({"data": [{"paragraphs": [{"qas": [entry()]}]}]}, ": paragraph 1: question a: its context is missing"),
        (squad((" \n", [entry()])), ": paragraph 1: question a: its context is missing or empty"),
        (squad((["in", "Bonn"], [entry()])), ": paragraph 1: question a: its context is missing or empty"),
        (squad(("x", [entry(question=" ")])), ": paragraph 1: question a: its question is missing or empty"),
        (squad(("x", [{"id": "a"}])), ": paragraph 1: question a: its question is missing or empty"),
        (squad(("x", [entry()]), ("y", [{"question": "q"}])), ": paragraph 2: a question without an id"),
        (squad(("x", ["q"])), ": paragraph 1: a question without an id"),
        (squad(("x", [entry("a\nb")])), r"a question without an id that can be printed ('a\nb')"),
        (squad(("x\ud83d", [entry()])), ": paragraph 1: question a: its context has half a character"),
        (squad(("x", [entry(question="\udc00?")])), ": paragraph 1: question a: its question has half a character"),
        (squad(("x", [entry() | {"answers": {"text": ["x"]}}])), ": question a: no list 'answers' in it"),
        (squad(("x", [entry() | {"answers": ["x"]}])), ": question a: an answer that is no text with an answer_start"),
        (squad(("x", [entry(answers=[("x", "0")])])), ": question a: an answer that is no text with an answer_start"),
        (squad(("x", [entry(answers=[(None, 0)])])), ": question a: an answer that is no text with an answer_start"),
        (squad(("x", [entry(), entry()])), ": paragraph 1: question a has the same id, and so have 1 of 2 questions"),
    ],
)
def test_what_is_broken_is_named(write, content, message):
    path = write(content)
    with pytest.raises(InputError) as raised:
        read_squad(path)
    assert str(raised.value).startswith(str(path))
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (line() + b"\n{", ":2: no JSON"),
        (b"[1]", ":1: no JSON object; a .jsonl has id, context, question and answers"),
        (line(context=None), ":1: question a: its context is missing or empty"),
        (line(answers=["Bonn"]), ":1: answers is no object"),
        (line(answers={"text": ["Bonn"]}), ":1: no list 'answer_start' in it"),
        (line(answers={"text": ["Bonn"], "answer_start": []}), ":1: 1 answer texts but 0 starts"),
        (line() + b"\n" + line(), ":2: question a: {path}:1: question a has the same id"),
        (b"\n\n", ": no questions in it"),
    ],
)
def test_what_is_broken_in_json_lines_is_named(write, content, message):
    path = write(content, "a.jsonl")
    with pytest.raises(InputError) as raised:
        read_squad(path)
    assert str(raised.value).startswith(f"{path}{message.replace('{path}', str(path))}")


def test_missing_and_damaged_files(write, tmp_path):
    with pytest.raises(InputError, match="none.json: No such file or directory; give a SQuAD-format file"):
        read_squad(tmp_path / "none.json")
    with pytest.raises(InputError, match="Is a directory; give a SQuAD-format file"):
        read_squad(tmp_path)
    for ending in (".gz", ".xz"):
        path = write(squad(("in Bonn", [entry()])), f"a.json{ending}")
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(InputError, match=f"a.json{ending}: truncated or damaged"):
            read_squad(path)


def walk(path):
    """(id, question, context, answers) of a file, by a plain loop."""
    for article in json.loads(path.read_text("utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            for qa in paragraph["qas"]:
                answers = tuple((answer["text"], answer["answer_start"]) for answer in qa["answers"])
                yield qa["id"], qa["question"], paragraph["context"], answers


def test_mlqa_is_read_whole(shared_data):
    folder = shared_data("mlqa-dev")
    total = 0
    for context in LANGUAGES:
        for asked in LANGUAGES:
            path = folder / f"dev-context-{context}-question-{asked}.json"
            found = read_squad(path)
            assert [(q.id, q.question, q.context, q.answers) for q in found] == list(walk(path))
            total += len(found)
    assert total == 15747


@pytest.mark.parametrize(("language", "count"), [("en", 3696), ("sw", 2755)])
def test_tydiqa_repeats_its_ids(shared_data, language, count):
    path = shared_data("qa-train") / f"tydiqa.goldp.{language}.train.json"
    with pytest.raises(InputError, match=f"has the same id, and so have [\\d,]+ of {count:,} questions"):
        read_squad(path)
    found = read_squad(path, renumber=True)
    assert [question.id for question in found] == [f"{path.name}:{k}" for k in range(1, count + 1)]
    assert [(q.question, q.context, q.answers) for q in found] == [row[1:] for row in walk(path)]


def test_qamr_is_read_as_json_lines(shared_data):
    found = read_squad(shared_data("qa-train") / "dev.jsonl")
    assert len(found) == 18444
    assert len({id(question.context) for question in found}) == 499
    assert all(q.context[start:].startswith(text) for q in found for text, start in q.answers)
