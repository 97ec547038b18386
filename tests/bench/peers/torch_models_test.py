#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The peer's models are the trainers' models: same parameters in the same order, same outputs to rounding as the
functions behind the golden files; and the peer itself trains on the CPU. Exit code 77 where PyTorch is missing."""
import json
import os
import subprocess
import sys

try:
    import numpy as np
    import torch
except ImportError as error:
    print(f"SKIPPED: {error}; install python3-torch and python3-numpy")
    sys.exit(77)

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..")
PEERS = os.path.join(ROOT, "bench", "peers")
GOLDEN = os.path.join(ROOT, "tests", "golden")
sys.path[:0] = [PEERS, GOLDEN]
import make_goldens  # noqa: E402
import torch_models  # noqa: E402

COUNTS = {"vgg16": 138357544, "vgg19": 143667240, "resnet50": 25557032, "resnet152": 60192808, "inception_v4": 42679816}


def check(condition, what):
    if not condition:
        print(f"FAILED: {what}")
        sys.exit(1)


def in_graph_order(name, parameters):
    """The golden functions meet some units of Inception's blocks earlier than the graph does; there their names
    ascend within a block."""
    keys = list(parameters)
    if name != "inception_v4":
        return keys
    blocks = list(dict.fromkeys(key.split(".")[0] for key in keys))
    return sorted(keys, key=lambda key: (blocks.index(key.split(".")[0]), key.split(".")[1] if key[:3] != "fc." else ""))


def check_values(name):
    """Outputs in training mode, from the same parameters and images, in float64."""
    image, batch, classes, function = make_goldens.MODELS[name]
    reference = make_goldens.Model()
    x, _ = make_goldens.samples("random", 0, batch, image, classes)
    with torch.no_grad():
        wanted = function(reference, x, classes)
        model = torch_models.make_model(name, image, classes, dropout=0.0).double().train()
        mine = list(model.parameters())
        check(len(mine) == len(reference.parameters), f"{name}: {len(mine)} parameters")
        for own, key in zip(mine, in_graph_order(name, reference.parameters)):
            value = reference.parameters[key]
            check(own.shape == value.shape, f"{name}: {key} is {tuple(own.shape)}, not {tuple(value.shape)}")
            own.copy_(value)
        got = model(x)
    worst = float((got - wanted).abs().max() / wanted.abs().max())
    check(worst < 1e-9, f"{name}: outputs differ by {worst:.3g} of the largest")
    print(f"{name}: {len(mine)} tensors, outputs within {worst:.2g}")


def check_peer():
    command = [sys.executable, os.path.join(PEERS, "torch_peer.py"), "--device", "cpu", "--model", "resnet50",
               "--precision", "bf16", "--batch", "2", "--image", "64", "--steps", "2", "--warmup", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    check(done.returncode == 0, f"torch_peer.py: {done.stderr}")
    record = json.loads(done.stdout.splitlines()[-1])
    check(record["parameters"] == COUNTS["resnet50"], "the peer's parameters")
    check(record["images_per_second"] > 0 and record["step_ms_median"] > 0, "the peer's times")
    check(np.isfinite([record["loss_first"], record["loss_last"]]).all(), "the peer's losses")
    gpu = subprocess.run(command[:2] + ["--probe"], capture_output=True, text=True, check=False)
    check(gpu.returncode == (0 if torch.cuda.is_available() else 77), f"--probe ended with {gpu.returncode}")


def main():
    torch.set_default_dtype(torch.float64)
    for name, count in COUNTS.items():
        got = torch_models.parameter_count(torch_models.make_model(name))
        check(got == count, f"{name} has {got} parameters instead of {count}")
        check_values(name)
    check_peer()
    print("all models agree")


if __name__ == "__main__":
    main()
