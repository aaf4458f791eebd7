"""Scripts as people with logs of a recommender type them, written before it was known what is accepted; see
docs/habits.md."""

import numpy as np
import pandas as pd
import polytask as pt
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch.utils.data import DataLoader, TensorDataset

# A loader that brings no generator draws from the global one.
pytestmark = pytest.mark.usefixtures("own_seed")


def log(rows=3000, seed=0):
    """Impressions: a user likes some genres; clicks follow taste, conversions follow clicks on cheap items."""
    rng = np.random.default_rng(seed)
    user, item = rng.integers(0, 60, rows), rng.integers(0, 40, rows)
    liked = (user % 4) == (item % 4)
    click = rng.random(rows) < np.where(liked, 0.8, 0.1)
    conversion = click & (rng.random(rows) < np.where(item < 20, 0.7, 0.1))
    return pd.DataFrame(
        {
            "user": [f"u{u:04d}" for u in user],
            "item": 900_000_000_000 + item * 7919,
            "price": 5.0 + item,
            "time": pd.Timestamp("2024-03-01").value // 10**9 + np.sort(rng.integers(0, 30 * 86400, rows)),
            "click": click.astype(int),
            "conversion": conversion.astype(int),
        }
    )


CLICK_AND_CONVERSION = ("click", "conversion")


def model_of(frame, tasks=CLICK_AND_CONVERSION, **arguments):
    """Users and items embedded."""
    return pt.MultiTaskModel(
        pt.Inputs.from_frame(frame, numeric=["price"], categorical=["user", "item"], embedding=8),
        tasks=[pt.Task(task, loss="binary_cross_entropy", metrics=["auroc"]) for task in tasks],
        encoder=pt.encoder.MLP([32]),
        **arguments,
    )


def test_click_and_conversion():
    """Two binary tasks on user and item, ids as strings and as large integers."""
    frame = log()
    trainer = pt.Trainer(model_of(frame), lr=0.01)
    trainer.fit(frame, epochs=15, batch_size=128)
    scores = trainer.evaluate(frame)
    assert scores["click"]["auroc"] > 0.8
    assert scores["conversion"]["auroc"] > 0.8


def test_conversion_is_known_after_a_click_only():
    """Rows without a click have NaN for conversion."""
    frame = log()
    frame["conversion"] = frame["conversion"].where(frame["click"] == 1)
    trainer = pt.Trainer(model_of(frame), lr=0.01)
    trainer.fit(frame, epochs=15, batch_size=128)
    clicked = frame[frame["click"] == 1]
    assert trainer.evaluate(clicked)["conversion"]["auroc"] > 0.7


def test_entire_space_model():
    """ESMM by name for click and conversion of all impressions; a conversion is never likelier than a click."""
    frame = log()
    model = model_of(frame, sharing="esmm")
    trainer = pt.Trainer(model, lr=0.01)
    trainer.fit(frame, epochs=15, batch_size=128)
    predicted = model.predict(frame)
    assert roc_auc_score(frame["click"], predicted["click"]) > 0.8
    assert (predicted["conversion"] <= predicted["click"] + 1e-6).all()


def test_batches_with_one_class_of_labels():
    """Implicit feedback in batches of one session: all positive or all negative, and metrics of training asked for."""
    frame = log().sort_values("click")
    model = model_of(frame)
    inputs = pd.concat([frame[frame["click"] == 1].head(64), frame[frame["click"] == 0].head(64)])
    batches = [inputs.iloc[:64], inputs.iloc[64:]]
    history = pt.Trainer(model, lr=0.01).fit(batches, epochs=5)
    assert np.isfinite(history["loss"]).all()
    assert np.isfinite(history["click/auroc"]).all()


def test_positives_alone_are_evaluated():
    """A log of purchases alone: the loss is a number, the AUROC is undefined and NaN, and nothing is raised."""
    frame = log()
    trainer = pt.Trainer(model_of(frame), lr=0.01)
    trainer.fit(frame, epochs=2, batch_size=128)
    bought = frame[frame["conversion"] == 1]
    scores = trainer.evaluate(bought)
    assert np.isfinite(scores["conversion"]["loss"])
    assert np.isnan(scores["conversion"]["auroc"])


def test_a_split_in_time_with_cold_users():
    """The last week is the test; some of its users and items were never seen."""
    frame = log(12000)
    frame["day"] = pd.to_datetime(frame["time"], unit="s")
    train, test = frame[frame["day"] < "2024-03-24"], frame[frame["day"] >= "2024-03-24"].copy()
    test.iloc[:20, test.columns.get_loc("user")] = "u9999"
    model = model_of(train)
    trainer = pt.Trainer(model, lr=0.01)
    trainer.fit(train, validation=test, epochs=10, batch_size=128)
    predicted = model.predict(test)["click"]
    assert np.isfinite(predicted).all()
    assert roc_auc_score(test["click"], predicted) > 0.75


def test_history_of_a_user_as_a_bag():
    """The last items of a user, a list of ids; new users have an empty one."""
    frame = log()
    rng = np.random.default_rng(1)
    frame["seen"] = [[int(i) for i in rng.integers(0, 4, rng.integers(0, 6))] for _ in range(len(frame))]
    frame["click"] = [int(2 in seen) for seen in frame["seen"]]
    model = pt.MultiTaskModel(
        pt.Inputs.from_frame(frame, numeric=["price"], categorical=["item"], bags=["seen"]),
        tasks=[pt.Task("click", loss="binary_cross_entropy")],
        encoder=pt.encoder.MLP([32]),
    )
    trainer = pt.Trainer(model, lr=0.01)
    trainer.fit(frame, epochs=5, batch_size=128)
    assert trainer.evaluate(frame)["click"]["auroc"] > 0.9
    assert np.isfinite(model.predict(frame.head(1).assign(seen=[[]]))["click"]).all()


