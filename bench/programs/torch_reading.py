"""Times PyTorch's DataLoader on the TFRecord shards that reading.py reads, where records are found by their size.

Usage: torch_reading.py FOLDER RECORD_BYTES STEP PROCESSES. Prints what reading.py does. Needs no package but PyTorch.
"""

import itertools
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

BATCH = 128


class Records(torch.utils.data.Dataset):  # type: ignore[misc]
    """One read a record."""

    def __init__(self, folder: str, size: int) -> None:
        self.size, self.files = size, sorted(Path(folder).glob("*.tfrecord"))
        self.each = [file.stat().st_size // (size + 16) for file in self.files]
        self.opened: list[int] = []

    def __len__(self) -> int:
        return sum(self.each)

    def __getitem__(self, row: int) -> Any:
        if not self.opened:
            self.opened = [os.open(file, os.O_RDONLY) for file in self.files]
        file = 0
        while row >= self.each[file]:
            row -= self.each[file]
            file += 1
        data = bytearray(os.pread(self.opened[file], self.size, row * (self.size + 16) + 12))
        return torch.frombuffer(data, dtype=torch.uint8)[1:], data[0]


if __name__ == "__main__":
    began = time.perf_counter()
    loader = torch.utils.data.DataLoader(
        Records(sys.argv[1], int(sys.argv[2])), BATCH, shuffle=True, drop_last=True, num_workers=int(sys.argv[4])
    )
    first, examples = 0.0, 0
    for x, _ in itertools.islice(loader, int(sys.argv[3]), None):
        first = first or time.perf_counter() - began
        examples += len(x)
    print(json.dumps({"first": first, "seconds": time.perf_counter() - began, "examples": examples}))
