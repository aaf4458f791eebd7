"""A pretrained convolutional backbone with a frozen stem, uint8 images from a Dataset, SGD of torch, two heads."""

from functools import partial

import torch
from torch import nn
from torch.utils.data import Dataset, random_split

import polytask as pt

torch.manual_seed(0)
pretrained = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU())
torch.save(pretrained.state_dict(), "/tmp/backbone.pt")


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(*pretrained)
        self.body.load_state_dict(torch.load("/tmp/backbone.pt"))
        self.body[0].requires_grad_(False)

    def forward(self, image):
        return self.body(image / 255).mean(dim=(2, 3))


class Photos(Dataset):
    def __init__(self, n=400):
        self.images = torch.randint(0, 120, (n, 3, 12, 12), dtype=torch.uint8)
        self.color = torch.randint(0, 3, (n,))
        self.images[torch.arange(n), self.color] += 120
        self.brightness = self.images.float().mean(dim=(1, 2, 3))

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.images[i], self.color[i], self.brightness[i]


train, valid = random_split(Photos(), [320, 80])
tasks = [pt.Task("color", classes=3), pt.Task("brightness", scale="standardize")]
backbone = Backbone()
stem = backbone.body[0].weight.clone()
model = pt.MultiTaskModel((3, 12, 12), tasks=tasks, encoder=backbone, head=pt.head.Tower(16), seed=0)
trainer = pt.Trainer(model, optimizer=partial(torch.optim.SGD, lr=0.05, momentum=0.9))
history = trainer.fit(train, validation=valid, epochs=15, batch_size=32, progress=False)
assert history["validation/color/accuracy"][-1] > 0.9
assert torch.equal(backbone.body[0].weight, stem)
assert not torch.equal(backbone.body[3].weight, pretrained[3].weight) or pretrained[3] is backbone.body[3]
