"""Scripts as people with polars frames type them, written before it was known what is accepted; see docs/habits.md."""

import datetime

import numpy as np
import polars as pl
import polytask as pt
from sklearn.metrics import roc_auc_score


def trips(rows=600, seed=0):
    """Taxi trips: was there a tip, and what was the fare."""
    rng = np.random.default_rng(seed)
    frame = pl.DataFrame(
        {
            "distance": rng.gamma(2, 2, rows),
            "passengers": rng.integers(1, 5, rows),
            "zone": rng.choice(["airport", "centre", "suburb"], rows),
        }
    )
    return frame.with_columns(
        tip=((pl.col("distance") > 3) & (pl.col("zone") != "suburb")).cast(pl.Int64),
        fare=3 + 2 * pl.col("distance") + 5 * (pl.col("zone") == "airport"),
    )


def model_of(frame):
    """Two tasks on what is left of a frame without its targets."""
    return pt.MultiTaskModel(
        pt.Inputs.from_frame(frame),
        tasks=[pt.Task("tip", loss="binary_cross_entropy"), pt.Task("fare", weight=0.01)],
        encoder=pt.encoder.MLP([32]),
    )


def test_nulls_in_labels_and_features():
    """Some labels and some numbers are null."""
    every = pl.int_range(pl.len())
    frame = trips().with_columns(
        tip=pl.when(every % 5 == 0).then(None).otherwise(pl.col("tip")),
        distance=pl.when(every % 11 == 0).then(None).otherwise(pl.col("distance")),
    )
    model = model_of(frame)
    trainer = pt.Trainer(model, lr=0.01)
    trainer.fit(frame, epochs=20)
    assert trainer.evaluate(frame)["tip"]["auroc"] > 0.85
    assert np.isfinite(model.predict(frame)["fare"]).all()


def test_a_lazy_frame(tmp_path):
    """`scan_csv`, a filter, and straight into `fit`."""
    trips().write_csv(tmp_path / "trips.csv")
    frame = pl.scan_csv(tmp_path / "trips.csv").filter(pl.col("distance") < 20)
    model = model_of(frame)
    pt.Trainer(model, lr=0.01).fit(frame, epochs=20)
    tip = frame.collect()["tip"].to_numpy()
    assert roc_auc_score(tip, model.predict(frame)["tip"]) > 0.9


def test_categorical_and_enum_columns():
    """`pl.Categorical` for a feature, `pl.Enum` for a target."""
    size = pl.Enum(["short", "medium", "long"])
    frame = trips().with_columns(
        pl.col("zone").cast(pl.Categorical),
        size=pl.when(pl.col("distance") < 2)
        .then(pl.lit("short"))
        .when(pl.col("distance") < 5)
        .then(pl.lit("medium"))
        .otherwise(pl.lit("long"))
        .cast(size),
    )
    model = pt.MultiTaskModel(
        pt.Inputs.from_frame(frame, exclude=["tip", "fare", "size"]),
        tasks=[pt.Task("size", classes=["short", "medium", "long"])],
        encoder=pt.encoder.MLP([32]),
    )
    trainer = pt.Trainer(model, lr=0.01)
    trainer.fit(frame, epochs=30)
    assert trainer.evaluate(frame)["size"]["accuracy"] > 0.85
    assert set(model.classes(model.predict(frame))["size"]) == {"short", "medium", "long"}


def test_boolean_target():
    """A comparison is the target."""
    frame = trips().with_columns(tip=pl.col("tip") == 1)
    model = model_of(frame)
    trainer = pt.Trainer(model, lr=0.01)
    trainer.fit(frame, epochs=20)
    assert trainer.evaluate(frame)["tip"]["auroc"] > 0.9


def test_small_types_and_decimals():
    """Float32, UInt8 and Decimal, as a database gives them."""
    frame = trips().with_columns(
        pl.col("distance").cast(pl.Float32),
        pl.col("passengers").cast(pl.UInt8),
        pl.col("tip").cast(pl.Int8),
        pl.col("fare").cast(pl.Decimal(10, 2)),
    )
    model = model_of(frame)
    trainer = pt.Trainer(model, lr=0.01)
    trainer.fit(frame, epochs=30)
    assert trainer.evaluate(frame)["tip"]["auroc"] > 0.9
    assert trainer.evaluate(frame)["fare"]["r2"] > 0.8


