"""I call torch.manual_seed at the top as always and give no seed; two runs must be the same, other seeds differ."""

import polytask as pt
import torch


def run(seed):
    torch.manual_seed(seed)
    x = torch.randn(100, 5)
    model = pt.MultiTaskModel(
        5, tasks=[pt.Task("a"), pt.Task("b")], encoder=pt.encoder.MLP([16], dropout=0.2), seed=None
    )
    history = pt.Trainer(model, lr=1e-2).fit((x, x[:, 0], x[:, 1]), epochs=3, batch_size=10)
    return history["loss"][-1], torch.as_tensor(model.predict(torch.ones(1, 5))["a"])


first, second, other = run(0), run(0), run(1)
assert first[0] == second[0]
assert torch.equal(first[1], second[1])
assert not torch.equal(first[1], other[1])
