"""My encoder is a small conv net on 3x16x16 images; one task has classes, one is a regression."""

import polytask as pt
import torch
from torch import nn

torch.manual_seed(0)
backbone = nn.Sequential(
    nn.Conv2d(3, 8, 3, padding=1),
    nn.BatchNorm2d(8),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(8, 16, 3, padding=1),
    nn.ReLU(),
    nn.AdaptiveAvgPool2d(1),
    nn.Flatten(),
)
images = torch.randn(128, 3, 16, 16)
label = torch.randint(0, 4, (128,))
brightness = images.mean(dim=(1, 2, 3))

model = pt.MultiTaskModel(
    (3, 16, 16), tasks=[pt.Task("label", classes=4), pt.Task("brightness")], encoder=backbone, seed=0
)
history = pt.Trainer(model, lr=3e-3).fit((images, label, brightness), epochs=4, batch_size=32)
assert history["loss"][-1] < history["loss"][0]
assert model.predict(images)["label"].shape == (128, 4)
