#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Golden values of the trainers' models from PyTorch in float64.

    tests/golden/make_goldens.py [MODEL ...]     (Debian: python3-torch, python3-numpy)

Writes MODEL.json beside this file: loss, evaluation loss after one train step's running statistics,
and for every parameter's gradient its norm and 8 sampled values; small_cnn also ten training losses.
MODEL_open.json is for float32: every batch norm's beta starts at 3 or 5, which keeps ReLUs away from
their kink. At the papers' start rounding alone opens and closes gates: any two float32 runs of a deep
network with batch norm differ by 1e-2 to 1e-1 in the gradient (losses by 1e-4 at most).
The models are written here from the papers, apart from the C++ code; only parameter names, the
generator of initial values and the synthetic data are common ground (examples/nn/random.h).
"""
import json
import os
import sys

import numpy as np
import torch
import torch.nn.functional as F

PARAMETER_SEED, DATA_SEED, SAMPLES = 1, 2, 8
HERE = os.path.dirname(os.path.abspath(__file__))

# The counter-based generator of examples/nn/random.h.
U64 = np.uint64
GAMMA = 0x9E3779B97F4A7C15


def stream_of(name):
    value = 0xCBF29CE484222325
    for byte in name.encode():
        value = ((value ^ byte) * 0x100000001B3) % 2**64
    return value


def mix64(x):
    with np.errstate(over="ignore"):
        x = np.asarray(x, U64)
        x = (x ^ (x >> U64(30))) * U64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> U64(27))) * U64(0x94D049BB133111EB)
        return x ^ (x >> U64(31))


def random_bits(seed, stream, index):
    with np.errstate(over="ignore"):
        state = mix64(mix64((seed + GAMMA) % 2**64) ^ U64(stream))
        return mix64(state + (np.asarray(index, U64) + U64(1)) * U64(GAMMA))


def random_uniform(seed, stream, index):
    return (random_bits(seed, stream, index) >> U64(11)).astype(np.float64) * 2.0**-53


def random_normal(seed, stream, count):
    index = np.arange(count, dtype=U64)
    u = random_uniform(seed, stream, U64(2) * index)
    v = random_uniform(seed, stream, U64(2) * index + U64(1))
    return np.sqrt(-2.0 * np.log1p(-u)) * np.cos(2.0 * np.pi * v)


# Synthetic data (examples/data/synthetic.cpp).
def pattern(label, channels, size):
    stream, out = int(mix64((stream_of("pattern") + label) % 2**64)), []
    grid = np.arange(size) / size
    for channel in range(channels):
        image = np.zeros((size, size), np.float64)
        for wave in range(3):
            draw = 3 * (3 * channel + wave)
            fx = int(random_bits(DATA_SEED, stream, draw)) % 4
            fy = int(random_bits(DATA_SEED, stream, draw + 1)) % 4
            phase = float(random_uniform(DATA_SEED, stream, draw + 2))
            image += np.cos(2 * np.pi * (fx * grid[None, :] + fy * grid[:, None] + phase)) * 0.5 / 3
        out.append(image)
    return np.stack(out)


def samples(kind, first, batch, size, classes):
    images, labels = [], []
    for index in range(first, first + batch):
        stream = int(mix64((stream_of("pixels") + index) % 2**64))
        uniform = random_uniform(DATA_SEED, stream, np.arange(3 * size * size))
        image = (2.0 * uniform - 1.0).reshape(3, size, size)
        label = int(random_bits(DATA_SEED, stream_of("label"), index)) % classes
        if kind == "learnable":
            image = 0.5 * image + pattern(label, 3, size)
        images.append(image.astype(np.float32).astype(np.float64))
        labels.append(label)
    return torch.tensor(np.stack(images)), torch.tensor(labels)


class Model:
    """Layers as verbs; a parameter is drawn when its layer is first met."""

    def __init__(self, beta=0):
        self.parameters, self.statistics, self.training, self.beta = {}, {}, True, beta

    def parameter(self, name, dims, kind, value):
        if name not in self.parameters:
            count, stream = int(np.prod(dims)), stream_of(name)
            if kind == "constant":
                values = np.full(count, float(value))
            elif kind == "uniform":
                values = value * (2 * random_uniform(PARAMETER_SEED, stream, np.arange(count)) - 1)
            else:
                values = value * random_normal(PARAMETER_SEED, stream, count)
            self.parameters[name] = torch.tensor(values.reshape(dims)).requires_grad_()
        return self.parameters[name]

    def weight(self, name, dims, scheme):
        taps = int(np.prod(dims[2:]))
        fan_in, fan_out = dims[1] * taps, dims[0] * taps
        kind, value = {
            "glorot": ("uniform", (6.0 / (fan_in + fan_out)) ** 0.5),
            "he": ("normal", (2.0 / fan_in) ** 0.5),
            "small": ("normal", 0.01),
        }[scheme]
        return self.parameter(name + ".weight", dims, kind, value)

    def conv(self, name, x, out, kernel, stride=1, padding=0, bias=False, scheme="he"):
        kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
        weight = self.weight(name, (out, x.shape[1]) + kernel, scheme)
        b = self.parameter(name + ".bias", (out,), "constant", 0) if bias else None
        return F.conv2d(x, weight, b, stride, padding)

    def norm(self, name, x, epsilon):
        gamma = self.parameter(name + ".gamma", (x.shape[1],), "constant", 1)
        beta = self.parameter(name + ".beta", (x.shape[1],), "constant", self.beta)
        mean, variance = self.statistics.setdefault(
            name, (torch.zeros(x.shape[1]), torch.ones(x.shape[1])))
        return F.batch_norm(x, mean, variance, gamma, beta, self.training, 0.1, epsilon)

    def dense(self, name, x, out, scheme):
        x = x.flatten(1)
        weight = self.weight(name, (out, x.shape[1]), scheme)
        return F.linear(x, weight, self.parameter(name + ".bias", (out,), "constant", 0))


def vgg(m, x, depths, classes):
    for stage, (depth, width) in enumerate(zip(depths, (64, 128, 256, 512, 512)), 1):
        for i in range(1, depth + 1):
            x = F.relu(m.conv(f"conv{stage}_{i}", x, width, 3, 1, 1, True, "glorot"))
        x = F.max_pool2d(x, 2)
    x = F.relu(m.dense("fc6", x, 4096, "glorot"))
    x = F.relu(m.dense("fc7", x, 4096, "glorot"))
    return m.dense("fc8", x, classes, "glorot")


def resnet(m, x, depths, classes):
    def conv_norm(prefix, suffix, y, *shape):
        return m.norm(f"{prefix}bn{suffix}", m.conv(f"{prefix}conv{suffix}", y, *shape), 1e-5)

    x = F.max_pool2d(F.relu(conv_norm("", "1", x, 64, 7, 2, 3)), 3, 2, 1)
    for stage, depth in enumerate(depths):
        for block in range(depth):
            prefix, width = f"stage{stage + 1}.{block}.", 64 * 2**stage
            stride = 2 if stage and not block else 1
            y = F.relu(conv_norm(prefix, "1", x, width, 1))
            y = F.relu(conv_norm(prefix, "2", y, width, 3, stride, 1))
            y = conv_norm(prefix, "3", y, 4 * width, 1)
            if not block:
                x = conv_norm(prefix, "_shortcut", x, 4 * width, 1, stride)
            x = F.relu(x + y)
    return m.dense("fc", x.mean((2, 3)), classes, "small")


def inception_v4(m, x, classes):
    def unit(name, y, out, kernel, stride=1, same=True):
        kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = tuple(k // 2 for k in kernel) if same else 0
        y = m.conv(name + ".conv", y, out, kernel, stride, padding)
        return F.relu(m.norm(name + ".bn", y, 1e-3))

    def chain(block, y, *units):
        for name, out, kernel in units:
            y = unit(f"{block}.{name}", y, out, kernel)
        return y

    def average(y):
        return F.avg_pool2d(y, 3, 1, 1, count_include_pad=False)

    def half(name, y, out):
        return unit(name, y, out, 3, 2, False)

    x = half("stem.1", x, 32)
    x = unit("stem.2", x, 32, 3, 1, False)
    x = unit("stem.3", x, 64, 3)
    x = torch.cat([F.max_pool2d(x, 3, 2), half("stem.4", x, 96)], 1)
    left = unit("stem.5b", unit("stem.5a", x, 64, 1), 96, 3, 1, False)
    right = chain("stem", x, ("6a", 64, 1), ("6b", 64, (7, 1)), ("6c", 64, (1, 7)))
    x = torch.cat([left, unit("stem.6d", right, 96, 3, 1, False)], 1)
    x = torch.cat([half("stem.7", x, 192), F.max_pool2d(x, 3, 2)], 1)
    for i in range(1, 5):
        b = f"a{i}"
        x = torch.cat([chain(b, average(x), ("1", 96, 1)),
                       chain(b, x, ("2", 96, 1)),
                       chain(b, x, ("3a", 64, 1), ("3b", 96, 3)),
                       chain(b, x, ("4a", 64, 1), ("4b", 96, 3), ("4c", 96, 3))], 1)
    deep = chain("reduce_a", x, ("3a", 192, 1), ("3b", 224, 3))
    x = torch.cat([F.max_pool2d(x, 3, 2), half("reduce_a.2", x, 384),
                   half("reduce_a.3c", deep, 256)], 1)
    for i in range(1, 8):
        b = f"b{i}"
        x = torch.cat([chain(b, average(x), ("1", 128, 1)),
                       chain(b, x, ("2", 384, 1)),
                       chain(b, x, ("3a", 192, 1), ("3b", 224, (1, 7)), ("3c", 256, (7, 1))),
                       chain(b, x, ("4a", 192, 1), ("4b", 192, (7, 1)), ("4c", 224, (1, 7)),
                             ("4d", 224, (7, 1)), ("4e", 256, (1, 7)))], 1)
    middle = chain("reduce_b", x, ("2a", 192, 1))
    deep = chain("reduce_b", x, ("3a", 256, 1), ("3b", 256, (1, 7)), ("3c", 320, (7, 1)))
    x = torch.cat([F.max_pool2d(x, 3, 2), half("reduce_b.2b", middle, 192),
                   half("reduce_b.3d", deep, 320)], 1)
    for i in range(1, 4):
        b = f"c{i}"
        middle = chain(b, x, ("3a", 384, 1))
        deep = chain(b, x, ("4a", 384, 1), ("4b", 448, (3, 1)), ("4c", 512, (1, 3)))
        x = torch.cat([chain(b, average(x), ("1", 256, 1)),
                       chain(b, x, ("2", 256, 1)),
                       chain(b, middle, ("3b", 256, (1, 3))),
                       chain(b, middle, ("3c", 256, (3, 1))),
                       chain(b, deep, ("4d", 256, (1, 3))),
                       chain(b, deep, ("4e", 256, (3, 1)))], 1)
    return m.dense("fc", x.mean((2, 3)), classes, "small")


def small_cnn(m, x, classes):
    for i in (1, 2, 3):
        x = F.max_pool2d(F.relu(m.conv(f"conv{i}", x, 8 * 2**i, 3, 1, 1, True)), 2)
    return m.dense("fc5", F.relu(m.dense("fc4", x, 64, "he")), classes, "small")


MODELS = {  # name: (image, batch, classes, function)
    "vgg16": (64, 2, 1000, lambda m, x, c: vgg(m, x, (2, 2, 3, 3, 3), c)),
    "vgg19": (32, 2, 1000, lambda m, x, c: vgg(m, x, (2, 2, 4, 4, 4), c)),
    "resnet50": (64, 4, 1000, lambda m, x, c: resnet(m, x, (3, 4, 6, 3), c)),
    "resnet152": (64, 4, 1000, lambda m, x, c: resnet(m, x, (3, 8, 36, 3), c)),
    "inception_v4": (107, 4, 1000, inception_v4),
    "small_cnn": (32, 8, 10, small_cnn),
}


# A larger beta brings the values closer to each other, relatively, and max pools to near ties:
# inception_v4 has pools all the way down, hence the smaller one.
OPEN_BETA = {"resnet50": 5.0, "resnet152": 5.0, "inception_v4": 3.0}


def number(value):
    return float(f"{float(value):.11g}")


def gradient_record(name, gradient):
    flat = gradient.flatten()
    where = random_bits(DATA_SEED, stream_of(name), np.arange(SAMPLES)) % U64(flat.numel())
    return {"name": name, "elements": flat.numel(), "norm": number(flat.norm()),
            "samples": [number(flat[int(i)]) for i in where]}


def train(name, steps, learning_rate, momentum):
    image, batch, classes, function = MODELS[name]
    model, velocity, losses = Model(), {}, []
    for step in range(steps):
        x, labels = samples("learnable", step * batch, batch, image, classes)
        loss = F.cross_entropy(function(model, x, classes), labels)
        gradients = torch.autograd.grad(loss, list(model.parameters.values()))
        losses.append(number(loss))
        for (key, value), gradient in zip(model.parameters.items(), gradients):
            velocity[key] = momentum * velocity.get(key, 0) + gradient
            value.data -= learning_rate * velocity[key]
    return {"data": "learnable", "learning_rate": learning_rate, "momentum": momentum,
            "losses": losses}


def golden(file_name):
    name = file_name.removesuffix("_open")
    image, batch, classes, function = MODELS[name]
    beta = OPEN_BETA[name] if file_name != name else 0.0
    model = Model(beta)
    x, labels = samples("random", 0, batch, image, classes)
    loss = F.cross_entropy(function(model, x, classes), labels)
    gradients = torch.autograd.grad(loss, list(model.parameters.values()))
    model.training = False
    with torch.no_grad():
        evaluated = F.cross_entropy(function(model, x, classes), labels)
    record = {"model": name, "image": image, "batch": batch, "classes": classes,
              "parameter_seed": PARAMETER_SEED, "data_seed": DATA_SEED, "data": "random",
              "beta": beta, "torch": torch.__version__, "loss": number(loss),
              "loss_evaluate": number(evaluated)}
    if name == "small_cnn":
        record["training"] = train(name, 10, 0.02, 0.9)
    lines = [json.dumps(gradient_record(key, gradient))
             for key, gradient in zip(model.parameters, gradients)]
    head = json.dumps(record, indent=1)[:-2]
    with open(os.path.join(HERE, file_name + ".json"), "w", encoding="ascii") as file:
        file.write(head + ',\n "gradients": [\n' + ",\n".join(lines) + "\n]}\n")
    print(f"{file_name}: {len(lines)} tensors, loss {float(loss):.12g}")


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    torch.use_deterministic_algorithms(True)
    for chosen in sys.argv[1:] or [*MODELS, *(name + "_open" for name in OPEN_BETA)]:
        golden(chosen)
