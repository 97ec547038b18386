#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Golden values of the update rules and schedules from PyTorch, in float64 and float32.

    tests/golden/make_update_golden.py           (Debian: python3-torch)

Writes update.json beside this file: for every rule three parameters over 20 steps with weight decay
and without, with a clipped gradient, and with each schedule. Numbers are small fractions that both
sides compute alike: parameter i starts at (i + 1) / 4, its gradient in step t is
((7 t + 5 i) % 13 - 6) / 8, and 0 in every sixth step.
"""
import json
import os

import torch

STEPS, ELEMENTS, DECAY = 20, 3, 0.05
HERE = os.path.dirname(os.path.abspath(__file__))
RULES = {
    "sgd": (torch.optim.SGD, {"lr": 0.1}),
    "momentum": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    "nesterov": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "rmsprop": (torch.optim.RMSprop, {"lr": 0.01}),
    "adagrad": (torch.optim.Adagrad, {"lr": 0.1, "lr_decay": 0.125}),
    "adam": (torch.optim.Adam, {"lr": 0.01}),
    "adamw": (torch.optim.AdamW, {"lr": 0.01}),
    # 1.13's other path multiplies u(t) into U(t + 1) twice, against its documentation.
    "nadam": (torch.optim.NAdam, {"lr": 0.01, "foreach": True}),
}


def gradient(step):
    values = [0 if step % 6 == 5 else ((7 * step + 5 * i) % 13 - 6) / 8 for i in range(ELEMENTS)]
    return torch.tensor(values, dtype=torch.float64)


def train(rule, dtype, decay=0.0, clip=0.0, schedule=None):
    parameter = torch.tensor([(i + 1) / 4 for i in range(ELEMENTS)], dtype=dtype, requires_grad=True)
    kind, options = RULES[rule]
    optimizer = kind([parameter], weight_decay=decay, **options)
    scheduler = schedule(optimizer) if schedule else None
    values = []
    for step in range(STEPS):
        parameter.grad = gradient(step).to(dtype)
        if clip:
            torch.nn.utils.clip_grad_norm_([parameter], clip)
        optimizer.step()
        if scheduler:
            scheduler.step()
        values.append([float(value) for value in parameter.detach()])
    return values


def step_decay(optimizer):
    return torch.optim.lr_scheduler.StepLR(optimizer, step_size=6, gamma=0.5)


def cosine(optimizer):
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20, eta_min=0.25 * 0.1)


def main():
    torch.set_default_dtype(torch.float64)  # of U(t), which NAdam keeps in a tensor
    golden = {"torch": torch.__version__, "steps": STEPS, "elements": ELEMENTS, "weight_decay": DECAY,
              "clip_norm": 0.5, "rules": {}, "schedules": {}}
    for rule, (_, options) in RULES.items():
        golden["rules"][rule] = {
            "learning_rate": options["lr"],
            "plain": train(rule, torch.float64),
            "decay": train(rule, torch.float64, decay=DECAY),
            "decay_f32": train(rule, torch.float32, decay=DECAY),
            "clip": train(rule, torch.float64, clip=0.5),
        }
    for name, schedule in (("step", step_decay), ("cosine", cosine)):
        golden["schedules"][name] = train("momentum", torch.float64, schedule=schedule)
    with open(os.path.join(HERE, "update.json"), "w") as file:
        json.dump(golden, file, separators=(",", ":"))
        file.write("\n")


if __name__ == "__main__":
    main()
