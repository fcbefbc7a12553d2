"""Every question of a SQuAD-format file comes out as it is; an error names what is broken."""

import gzip
import json
import lzma

import pytest

from ppa_fairseq.data.qa.squad import Question, read_squad
from ppa_fairseq.utils.errors import InputError


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


def test_equal_contexts_are_one_object(write):
    first, second = read_squad(write(squad(("in Bonn", [entry("a")]), ("in Bonn", [entry("b")]))))
    assert first.context is second.context


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.json"])
@pytest.mark.parametrize("end", ["\n\n", "\r\n", "\r"], ids=["empty lines", "CR LF", "CR"])
def test_json_lines_hold_the_same_questions_under_any_name(write, name, end):
    content = squad(("in Bonn", [entry(), entry("b", "Why?", [])]), ("\u2028to Bonn", [entry("c")]))
    nested = write(content, "nested.json")
    lines = [
        {
            "id": question.id,
            "context": question.context,
            "question": question.question,
            "answers": {"text": [t for t, _ in question.answers], "answer_start": [s for _, s in question.answers]},
        }
        for question in read_squad(nested)
    ]
    path = write("".join(json.dumps(line, ensure_ascii=False) + end for line in lines).encode(), name)
    found = read_squad(path)
    assert [vars(question) | {"place": ""} for question in found] == [
        vars(question) | {"place": ""} for question in read_squad(nested)
    ]
    second, third = (3, 5) if end == "\n\n" else (2, 3)
    assert [one.place for one in found][1:] == [f"{path}:{second}: question b", f"{path}:{third}: question c"]


def test_renumbering_takes_new_ids_where_they_repeat(write):
    twice = write(squad(("in Bonn", [entry("a"), entry("b"), entry("a")])), "twice.json")
    unique = write(squad(("in Bonn", [entry("c"), entry("d")])), "unique.json")
    again = write(squad(("in Bonn", [entry("e"), entry("d")])), "again.json")
    found = [question.id for question in read_squad(twice, unique, renumber=True)]
    assert found == ["twice.json:1", "twice.json:2", "twice.json:3", "c", "d"]
    found = [question.id for question in read_squad(unique, again, renumber=True)]
    assert found == [f"{name}.json:{k}" for name in ("unique", "again") for k in (1, 2)]
    for files, place in (((unique, again), f"{unique}: paragraph 1: question d"), ((twice,), f"{twice}.*question a")):
        with pytest.raises(InputError, match=f"{place}: another question has the same id.*--renumber"):
            read_squad(*files)


def line(**changes):
    good = {"id": "a", "context": "in Bonn", "question": "Where?", "answers": {"text": ["Bonn"], "answer_start": [3]}}
    return json.dumps(good | changes).encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"data": [', ": another format (Expecting value"),
        (b'{\n "data": [\n', ": another format (Expecting value: line 3"),
        (b"", ": no questions in it; expected SQuAD's format"),
        (b'{"data": []} x', ": another format (Extra data"),
        (b'{"data": "K\xf6ln"}', ": not UTF-8 (invalid start byte); convert it"),
        (b"\xff\xfe{\0", ": is UTF-16, not UTF-8; convert it: "),
        ([1], ": a JSON array; write its objects one a line: jq -c"),
        ({"rows": []}, ":1: no 'context' in it; expected SQuAD's format"),
        ({"data": ["x"]}, ": another format"),
        ({"data": [{"paragraphs": [{"context": "x"}]}]}, ": paragraph 1: no 'qas' in it"),
        ({"data": []}, ": no questions in it"),
        ({"data": [{"paragraphs": [{"qas": [entry()]}]}]}, ": paragraph 1: no 'context' in it"),
        (squad((" \n", [entry()])), ": paragraph 1: question a: its context is missing or empty"),
        (squad(("x", [entry(question=" ")])), ": paragraph 1: question a: its question is missing or empty"),
        (squad(("x", [entry()]), ("y", [{"question": "q"}])), ": paragraph 2: no 'id' in it"),
        (squad(("x", [entry("a\nb")])), r": paragraph 1: another format (the id 'a\nb' is not printable)"),
        (squad(("x", [entry() | {"answers": ["x"]}])), ": paragraph 1: another format"),
        (squad(("x", [entry(answers=[("x", "0")])])), ": question a: an answer is not a text with an answer_start"),
        (line() + b"\n{", ":2: another format (Expecting property name"),
        (line(context=None), ":1: question a: its context is missing or empty"),
        (line() + b"\n" + line(answers=["Bonn"]), ":2: another format"),
        (line(answers={"text": ["Bonn"]}), ":1: no 'answer_start' in it"),
        (line(answers={"text": ["Bonn"], "answer_start": []}), ":1: another format (1 texts of answers, but 0 "),
    ],
)
def test_an_error_names_what_is_broken(write, content, message):
    path = write(content)
    with pytest.raises(InputError) as raised:
        read_squad(path)
    assert str(raised.value).startswith(f"{path}:")
    assert message in str(raised.value)


@pytest.mark.parametrize("ending", [".gz", ".xz"])
def test_damaged_files_are_refused(write, ending):
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
    for name in ("dev-context-ar-question-ar.json", "dev-context-zh-question-hi.json"):
        path = shared_data("mlqa-dev") / name
        assert [(q.id, q.question, q.context, q.answers) for q in read_squad(path)] == list(walk(path))


def test_tydiqa_repeats_its_ids(shared_data):
    path = shared_data("qa-train") / "tydiqa.goldp.sw.train.json"
    with pytest.raises(InputError, match="another question has the same id"):
        read_squad(path)
    found = read_squad(path, renumber=True)
    assert [question.id for question in found] == [f"{path.name}:{k}" for k in range(1, 2756)]
    assert [(q.question, q.context, q.answers) for q in found] == [row[1:] for row in walk(path)]


def test_qamr_is_read_as_json_lines(shared_data):
    found = read_squad(shared_data("qa-train") / "dev.jsonl")
    assert len(found) == 18444
    assert len({id(question.context) for question in found}) == 499
    assert all(q.context[start:].startswith(text) for q in found for text, start in q.answers)
