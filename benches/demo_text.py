"""One network for tags, entities and relations of Hebrew sentences, and a picture of what it says.

    python benches/demo_text.py uddf_fixed.csv.gz target/demo_text.html

Trains what `benches/text.py` calls "together, upgrad" with one seed, prints its scores on the test split beside the
table that is stored in `docs/benchmarks.md`, and writes a page with ten sentences of that split. On two cores it takes
at most 20 minutes.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import text
import timing

WAY, SHOWN = "together, upgrad", 10


def main() -> None:
    data = text.Sentences(sys.argv[1])
    print({part: len(data.x[part]) for part in text.PARTS}, {task: len(each) for task, each in data.classes.items()})
    began = time.perf_counter()

    def told(epoch: int, scores: dict[str, float]) -> None:
        each = ", ".join(f"{text.COLUMNS[name]} {value:.3f}" for name, value in scores.items())
        print(f"epoch {epoch} of {text.EPOCHS}, {time.perf_counter() - began:.0f} s: {each}", flush=True)

    trainer, row = text.train(data, WAY, 0, told)
    print(f"\non the test split, after epoch {row['epoch']}:")
    print(text.report([{"way": WAY, "seed": 0, **row}]))
    stored = timing.stored(timing.ROOT / "docs" / "benchmarks.md", "text")
    print(f"\nas stored:\n{stored}")
    page = Path(sys.argv[2])
    page.parent.mkdir(parents=True, exist_ok=True)
    trainer.model.show({"text": data.x["test"][:SHOWN]}).save(page)
    print(f"\n{SHOWN} sentences with what it says of them: {page}")


if __name__ == "__main__":
    main()
