#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""read_safetensors.py WEIGHTS OUT: writes all values of a safetensors file, in its order, as f64.

Uses the package safetensors with PyTorch where both are installed, else reads the file by hand."""
import array
import json
import struct
import sys


def header_of(path):
    with open(path, "rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(length))
        data = file.read()
    header.pop("__metadata__", None)
    return header, data


def by_package(path):
    from safetensors.torch import load_file
    tensors = load_file(path)
    names, _ = header_of(path)
    for name, entry in names.items():
        assert list(tensors[name].shape) == entry["shape"], name
        yield from tensors[name].double().flatten().tolist()


def by_hand(path):
    header, data = header_of(path)
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        values = array.array({"F32": "f", "F64": "d"}[entry["dtype"]], data[begin:end])
        count = 1
        for size in entry["shape"]:
            count *= size
        assert count == len(values), name
        yield from values


def main():
    try:
        values = list(by_package(sys.argv[1]))
    except ImportError:
        values = list(by_hand(sys.argv[1]))
    with open(sys.argv[2], "wb") as file:
        array.array("d", values).tofile(file)


main()
