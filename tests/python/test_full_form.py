"""The full form runs as the design prints it, with the components that exist."""

import numpy as np
import polytask as pt


def rows(count, seed):
    rng = np.random.default_rng(seed)
    numeric = rng.normal(size=(count, 8)).astype(np.float32)
    codes = np.stack([rng.integers(0, size, count) for size in (9, 16, 7)], axis=1)
    targets = {
        "income": (numeric[:, 0] + (codes[:, 0] > 4) > 0.5).astype(int),
        "clicked": (numeric[:, 1] > 0).astype(float),
        "age": numeric[:, 2] + codes[:, 2],
        "topics": (numeric[:, :1] + np.linspace(-1, 1, 14) > 0).astype(float),
    }
    targets["clicked"][::5] = np.nan
    return {"numeric": numeric, "categorical": codes}, targets


def test_the_design_as_printed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train, valid, test = rows(2000, 0), rows(500, 1), rows(500, 2)
    tasks = [
        pt.Task("income", classes=2, metrics=["auroc", "accuracy"]),
        pt.Task("clicked", loss="binary_cross_entropy", metrics=["auroc"]),
        pt.Task("age", weight=0.5, metrics=["mae", "r2"]),
        pt.Task("topics", loss="binary_cross_entropy", outputs=14),
    ]
    model = pt.MultiTaskModel(
        pt.Inputs(numeric=8, categorical=[9, 16, 7]),
        tasks=tasks,
        encoder=pt.encoder.MLP([256, 128], activation="relu", dropout=0.1),
        sharing=pt.sharing.Hard(),
        seed=0,
    )
    trainer = pt.Trainer(
        model,
        optimizer=pt.optim.AdamW(lr=1e-3, weight_decay=1e-4),
        schedule=pt.schedule.Cosine(warmup=100),
        weighting=pt.weighting.Equal(),
        regularizers=[pt.regularizer.L2(1e-6)],
        clip_norm=1.0,
        callbacks=[pt.EarlyStopping("income/auroc", patience=3), pt.Checkpoint("runs/a")],
        device="cpu",
        seed=0,
    )
    history = trainer.fit(train, validation=valid, epochs=20, batch_size=256)
    results = trainer.evaluate(test)
    assert results["income"]["auroc"] > 0.9
    assert results["clicked"]["auroc"] > 0.9
    assert results["age"]["r2"] > 0.5
    pred = model.predict(test[0])
    assert {name: array.shape for name, array in pred.items()} == {
        "income": (500, 2), "clicked": (500,), "age": (500,), "topics": (500, 14)
    }  # fmt: skip
    history.plot()
    history.to_frame()
    model.save("model.safetensors")
    model = pt.MultiTaskModel.load("model.safetensors")
    np.testing.assert_array_equal(model.predict(test[0])["topics"], pred["topics"])


def test_namespaces_can_be_imported_from():
    from polytask.optim import AdamW
    from polytask.schedule import Cosine

    assert AdamW is pt.optim.AdamW
    assert Cosine is pt.schedule.Cosine
