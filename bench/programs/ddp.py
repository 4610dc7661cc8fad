"""Times the same training under PyTorch's DistributedDataParallel on gloo: one of two workers, with one thread.

Usage: ddp.py RANK PORT GLOBAL_BATCH STEPS DATA_DIR. Prints the seconds of a step, the best of three measurements. It
needs PyTorch, and so the Python that `make bench TORCH=/path/to/python` names.
"""

import gzip
import os
import sys
import time

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

rank, port, batch, steps, data = int(sys.argv[1]), *sys.argv[2:5], sys.argv[5]
os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
torch.set_num_threads(1)
dist.init_process_group("gloo", rank=rank, world_size=2)
with gzip.open(f"{data}/train-images-idx3-ubyte.gz") as images_file:
    images = torch.from_numpy(np.frombuffer(images_file.read(), np.uint8, offset=16).reshape(-1, 784).copy())
with gzip.open(f"{data}/train-labels-idx1-ubyte.gz") as labels_file:
    labels = torch.from_numpy(np.frombuffer(labels_file.read(), np.uint8, offset=8).astype(np.int64))
model = nn.parallel.DistributedDataParallel(
    nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Dropout(0.2), nn.Linear(512, 10))
)
optimizer, loss_of = torch.optim.Adam(model.parameters(), 1e-3), nn.CrossEntropyLoss()
share = int(batch) // 2
order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))


def train(count: int) -> None:
    for step in range(count):
        first = step * int(batch) % (len(images) - int(batch)) + rank * share
        rows = order[first : first + share]
        optimizer.zero_grad()
        loss_of(model(images[rows].float() / 255), labels[rows]).backward()
        optimizer.step()


train(10)
best = float("inf")
for _ in range(3):
    dist.barrier()
    started = time.perf_counter()
    train(int(steps))
    best = min(best, (time.perf_counter() - started) / int(steps))
print(best)
dist.destroy_process_group()
