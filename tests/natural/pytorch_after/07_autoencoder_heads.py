"""An image autoencoder with a classifier beside it: convolutional encoder, own decoder head, own loss, conflicting tasks."""

import torch
from torch import nn

import polytask as pt

torch.manual_seed(0)
digits = torch.rand(10, 1, 8, 8)
labels = torch.randint(10, (600,))
images = (digits[labels] + 0.1 * torch.randn(600, 1, 8, 8)).clamp(0, 1)

encoder = nn.Sequential(
    nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 24)
)
decoder = nn.Sequential(
    nn.Unflatten(1, (24, 1, 1)), nn.ConvTranspose2d(24, 16, 4), nn.ReLU(), nn.ConvTranspose2d(16, 1, 2, stride=2), nn.Sigmoid(), nn.Flatten()
)


def reconstruction(outputs, targets):
    return (outputs - targets).abs().mean(dim=1)


tasks = [
    pt.Task("digit", classes=10),
    pt.Task("pixels", outputs=64, loss=reconstruction, head=decoder, weight=2.0),
]
model = pt.MultiTaskModel((1, 8, 8), tasks=tasks, encoder=encoder, seed=0)
trainer = pt.Trainer(model, lr=3e-3, weighting=pt.weighting.PCGrad(), observe="gradients")
history = trainer.fit((images, labels, images.flatten(1)), validation=0.2, epochs=15, batch_size=32, progress=False)
assert history["validation/digit/accuracy"][-1] > 0.9
assert history["pixels/loss"][-1] < 0.8 * history["pixels/loss"][0]
assert -1 <= history["cosine/digit/pixels"][-1] <= 1
restored = model.predict(images[:4])["pixels"]
assert restored.shape == (4, 64) and restored.min() >= 0 and restored.max() <= 1