def test_genres_with_a_separator():
    """`"Action|Drama"`, as MovieLens has it, with a missing one."""
    frame = log()
    genres = np.array(["Action|Drama", "Comedy", "Comedy|Drama", "Horror"])
    frame["genres"] = genres[frame.index % 4]
    frame["click"] = frame["genres"].str.contains("Drama").astype(int)
    frame.loc[5, "genres"] = None
    model = pt.MultiTaskModel(
        pt.Inputs.from_frame(frame, numeric=[], categorical=[], bags=["genres"]),
        tasks=[pt.Task("click", loss="binary_cross_entropy")],
    )
    trainer = pt.Trainer(model, lr=0.05)
    trainer.fit(frame, epochs=3, batch_size=128)
    assert trainer.evaluate(frame)["click"]["auroc"] > 0.95


def test_codes_in_one_array():
    """Ids are codes already: `X[:, [user, item]]` of int32, and the number of each is known."""
    frame = log()
    codes = np.column_stack([frame["user"].astype("category").cat.codes, frame["item"].astype("category").cat.codes])
    model = pt.MultiTaskModel(
        pt.Inputs(categorical=[60, 40], embedding=8),
        tasks=[pt.Task("click", loss="binary_cross_entropy"), pt.Task("conversion", loss="binary_cross_entropy")],
        encoder=pt.encoder.MLP([32]),
    )
    data = (codes.astype(np.int32), frame["click"].to_numpy(), frame["conversion"].to_numpy())
    trainer = pt.Trainer(model, lr=0.01)
    trainer.fit(data, epochs=15, batch_size=128)
    assert trainer.evaluate(data)["click"]["auroc"] > 0.8


def test_numbers_and_codes_from_a_loader():
    """A loader of `(numeric, categorical, click)`, made into the dict of features on the way."""
    frame = log()
    codes = np.column_stack([pd.factorize(frame["user"])[0], pd.factorize(frame["item"])[0]])
    data = TensorDataset(
        torch.tensor(frame[["price"]].to_numpy(), dtype=torch.float32),
        torch.tensor(codes),
        torch.tensor(frame["click"].to_numpy()),
    )

    def collate(rows):
        numeric, categorical, click = (torch.stack(part) for part in zip(*rows, strict=True))
        return {"numeric": numeric / 50, "categorical": categorical}, click

    model = pt.MultiTaskModel(
        pt.Inputs(numeric=1, categorical=[60, 40], embedding=8),
        tasks=[pt.Task("click", loss="binary_cross_entropy")],
        encoder=pt.encoder.MLP([32]),
    )
    loader = DataLoader(data, batch_size=128, shuffle=True, collate_fn=collate)
    trainer = pt.Trainer(model, lr=0.01)
    trainer.fit(loader, epochs=10)
    assert trainer.evaluate(loader)["click"]["auroc"] > 0.8


def test_ratings_and_clicks():
    """Stars from 0.5 to 5 for some rows, clicks for all."""
    frame = log()
    frame["stars"] = np.where(frame["click"] == 1, 4.5, np.nan)
    frame.loc[frame["conversion"] == 0, "stars"] -= 2.0
    model = pt.MultiTaskModel(
        pt.Inputs.from_frame(frame, categorical=["user", "item"], numeric=["price"]),
        tasks=[pt.Task("click", loss="binary_cross_entropy"), pt.Task("stars", loss="huber")],
        encoder=pt.encoder.MLP([32]),
    )
    trainer = pt.Trainer(model, lr=0.01)
    trainer.fit(frame, epochs=15, batch_size=128)
    assert trainer.evaluate(frame)["stars"]["r2"] > 0.1
    assert model.predict(frame)["stars"].shape == (3000,)


def test_sampled_negatives_with_weights():
    """One in ten negatives is kept and weighs ten; the mean prediction is near the true rate, not the sampled one."""
    frame = log(6000)
    frame["click"] = frame["conversion"]
    positive, negative = frame[frame["click"] == 1], frame[frame["click"] == 0].sample(frac=0.1, random_state=0)
    sampled = pd.concat([positive.assign(w=1.0), negative.assign(w=10.0)]).sample(frac=1, random_state=0)
    model = model_of(sampled, tasks=["click"])
    pt.Trainer(model, lr=0.003).fit(sampled, epochs=10, batch_size=128, weights="w")
    assert abs(model.predict(frame)["click"].mean() - frame["click"].mean()) < 0.08


def test_ten_best_items_for_a_user():
    """All items beside one user, predicted and sorted: the genre of the user leads."""
    frame = log(6000)
    model = model_of(frame, tasks=["click"])
    pt.Trainer(model, lr=0.01).fit(frame, epochs=15, batch_size=128)
    items = frame.drop_duplicates("item").sort_values("item")[["item", "price"]]
    pairs = items.assign(user="u0006")
    best = pairs.assign(score=model.predict(pairs)["click"]).nlargest(10, "score")
    genre = ((best["item"] - 900_000_000_000) // 7919) % 4
    assert (genre == 2).mean() > 0.7


def test_a_log_read_in_chunks(tmp_path):
    """`read_csv(chunksize=...)` gives one frame after the other; each chunk is a call of `fit`."""
    log().to_csv(tmp_path / "log.csv", index=False)
    model = model_of(pd.read_csv(tmp_path / "log.csv", nrows=2000))
    trainer = pt.Trainer(model, lr=0.01)
    for _ in range(14):
        for chunk in pd.read_csv(tmp_path / "log.csv", chunksize=1000):
            trainer.fit(chunk, epochs=1, batch_size=128)
    assert trainer.evaluate(log())["click"]["auroc"] > 0.8
