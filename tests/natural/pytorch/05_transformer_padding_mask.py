"""A transformer encoder with a key padding mask as second input, mean over the tokens that are there."""

import polytask as pt
import torch
from torch import nn


class Transformer(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, nhead=2, dim_feedforward=32, batch_first=True, dropout=0.0)
        self.encoder = nn.TransformerEncoder(layer, num_layers=1, enable_nested_tensor=False)

    def forward(self, x, padding):
        h = self.encoder(x, src_key_padding_mask=padding)
        keep = (~padding).unsqueeze(-1).float()
        return (h * keep).sum(1) / keep.sum(1)


torch.manual_seed(0)
x = torch.randn(64, 8, 16)
padding = torch.arange(8)[None, :] >= torch.randint(2, 9, (64, 1))
topic, score = torch.randint(0, 3, (64,)), x[:, 0, 0]
model = pt.MultiTaskModel(
    [(8, 16), 8], tasks=[pt.Task("topic", classes=3), pt.Task("score")], encoder=Transformer(), seed=0
)
pt.Trainer(model, lr=3e-3).fit(((x, padding), topic, score), epochs=3, batch_size=16)
prediction = model.predict((x, padding))
assert prediction["topic"].shape == (64, 3)
assert prediction["score"].shape == (64,)
