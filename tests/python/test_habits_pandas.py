"""Scripts as people with pandas frames type them, written before it was known what is accepted; see docs/habits.md."""

import numpy as np
import pandas as pd
import polytask as pt
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split


def customers(rows=600, seed=0):
    """Customers of a shop: does one churn, what does one spend."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 80, rows),
            "income": rng.lognormal(10, 0.5, rows),
            "visits": rng.poisson(5, rows),
            "city": rng.choice(["Rome", "Oslo", "Lima"], rows),
        }
    )
    frame["churn"] = ((frame["age"] > 50) ^ (frame["city"] == "Oslo")).astype(int)
    frame["spend"] = frame["visits"] * 10.0 + rng.normal(size=rows)
    return frame


def test_nullable_columns_after_convert_dtypes():
    """Int64, Float64, string and boolean columns with pd.NA, as `convert_dtypes` makes them."""
    frame = customers().convert_dtypes()
    frame.loc[::10, "age"] = pd.NA
    frame.loc[::7, "churn"] = pd.NA
    frame["member"] = (frame["visits"] > 5).astype("boolean")
    model = pt.MultiTaskModel(
        pt.Inputs.from_frame(frame.drop(columns=["churn", "spend"])),
        tasks=[pt.Task("churn", loss="binary_cross_entropy"), pt.Task("spend", weight=0.01)],
        encoder=pt.encoder.MLP([32]),
    )
    pt.Trainer(model, lr=0.01).fit(frame, epochs=20)
    known = frame["churn"].notna()
    probability = model.predict(frame)["churn"]
    assert probability.shape == (600,)
    assert roc_auc_score(frame["churn"][known].astype(int), probability[known.to_numpy()]) > 0.85


def test_columns_backed_by_pyarrow():
    """A frame read with `dtype_backend="pyarrow"`."""
    frame = customers().convert_dtypes(dtype_backend="pyarrow")
    model = pt.MultiTaskModel(
        pt.Inputs.from_frame(frame, exclude=["churn", "spend"]),
        tasks=[pt.Task("churn", loss="binary_cross_entropy"), pt.Task("spend", weight=0.01)],
        encoder=pt.encoder.MLP([32]),
    )
    pt.Trainer(model, lr=0.01).fit(frame, epochs=20)
    assert roc_auc_score(frame["churn"].astype(int), model.predict(frame)["churn"]) > 0.9


def test_yes_and_no_labels():
    """Labels as words, some unknown, and decisions as the same words."""
    frame = customers()
    frame["churn"] = frame["churn"].map({0: "no", 1: "yes"})
    frame.loc[::9, "churn"] = None
    model = pt.MultiTaskModel(
        pt.Inputs.from_frame(frame[["age", "income", "visits", "city"]]),
        tasks=[pt.Task("churn", classes=["no", "yes"])],
        encoder=pt.encoder.MLP([32]),
    )
    pt.Trainer(model, lr=0.01).fit(frame, epochs=20)
    decided = model.classes(model.predict(frame))["churn"]
    known = frame["churn"].notna()
    assert set(decided) == {"no", "yes"}
    assert (decided[known] == frame["churn"][known]).mean() > 0.85


def test_boolean_labels():
    """True and False as the target of a binary loss."""
    frame = customers()
    frame["churn"] = frame["churn"].astype(bool)
    model = pt.MultiTaskModel(
        pt.Inputs.from_frame(frame, exclude=["churn", "spend"]),
        tasks=[pt.Task("churn", loss="binary_cross_entropy")],
        encoder=pt.encoder.MLP([32]),
    )
    pt.Trainer(model, lr=0.01).fit(frame, epochs=20)
    assert model.classes(model.predict(frame))["churn"].shape == (600,)
    assert roc_auc_score(frame["churn"], model.predict(frame)["churn"]) > 0.9


def test_a_date_among_the_features():
    """Signup dates are left in the frame; spending grows with time, and later rows have dates never seen."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"signup": pd.date_range("2022-01-01", periods=800, freq="D"), "visits": rng.poisson(5, 800)})
    frame["spend"] = np.arange(800) / 400 + 0.1 * rng.normal(size=800)
    train, test = train_test_split(frame, test_size=0.25, random_state=0)
    model = pt.MultiTaskModel(
        pt.Inputs.from_frame(train, exclude=["spend"]), tasks=[pt.Task("spend")], encoder=pt.encoder.MLP([32])
    )
    trainer = pt.Trainer(model, lr=0.01)
    trainer.fit(train, epochs=20)
    assert trainer.evaluate(test)["spend"]["r2"] > 0.5


