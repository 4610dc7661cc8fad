"""Training from files is training from arrays, wherever the files are and whatever becomes of requests."""

import itertools
import random
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.sources.conftest import servers, uploaded
from tests.support import data_formats
from tests.support.object_stores import Server, s3_first
from tests.support.servers import BUCKET, toxiproxy
from tests.support.servers.refusing_proxy import S3_ERROR, refusing_proxy
from tests.support.small_mnist import TEST_IMAGES, TRAIN_IMAGES, write_idx
from tests.support.training_processes import Training, Worker, result
from trainer.core.log_lines import Progress
from trainer.training.data import idx_files

FLAGS = ("--epochs=2", "--global_batch_size=64", "--hidden_units=32")
READ = ("--experiment=tests.experiments.read_mnist", *FLAGS)
BY_LABEL = "images"  # Of a folder of images the order is that of the classes.


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small MNIST in every format."""
    folder = tmp_path_factory.mktemp("files")
    for (images, labels), split, count in zip(
        idx_files.load(""), ("train", "validation"), (TRAIN_IMAGES, TEST_IMAGES), strict=True
    ):
        data_formats.write(folder / split, images[:count], labels[:count])
        data_formats.write_image_folder(folder / split / "images", images[:count], labels[:count])
    return folder


@pytest.fixture(scope="module")
def by_label(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same images as arrays in the order of their labels."""
    folder = tmp_path_factory.mktemp("sorted")
    for (images, labels), prefix, count in zip(
        idx_files.load(""), ("train", "t10k"), (TRAIN_IMAGES, TEST_IMAGES), strict=True
    ):
        order = np.argsort(labels[:count], kind="stable")
        write_idx(folder / f"{prefix}-images-idx3-ubyte", images[order])
        write_idx(folder / f"{prefix}-labels-idx1-ubyte", labels[order])
    return folder


@pytest.fixture(scope="module")
def arrays(small_mnist: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The weights that arrays give."""
    training = Training([f"--data_dir={small_mnist}", "--threads=1"])
    folder = tmp_path_factory.mktemp("arrays")
    training.run(*FLAGS, f"--run_dir={folder}")
    yield weights(folder)
    training.close()


def weights(run_dir: Path) -> str:
    return str(result(run_dir)["weights_sha256"])


def ended(worker: Worker, code: int = 0) -> Worker:
    assert worker.wait() == code, worker.text
    assert "Traceback" not in worker.text
    return worker


@pytest.mark.parametrize("reader", [*data_formats.READERS, BY_LABEL])
def test_each_reader_gives_the_weights_that_arrays_give(
    training: Training, files: Path, by_label: Path, arrays: str, tmp_path: Path, reader: str
) -> None:
    ended(training.start(*READ, f"--data_dir={files}", f"--reader={reader}", f"--run_dir={tmp_path}"))
    if reader == BY_LABEL:
        ended(training.start(*FLAGS, f"--data_dir={by_label}", f"--run_dir={tmp_path / 'arrays'}"))
        arrays = weights(tmp_path / "arrays")
    assert weights(tmp_path) == arrays
    assert result(tmp_path)["steps"] == 2 * (TRAIN_IMAGES // 64)


@pytest.fixture
def place(server: Server, files: Path, tmp_path: Path) -> str:
    """The address of the files in a store that a proxy may stand before."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environ().items():
            patch.setenv(name, value)
        for split, reader in itertools.product(("train", "validation"), ("npy", "tfrecord")):
            shutil.copytree(files / split / reader, tmp_path / "up" / split / reader)
        return uploaded(tmp_path / "up", f"{server.scheme}://{BUCKET}/{tmp_path.name}")


@s3_first
@servers
def test_what_a_bucket_has_given_once_is_not_asked_for_again(
    training: Training, server: Server, place: str, arrays: str, tmp_path: Path
) -> None:
    with refusing_proxy(server.address) as (front, proxy):
        for turn, reader in itertools.product(range(2), ("npy", "tfrecord")):
            proxy.requests.clear()
            run_dir = tmp_path / f"{reader}{turn}"
            ended(training.start(*READ, f"--data_dir={place}", f"--reader={reader}", f"--run_dir={run_dir}",
                                 f"--data_cache={tmp_path / 'cache'}", environ=server.environ(front)))  # fmt: skip
            assert weights(run_dir) == arrays
            of_data = [path for _, path, _ in proxy.requests if re.search(r"/?(x|data)-\d", path)]
            assert bool(of_data) == (turn == 0), of_data
            assert proxy.requests  # What there is, and of which version, is asked each time.


@pytest.mark.thorough
@servers
def test_a_run_through_a_bad_network_ends_as_if_nothing_had_happened(
    training: Training, server: Server, place: str, arrays: str, tmp_path: Path
) -> None:
    fate = random.Random(1)
    reader = {"s3": "tfrecord", "gs": "npy"}[server.scheme]
    with refusing_proxy(server.address) as (front, proxy), toxiproxy(front) as (outside, toxics):
        refused = list[str]()

        def in_bursts(_method: str, path: str) -> tuple[int, bytes] | None:
            if (time.monotonic() % 2 < 0.5 or fate.random() < 0.1) and len(refused) < 200:
                refused.append(path)
                return 503, S3_ERROR % (b"SlowDown", b"")
            return None

        proxy.answer = in_bursts
        toxics.add("latency", latency=20, jitter=20)
        toxics.add("reset_peer", toxicity=0.2, timeout=30)
        run = ended(training.start(*READ, f"--data_dir={place}", f"--reader={reader}", f"--run_dir={tmp_path / 'run'}",
                                   "--prefetch=1", environ=server.environ(outside)))  # fmt: skip
    assert weights(tmp_path / "run") == arrays, run.text
    assert refused


@servers
def test_a_store_that_is_away_for_too_long_is_named(
    training: Training, server: Server, place: str, tmp_path: Path
) -> None:
    with toxiproxy(server.address) as (front, toxics):
        worker = training.start(*READ, "--epochs=100000", f"--data_dir={place}", f"--run_dir={tmp_path / 'run'}",
                                "--patience=3", environ=server.environ(front))  # fmt: skip
        worker.wait_for(Progress.parse)
        toxics.enable(False)
        ended(worker, 74)
    (line,) = [line for line in worker.lines if line.startswith("error: ")]
    assert re.match(rf"error: not reachable for \d+ s: {server.scheme}://{BUCKET}/", line)
