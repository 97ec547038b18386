#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The trainers' models as PyTorch modules, without torchvision: layer by layer what examples/models says, parameters
in the same order (VGG without batch norm; ResNet v1.5; Inception-v4's average pools do not count padding).

    torch_models.py      prints the number of parameters of each model, one JSON object
"""
import json

import torch
from torch import nn

NATIVE_IMAGE = {"vgg16": 224, "vgg19": 224, "resnet50": 224, "resnet152": 224, "inception_v4": 299}


def vgg(depths, image, classes, dropout):
    layers, channels = [], 3
    for depth, width in zip(depths, (64, 128, 256, 512, 512)):
        for _ in range(depth):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
            channels = width
        layers.append(nn.MaxPool2d(2, 2))
    layers.append(nn.Flatten())
    features = 512 * (image // 32) ** 2
    for _ in range(2):
        layers += [nn.Linear(features, 4096), nn.ReLU(inplace=True), nn.Dropout(dropout)]
        features = 4096
    layers.append(nn.Linear(features, classes))
    return nn.Sequential(*layers)


class Bottleneck(nn.Module):
    def __init__(self, inputs, width, stride, project):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.shortcut = None
        if project:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + (x if self.shortcut is None else self.shortcut(x)))


def resnet(depths, classes):
    layers = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    inputs, width = 64, 64
    for stage, depth in enumerate(depths):
        for block in range(depth):
            layers.append(Bottleneck(inputs, width, 2 if stage > 0 and block == 0 else 1, block == 0))
            inputs = 4 * width
        width *= 2
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


class Unit(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, inputs, out, kernel, stride=1, same=True):
        super().__init__()
        kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = tuple(k // 2 for k in kernel) if same else 0
        self.conv = nn.Conv2d(inputs, out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=1e-3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(self.bn(self.conv(x)))


def chain(inputs, *units):
    """Units one after the other, each (channels, kernel) with the image's size kept."""
    layers = []
    for out, kernel in units:
        layers.append(Unit(inputs, out, kernel))
        inputs = out
    return nn.Sequential(*layers)


def half(inputs, out):
    return Unit(inputs, out, 3, 2, same=False)


def average():
    return nn.AvgPool2d(3, 1, 1, count_include_pad=False)


class Branches(nn.Module):
    """What several modules make of one input, joined along the channels."""

    def __init__(self, *branches):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x):
        return torch.cat([branch(x) for branch in self.branches], 1)


def inception_a():
    return Branches(
        nn.Sequential(average(), Unit(384, 96, 1)), Unit(384, 96, 1), chain(384, (64, 1), (96, 3)),
        chain(384, (64, 1), (96, 3), (96, 3)))


def inception_b():
    return Branches(
        nn.Sequential(average(), Unit(1024, 128, 1)), Unit(1024, 384, 1),
        chain(1024, (192, 1), (224, (1, 7)), (256, (7, 1))),
        chain(1024, (192, 1), (192, (7, 1)), (224, (1, 7)), (224, (7, 1)), (256, (1, 7))))


def inception_c():
    def split(inputs, first, second):
        return Branches(Unit(inputs, 256, first), Unit(inputs, 256, second))

    return Branches(
        nn.Sequential(average(), Unit(1536, 256, 1)), Unit(1536, 256, 1),
        nn.Sequential(Unit(1536, 384, 1), split(384, (1, 3), (3, 1))),
        nn.Sequential(chain(1536, (384, 1), (448, (3, 1)), (512, (1, 3))), split(512, (1, 3), (3, 1))))


def inception_v4(classes, dropout):
    stem = [
        half(3, 32), Unit(32, 32, 3, same=False), Unit(32, 64, 3),
        Branches(nn.MaxPool2d(3, 2), half(64, 96)),
        Branches(nn.Sequential(Unit(160, 64, 1), Unit(64, 96, 3, same=False)),
                 nn.Sequential(chain(160, (64, 1), (64, (7, 1)), (64, (1, 7))), Unit(64, 96, 3, same=False))),
        Branches(half(192, 192), nn.MaxPool2d(3, 2))]
    reduction_a = Branches(
        nn.MaxPool2d(3, 2), half(384, 384), nn.Sequential(chain(384, (192, 1), (224, 3)), half(224, 256)))
    reduction_b = Branches(
        nn.MaxPool2d(3, 2), nn.Sequential(Unit(1024, 192, 1), half(192, 192)),
        nn.Sequential(chain(1024, (256, 1), (256, (1, 7)), (320, (7, 1))), half(320, 320)))
    return nn.Sequential(
        *stem, *[inception_a() for _ in range(4)], reduction_a, *[inception_b() for _ in range(7)], reduction_b,
        *[inception_c() for _ in range(3)], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout),
        nn.Linear(1536, classes))


def make_model(name, image=0, classes=1000, dropout=None):
    """A model by name; image 0: its native size; dropout None: the paper's rate."""
    image = image or NATIVE_IMAGE[name]
    if name in ("vgg16", "vgg19"):
        depths = (2, 2, 3, 3, 3) if name == "vgg16" else (2, 2, 4, 4, 4)
        return vgg(depths, image, classes, 0.5 if dropout is None else dropout)
    if name in ("resnet50", "resnet152"):
        return resnet((3, 4, 6, 3) if name == "resnet50" else (3, 8, 36, 3), classes)
    if name == "inception_v4":
        return inception_v4(classes, 0.2 if dropout is None else dropout)
    raise ValueError(f"model '{name}' is unknown; valid: {', '.join(NATIVE_IMAGE)}")


def parameter_count(model):
    return sum(parameter.numel() for parameter in model.parameters())


if __name__ == "__main__":
    print(json.dumps({name: parameter_count(make_model(name)) for name in NATIVE_IMAGE}))
