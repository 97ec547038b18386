#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trains one of torch_models.py on synthetic data that lies on the device, and reports how fast: the opponent of
train_cnn in gpu_check.

    torch_peer.py --model resnet50 --mode eager --precision f16 --batch 256 --steps 20 --json peer.jsonl
    torch_peer.py --probe          which PyTorch this is and what it runs on; exit code 77 without a GPU

channels_last; f16 and bf16 by autocast, f16 with GradScaler; cuDNN times its algorithms first; SGD with momentum 0.9,
fused where this PyTorch has it; everything of a step included. Formulas, for the timed steps after the warm-up:
  images_per_second = batch x steps / wall seconds between two synchronisations
  step_ms_median    = median time between marks at the end of each step, on the device's own clock
"""
import argparse
import json
import sys
import time

import torch
from torch import nn

from torch_models import NATIVE_IMAGE, make_model, parameter_count

AUTOCAST = {"f16": torch.float16, "bf16": torch.bfloat16}
KEPT_BATCHES = 2


def environment(device):
    cuda = device == "cuda"
    return {"torch": torch.__version__, "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(),
            "device": torch.cuda.get_device_name(0) if cuda else "cpu"}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--probe", action="store_true", help="print what there is, do not train")
    parser.add_argument("--model", choices=list(NATIVE_IMAGE), default="resnet50")
    parser.add_argument("--mode", choices=["eager", "compile", "max-autotune"], default="eager")
    parser.add_argument("--precision", choices=["f32", "tf32", "f16", "bf16"], default="f16")
    parser.add_argument("--batch", type=int, default=256, help="images a step")
    parser.add_argument("--steps", type=int, default=20, help="timed steps")
    parser.add_argument("--warmup", type=int, default=5, help="steps before them")
    parser.add_argument("--image", type=int, default=0, help="pixels a side; 0: the model's own")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--json", default="", help="file that the record is appended to")
    return parser.parse_args()


def make_optimizer(model, cuda):
    try:
        return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, **({"fused": True} if cuda else {}))
    except (TypeError, RuntimeError):  # an older PyTorch
        return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)


def make_scaler(enabled):
    if hasattr(torch.amp, "GradScaler"):
        return torch.amp.GradScaler("cuda", enabled=enabled)
    return torch.cuda.amp.GradScaler(enabled=enabled)  # an older PyTorch


class Trainer:
    def __init__(self, o):
        self.device, self.precision = o.device, o.precision
        tf32 = o.precision != "f32"
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cuda.matmul.allow_tf32 = tf32
        torch.manual_seed(1)
        image = o.image or NATIVE_IMAGE[o.model]
        self.model = make_model(o.model, image).to(self.device).to(memory_format=torch.channels_last).train()
        self.parameters = parameter_count(self.model)
        self.optimizer = make_optimizer(self.model, self.device == "cuda")
        self.scaler = make_scaler(o.precision == "f16" and self.device == "cuda")
        self.images = [torch.rand(o.batch, 3, image, image, device=self.device).mul_(2).sub_(1).contiguous(
            memory_format=torch.channels_last) for _ in range(KEPT_BATCHES)]
        self.labels = [torch.randint(0, 1000, (o.batch,), device=self.device) for _ in range(KEPT_BATCHES)]
        self.forward = self.model
        if o.mode == "compile":
            self.forward = torch.compile(self.model)
        elif o.mode == "max-autotune":
            self.forward = torch.compile(self.model, mode="max-autotune")

    def step(self, number):
        images, labels = self.images[number % KEPT_BATCHES], self.labels[number % KEPT_BATCHES]
        self.optimizer.zero_grad(set_to_none=True)
        kind = AUTOCAST.get(self.precision, torch.bfloat16)
        with torch.autocast(self.device, dtype=kind, enabled=self.precision in AUTOCAST):
            loss = nn.functional.cross_entropy(self.forward(images), labels)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.detach()


class Marks:
    """Ends of steps: events on a GPU, so that nothing waits for it."""

    def __init__(self, cuda):
        self.cuda, self.marks = cuda, []

    def mark(self):
        if self.cuda:
            self.marks.append(torch.cuda.Event(enable_timing=True))
            self.marks[-1].record()
        else:
            self.marks.append(time.perf_counter())

    def median_ms(self):
        pairs = list(zip(self.marks, self.marks[1:]))
        times = sorted(a.elapsed_time(b) if self.cuda else 1e3 * (b - a) for a, b in pairs)
        middle = len(times) // 2
        return times[middle] if len(times) % 2 else (times[middle - 1] + times[middle]) / 2


def measure(o):
    trainer, cuda = Trainer(o), o.device == "cuda"
    synchronize = torch.cuda.synchronize if cuda else lambda: None
    began = time.perf_counter()
    first = float(trainer.step(0))
    for number in range(1, o.warmup):
        trainer.step(number)
    synchronize()
    begin, marks = time.perf_counter(), Marks(cuda)
    marks.mark()
    for number in range(o.steps):
        last = trainer.step(number)
        marks.mark()
    synchronize()
    wall = time.perf_counter() - begin
    return {"record": "peer", "kind": "measured", "library": "pytorch", "model": o.model, "mode": o.mode,
            "precision": o.precision, "batch": o.batch, "image": o.image or NATIVE_IMAGE[o.model],
            "steps": o.steps, "warmup": o.warmup, "channels_last": True, "parameters": trainer.parameters,
            "images_per_second": o.batch * o.steps / wall, "step_ms_median": marks.median_ms(),
            "setup_s": begin - began, "loss_first": first, "loss_last": float(last),
            "peak_memory_bytes": torch.cuda.max_memory_allocated() if cuda else None,
            **environment(o.device), "command": " ".join(sys.argv)}


def main():
    o = arguments()
    if o.device == "cuda" and not torch.cuda.is_available():
        print("torch_peer: this PyTorch sees no GPU", file=sys.stderr)
        return 77
    record = {"record": "peer_probe", **environment(o.device)} if o.probe else measure(o)
    line = json.dumps(record)
    print(line)
    if o.json:
        with open(o.json, "a", encoding="utf-8") as file:
            file.write(line + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
