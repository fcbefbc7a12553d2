"""Text for word alignment: the quotes of a CSV writer."""

from ppa_fairseq.data.word_pairs import word_pairs


def test_a_csv_writers_quotes_are_named_and_taken_off(tmp_path):
    path = tmp_path / "de-en.tsv"
    path.write_text('"Er sagt "" ja "" ."\tHe says yes .\nnein\tno\n')
    messages = []
    assert next(word_pairs(path, warn=messages.append))[0][0] == '"Er'
    assert len(messages) == 1 and "--unquote" in messages[0]
    assert next(word_pairs(path, csv_quotes=True))[0] == ["Er", "sagt", '"', "ja", '"', "."]