def test_strings_of_digits():
    """Zip codes read as strings keep their leading zero and are categories."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"zip": rng.choice(["00123", "00456", "10001", "94103"], 600), "age": rng.integers(18, 80, 600)}
    )
    frame["price"] = frame["zip"].map({"00123": 1.0, "00456": 4.0, "10001": 2.0, "94103": 3.0})
    model = pt.MultiTaskModel(
        pt.Inputs.from_frame(frame.drop(columns="price")), tasks=[pt.Task("price")], encoder=pt.encoder.MLP([32])
    )
    trainer = pt.Trainer(model, lr=0.01)
    trainer.fit(frame, epochs=30)
    assert trainer.evaluate(frame)["price"]["r2"] > 0.9


def test_stars_from_one_to_five():
    """Ratings are classes that do not begin at 0."""
    frame = customers()
    frame["stars"] = pd.cut(frame["age"], 5, labels=[1, 2, 3, 4, 5]).astype(int)
    model = pt.MultiTaskModel(
        pt.Inputs.from_frame(frame[["age", "visits"]]),
        tasks=[pt.Task("stars", classes=[1, 2, 3, 4, 5])],
        encoder=pt.encoder.MLP([32]),
    )
    pt.Trainer(model, lr=0.01).fit(frame, epochs=40)
    stars = model.classes(model.predict(frame))["stars"]
    assert stars.min() == 1
    assert stars.max() == 5
    assert (stars == frame["stars"]).mean() > 0.8


def test_a_series_as_y():
    """`fit((X, y))` with a frame and a Series, as scikit-learn takes them."""
    frame = customers()
    x, y = frame[["age", "income", "visits", "city"]], frame["churn"]
    model = pt.MultiTaskModel(
        pt.Inputs.from_frame(x), tasks=[pt.Task("churn", loss="binary_cross_entropy")], encoder=pt.encoder.MLP([32])
    )
    trainer = pt.Trainer(model, lr=0.01)
    trainer.fit((x, y), epochs=20)
    assert trainer.evaluate((x, y))["churn"]["auroc"] > 0.9


def test_x_and_y_as_two_frames():
    """`fit((X, Y))` with a frame of features and one of targets, in another order than the tasks."""
    frame = customers()
    x, y = frame[["age", "income", "visits", "city"]], frame[["spend", "churn"]]
    model = pt.MultiTaskModel(
        pt.Inputs.from_frame(x),
        tasks=[pt.Task("churn", loss="binary_cross_entropy"), pt.Task("spend", weight=0.01)],
        encoder=pt.encoder.MLP([32]),
    )
    trainer = pt.Trainer(model, lr=0.01)
    trainer.fit((x, y), epochs=20)
    scores = trainer.evaluate((x, y))
    assert scores["churn"]["auroc"] > 0.9
    assert scores["spend"]["r2"] > 0.5


def test_targets_as_a_dict_of_series():
    """`fit((X, {"churn": y}))` where the Series come from a frame with an index of its own."""
    frame = customers().set_index(pd.Index(range(1000, 1600), name="id"))
    x = frame[["age", "income", "visits", "city"]]
    model = pt.MultiTaskModel(
        pt.Inputs.from_frame(x),
        tasks=[pt.Task("churn", loss="binary_cross_entropy"), pt.Task("spend", weight=0.01)],
        encoder=pt.encoder.MLP([32]),
    )
    trainer = pt.Trainer(model, lr=0.01)
    history = trainer.fit((x, {"churn": frame["churn"], "spend": frame["spend"]}), epochs=20)
    assert len(history) == 20
    assert trainer.evaluate(frame)["churn"]["auroc"] > 0.9


def test_categorical_dtype():
    """`astype("category")` for features and target, the classes taken from the column."""
    frame = customers()
    frame["city"] = frame["city"].astype("category")
    frame["segment"] = pd.cut(frame["age"], [0, 35, 60, 100], labels=["young", "middle", "old"])
    model = pt.MultiTaskModel(
        pt.Inputs.from_frame(frame[["age", "city"]]),
        tasks=[pt.Task("segment", classes=list(frame["segment"].cat.categories))],
        encoder=pt.encoder.MLP([32]),
    )
    trainer = pt.Trainer(model, lr=0.01)
    trainer.fit(frame, epochs=30)
    assert trainer.evaluate(frame)["segment"]["accuracy"] > 0.85


def test_frames_from_train_test_split():
    """Shuffled indices, validation as a frame, and predictions put back by position."""
    train, test = train_test_split(customers(), test_size=0.3, random_state=0, stratify=customers()["churn"])
    model = pt.MultiTaskModel(
        pt.Inputs.from_frame(train, exclude=["churn", "spend"]),
        tasks=[pt.Task("churn", loss="binary_cross_entropy", metrics=["auroc"])],
        encoder=pt.encoder.MLP([32]),
    )
    trainer = pt.Trainer(model, lr=0.01, callbacks=[pt.EarlyStopping("churn/auroc", patience=5)])
    trainer.fit(train, validation=test, epochs=30)
    scored = test.assign(p=model.predict(test)["churn"])
    assert scored.groupby("churn")["p"].mean().diff().iloc[-1] > 0.3


def test_weights_as_a_series():
    """`sample_weight` as a Series with a shuffled index: rows of weight 0 do not count."""
    frame = customers().sample(frac=1, random_state=0)
    wrong = frame.index % 2 == 0
    frame["label"] = np.where(wrong, 1 - frame["churn"], frame["churn"])
    weight = pd.Series(np.where(wrong, 0.0, 1.0), index=frame.index)
    model = pt.MultiTaskModel(
        pt.Inputs.from_frame(frame[["age", "city"]]),
        tasks=[pt.Task("label", loss="binary_cross_entropy")],
        encoder=pt.encoder.MLP([32]),
    )
    pt.Trainer(model, lr=0.01).fit(frame, epochs=30, weights=weight)
    assert roc_auc_score(frame["churn"], model.predict(frame)["label"]) > 0.9


def test_other_column_order_and_columns_too_many():
    """Rows to predict have their columns in another order, one more, and no targets."""
    frame = customers()
    model = pt.MultiTaskModel(
        pt.Inputs.from_frame(frame, exclude=["churn", "spend"]),
        tasks=[pt.Task("churn", loss="binary_cross_entropy")],
        encoder=pt.encoder.MLP([32]),
    )
    pt.Trainer(model, lr=0.01).fit(frame, epochs=2)
    other = frame[["city", "visits", "income", "age"]].assign(note="new")
    assert np.array_equal(model.predict(other)["churn"], model.predict(frame)["churn"])


def test_integer_column_that_became_float():
    """A category of whole numbers becomes float as soon as one value is missing; it is the same category."""
    rng = np.random.default_rng(0)
    train = pd.DataFrame({"plan": rng.integers(1, 5, 400), "age": rng.integers(18, 80, 400)})
    train["price"] = train["plan"].map({1: 3.0, 2: 1.0, 3: 4.0, 4: 2.0})
    model = pt.MultiTaskModel(
        pt.Inputs.from_frame(train, categorical=["plan"], exclude=["price"]),
        tasks=[pt.Task("price")],
        encoder=pt.encoder.MLP([32]),
    )
    pt.Trainer(model, lr=0.01).fit(train, epochs=30)
    rows = pd.DataFrame({"plan": [1, 3, None], "age": [40, 40, 40]})
    price = model.predict(rows)["price"]
    assert abs(price[0] - 3) < 0.5
    assert abs(price[1] - 4) < 0.5
    assert np.isfinite(price[2])
