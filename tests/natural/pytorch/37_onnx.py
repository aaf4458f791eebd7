"""I write the trained model as ONNX and run it in onnxruntime."""

import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import polytask as pt
import torch

rng = np.random.default_rng(0)
x = rng.normal(size=(100, 5)).astype(np.float32)
model = pt.MultiTaskModel(5, tasks=[pt.Task("a"), pt.Task("b", classes=2)], seed=0)
pt.Trainer(model, lr=1e-2).fit((x, x[:, 0], (x[:, 1] > 0).astype(int)), epochs=2, batch_size=20)
module = model.to_torch().eval()
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "model.onnx"
    torch.onnx.export(
        module, (torch.from_numpy(x),), str(path), input_names=["x"], output_names=["a", "b"], dynamo=True
    )
    session = onnxruntime.InferenceSession(str(path))
    a, b = session.run(["a", "b"], {"x": x})
assert np.allclose(a.squeeze(), model.predict(x)["a"], atol=1e-4)
assert b.shape == (100, 2)
