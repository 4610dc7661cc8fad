"""Times the same training under PyTorch in a CUDA graph: all of a step, its batch and its metrics included, at once.

Usage: cuda_graph.py mlp|cnn GLOBAL_BATCH STEPS DATA_DIR. Prints the seconds of a step, the best of five measurements.
It needs PyTorch and a GPU, and so the Python that `make bench ARGS=gpu TORCH=/path/to/python` names. Products are in
TF32, as TensorFlow's are, and the optimizer is PyTorch's fused one.
"""

import gzip
import sys
import time

import numpy as np
import torch
from torch import nn

SHIFT = 2  # As trainer/examples/cnn.py moves images.
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")  # On CPUs, step by step, only to see it run.


def convolution(inputs: int, filters: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, filters, 3, padding=1, bias=False), nn.BatchNorm2d(filters), nn.ReLU()]


kind, batch, steps, data = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
torch.backends.cudnn.benchmark = True
with gzip.open(f"{data}/train-images-idx3-ubyte.gz") as file:
    images = torch.from_numpy(np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28).copy()).to(DEVICE)
with gzip.open(f"{data}/train-labels-idx1-ubyte.gz") as file:
    labels = torch.from_numpy(np.frombuffer(file.read(), np.uint8, offset=8).astype(np.int64)).to(DEVICE)
layers: list[nn.Module]
if kind == "mlp":
    layers = [nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Dropout(0.2), nn.Linear(512, 10)]
else:
    layers = [
        *convolution(1, 16), *convolution(16, 32), nn.MaxPool2d(2), *convolution(32, 64), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 7 * 7, 10),
    ]  # fmt: skip
model = nn.Sequential(*layers).to(DEVICE, memory_format=torch.channels_last)
on_gpu = DEVICE.type == "cuda"
options = {"fused": True, "capturable": True} if on_gpu else {}
make = torch.optim.Adam if kind == "mlp" else torch.optim.AdamW
optimizer, loss_of = make(model.parameters(), lr=1e-3, **options), nn.CrossEntropyLoss()
order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0)).to(DEVICE)
index = torch.zeros([], dtype=torch.int64, device=DEVICE)
places, pixels = torch.arange(batch, device=DEVICE), torch.arange(28, device=DEVICE)
loss_sum, correct = torch.zeros([], device=DEVICE), torch.zeros([], dtype=torch.int64, device=DEVICE)


def step() -> None:
    rows = order[(index * batch + places) % len(images)]
    x, y = images[rows].float() / 255, labels[rows]
    if kind == "cnn":
        down, right = (torch.randint(2 * SHIFT + 1, [batch], device=DEVICE) for _ in range(2))
        x = nn.functional.pad(x, [SHIFT] * 4)
        of = torch.arange(batch, device=DEVICE)[:, None, None]
        x = x[of, (down[:, None] + pixels)[:, :, None], (right[:, None] + pixels)[:, None, :]]
        x = x[:, None].contiguous(memory_format=torch.channels_last)
    logits = model(x)
    loss = loss_of(logits, y)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=False)
    loss_sum.add_(loss.detach() * batch)
    correct.add_((logits.argmax(1) == y).sum())
    index.add_(1)


if on_gpu:
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(5):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    run, wait = graph.replay, torch.cuda.synchronize
else:
    run, wait = step, lambda: None
best = float("inf")
for _ in range(5):
    wait()
    started = time.perf_counter()
    for _ in range(steps):
        run()
    wait()
    best = min(best, (time.perf_counter() - started) / steps)
if not bool(torch.isfinite(loss_sum)):
    sys.exit("the loss is not finite")
print(f"accuracy {float(correct) / float(index) / batch:.3f}", file=sys.stderr)
print(best)