def test_a_date_column():
    """Dates stay in the frame; the fare rises over the years."""
    days = [datetime.date(2020, 1, 1) + datetime.timedelta(days=i) for i in range(800)]
    frame = pl.DataFrame({"day": days, "distance": np.random.default_rng(0).gamma(2, 2, 800)})
    frame = frame.with_columns(fare=pl.int_range(pl.len()) / 400 + 0.1 * pl.col("distance"))
    train, test = frame.gather_every(2), frame.gather_every(2, offset=1)
    model = pt.MultiTaskModel(
        pt.Inputs.from_frame(train, exclude=["fare"]), tasks=[pt.Task("fare")], encoder=pt.encoder.MLP([32])
    )
    trainer = pt.Trainer(model, lr=0.01)
    trainer.fit(train, epochs=30)
    assert trainer.evaluate(test)["fare"]["r2"] > 0.5


def test_a_series_for_each_task():
    """`fit((X, y1, y2))` with a frame and two Series."""
    frame = trips()
    x = frame.drop("tip", "fare")
    model = model_of(x)
    trainer = pt.Trainer(model, lr=0.01)
    trainer.fit((x, frame["tip"], frame["fare"]), epochs=20)
    assert trainer.evaluate((x, frame["tip"], frame["fare"]))["tip"]["auroc"] > 0.9


def test_x_and_y_as_two_frames():
    """`fit((X, Y))` by `select`."""
    frame = trips()
    x, y = frame.select("distance", "passengers", "zone"), frame.select("tip", "fare")
    model = model_of(x)
    trainer = pt.Trainer(model, lr=0.01)
    trainer.fit((x, y), epochs=20)
    assert trainer.evaluate((x, y))["tip"]["auroc"] > 0.9


def test_a_list_column_as_a_bag():
    """Stops of a trip as a list of strings, empty for some."""
    rng = np.random.default_rng(0)
    places = np.array(["museum", "station", "harbour", "park"])
    stops = [list(rng.choice(places, rng.integers(0, 4), replace=False)) for _ in range(600)]
    frame = pl.DataFrame(
        {"stops": [[str(stop) for stop in trip] for trip in stops], "passengers": rng.integers(1, 5, 600)}
    )
    frame = frame.with_columns(tip=pl.col("stops").list.contains("harbour").cast(pl.Int8))
    model = pt.MultiTaskModel(
        pt.Inputs.from_frame(frame, bags=["stops"], exclude=["tip"]),
        tasks=[pt.Task("tip", loss="binary_cross_entropy")],
        encoder=pt.encoder.MLP([32]),
    )
    trainer = pt.Trainer(model, lr=0.01)
    trainer.fit(frame, epochs=30)
    assert trainer.evaluate(frame)["tip"]["auroc"] > 0.95


def test_predictions_as_new_columns():
    """`with_columns(p=...)`, then a group by."""
    frame = trips()
    model = model_of(frame)
    pt.Trainer(model, lr=0.01).fit(frame, epochs=20)
    predicted = model.predict(frame)
    scored = frame.with_columns(p=pl.Series(predicted["tip"]), fare_hat=predicted["fare"])
    means = dict(scored.group_by("tip").agg(pl.col("p").mean()).iter_rows())
    assert means[1] - means[0] > 0.3


def test_a_split_by_filter_with_weights_in_a_column():
    """A hash of the row splits; a column weights; validation is a frame."""
    frame = trips().with_row_index("id").with_columns(weight=pl.lit(2.0))
    train, valid = frame.filter(pl.col("id") % 4 != 0), frame.filter(pl.col("id") % 4 == 0)
    model = pt.MultiTaskModel(
        pt.Inputs.from_frame(train, exclude=["id", "weight", "tip", "fare"]),
        tasks=[pt.Task("tip", loss="binary_cross_entropy")],
        encoder=pt.encoder.MLP([32]),
    )
    history = pt.Trainer(model, lr=0.01).fit(train, validation=valid, epochs=20, weights="weight")
    assert history["validation/tip/auroc"][-1] > 0.9


def test_trained_on_pandas_asked_in_polars():
    """The same rows in either library have the same predictions."""
    frame = trips()
    model = model_of(frame.to_pandas())
    pt.Trainer(model, lr=0.01).fit(frame.to_pandas(), epochs=3)
    assert np.array_equal(model.predict(frame)["fare"], model.predict(frame.to_pandas())["fare"])


def test_rows_from_dicts():
    """`pl.from_dicts` of two records, one with a null and a zone never seen."""
    frame = trips()
    model = model_of(frame)
    pt.Trainer(model, lr=0.01).fit(frame, epochs=3)
    rows = pl.from_dicts(
        [{"distance": 2.5, "passengers": 1, "zone": "centre"}, {"distance": None, "passengers": 2, "zone": "moon"}]
    )
    predicted = model.predict(rows)
    assert predicted["tip"].shape == (2,)
    assert np.isfinite(predicted["fare"]).all()
