"""state_dict goes from model to model, through torch.save, and into the module of to_torch."""

import io

import polytask as pt
import torch


def make(seed):
    return pt.MultiTaskModel(
        6, tasks=[pt.Task("a"), pt.Task("b", classes=3)], encoder=pt.encoder.MLP([16, 8]), seed=seed
    )


x = torch.randn(20, 6)
one, two = make(0), make(1)
file = io.BytesIO()
torch.save(one.state_dict(), file)
file.seek(0)
two.load_state_dict(torch.load(file, weights_only=True))
assert (one.predict(x)["a"] == two.predict(x)["a"]).all()

module = make(2).to_torch()
module.load_state_dict(one.state_dict())
assert module.state_dict().keys() == one.state_dict().keys()
for name, tensor in module.state_dict().items():
    assert torch.equal(torch.as_tensor(one.state_dict()[name]), tensor)
