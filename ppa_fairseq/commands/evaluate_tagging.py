"""Measure taggers of words in every language: F1 of entities if the tags are IOB, else accuracy; significance.

Files are those of `ppa prepare-tagging`. Prints a table. DIR gets it as table.md, all numbers as tagging.json, and
predictions-NAME.tsv for each model. Gains are over the first model. A word that --max-length cuts off counts as wrong.

  ppa evaluate-tagging --model mbert=mbert-ud/ --model ppa=checkpoint_best.pt \\
      --data en=en_ewt-ud-test.conllu de=de_gsd-ud-test.conllu --output results/
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from ppa_fairseq.commands._evaluation import describe, limits, note_precision, note_truncated, write_report
from ppa_fairseq.commands.arguments import add_batching_arguments, add_models_argument, check_models
from ppa_fairseq.commands.evaluate_classification import add_results_arguments, choose_languages
from ppa_fairseq.utils.errors import InputError, about_model
from ppa_fairseq.utils.files import READABLE, output_folder

if TYPE_CHECKING:  # torch takes a second to import
    from ppa_fairseq.data.labelled import Example
    from ppa_fairseq.evaluation.tagging.tagger import Tagger

JSON_FILE = "tagging.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_models_argument(parser, "a tagger (a fairseq checkpoint or a Hugging Face folder)")
    add_results_arguments(parser, "words with tags, or folders of them: CoNLL-U, or a word and its tag a line")
    add_batching_arguments(parser)


def run(args: argparse.Namespace) -> None:
    from ppa_fairseq.checkpoints import format as checkpoint
    from ppa_fairseq.data.labelled import read_by_language
    from ppa_fairseq.evaluation.classification import report
    from ppa_fairseq.evaluation.significance import SETTINGS, ratio
    from ppa_fairseq.evaluation.tagging.scores import are_iob, right_entities, right_words
    from ppa_fairseq.evaluation.tagging.tagger import Tagger

    check_models(args.models, name_files=True)
    data = choose_languages(read_by_language(args.data, "tags"), args.langs)
    gold = {lang: [example.labels for example in examples] for lang, examples in data.items()}
    known = {tag for sentences in gold.values() for tags in sentences for tag in tags}
    score, count = ("f1", right_entities) if are_iob(known) else ("accuracy", right_words)
    with output_folder(args.output, "evaluate-tagging") as folder:
        taggers = {}
        for name, path in args.models:  # all are read and checked before hours go into the first
            with about_model(name):
                taggers[name] = Tagger(checkpoint.read(path), str(path), **limits(args))
                if not known & set(taggers[name].labels):
                    raise InputError(
                        f"its tags are {', '.join(taggers[name].labels)}, and the data has none of them; give a model "
                        "that was fine-tuned on such data"
                    )
        models, right = {}, {}
        for name, path in args.models:
            tagger = taggers.pop(name)
            predicted = tag(name, tagger, data)
            facts = {"labels": tagger.labels, "truncated": tagger.truncated, "training": tagger.training}
            models[name] = describe(path, tagger, **facts)
            write_predictions(folder / f"predictions-{name}.tsv", data, predicted)
            right[name] = {lang: ratio(*count(gold[lang], predicted[lang])) for lang in data}
        results = report.measure(right, translations=False, score=score)
        text = report.report(results, translations=False, score=score)
        counts = {lang: {"sentences": len(rows), "words": sum(map(len, rows))} for lang, rows in gold.items()}
        write_report(
            folder, JSON_FILE, text, args, ("max_length", "batch_tokens"), settings=SETTINGS, models=models,
            data={"paths": args.data, "languages": counts}, score=score, results=results,
        )  # fmt: skip
    print(text)
    print(f"{args.output}: table.md, {JSON_FILE} and the predictions")


def tag(name: str, tagger: "Tagger", data: dict[str, list["Example"]]) -> dict[str, list[list[str | None]]]:
    """The predicted tags by language."""
    tags, total = {}, sum(map(len, data.values()))
    with tqdm(total=total, desc=name, unit="sentence") as bar, about_model(name):
        for lang, examples in data.items():
            tags[lang] = tagger([example.parts for example in examples], bar.update)
    note_truncated(name, tagger, total, "sentences")
    note_precision(name, tagger, "logits")
    return tags


def write_predictions(
    path: Path, data: dict[str, list["Example"]], predicted: dict[str, list[list[str | None]]]
) -> None:
    """One line per word: language, sentence (from 1), word, its tag and the predicted one."""
    with path.open("w", newline="\n", **READABLE) as file:
        file.write("language\tsentence\tword\tgold\tpredicted\n")
        for lang, examples in data.items():
            for number, (example, tags) in enumerate(zip(examples, predicted[lang], strict=True), 1):
                for word, gold, found in zip(example.parts, example.labels, tags, strict=True):
                    file.write("\t".join([lang, str(number), word, gold, found or ""]) + "\n")
