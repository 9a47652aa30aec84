"""Writes crates/model/tests/suite/torch/*.bin: what torch.save makes of state dicts, for the reader of crates/model/src/checkpoint/torch.

    python scripts/make_torch_fixture.py        needs torch (written with 2.15.0)
"""

import collections
import os

import torch

OUT = os.path.join(os.path.dirname(__file__), "..", "crates", "model", "tests", "suite", "torch")


class Small(torch.nn.Module):
    """Numbers of all sizes, a storage that two tensors share, a buffer of whole numbers."""

    def __init__(self):
        super().__init__()
        self.full = torch.nn.Parameter(torch.arange(6.0).view(2, 3) - 2.5)
        self.brain = torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.140625], dtype=torch.bfloat16))
        self.halves = torch.nn.Parameter(torch.tensor([[0.5], [65504.0]], dtype=torch.float16))
        self.register_buffer("position_ids", torch.arange(3))
        self.inner = torch.nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.inner.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))


def main():
    os.makedirs(OUT, exist_ok=True)
    save = lambda value, name, **kw: torch.save(value, os.path.join(OUT, name), **kw)
    module = Small()
    save(module.state_dict(), "module.bin")
    table = torch.arange(12.0).view(6, 2)
    # A part of a storage, a parameter that is saved as one, a number without sides, a name of many letters.
    views = {"tail": table[4:], "parameter": torch.nn.Parameter(table[:1].clone()), "scalar": torch.tensor(7.0), "é": table[1]}
    save(views, "views.bin")
    save({"a": torch.ones(2), "b": torch.zeros(1)}, "protocol_4.bin", pickle_protocol=4)
    save({"turned": table.t()}, "turned.bin")
    save({"a": torch.ones(2), "epoch": 3}, "epoch.bin")
    save(module, "whole_module.bin")
    save(collections.OrderedDict(a=torch.ones(2)), "before_1_6.bin", _use_new_zipfile_serialization=False)


if __name__ == "__main__":
    main()
