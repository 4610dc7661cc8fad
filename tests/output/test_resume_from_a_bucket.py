"""A run that goes on from another one's checkpoint in a bucket: from one that 0.1.0 has left there, too."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.object_stores import environ, opened
from tests.support.servers import BUCKET, s3_server
from tests.support.training_processes import Training, result
from trainer.core.run_dir import best_names
from trainer.output.stores.store import Store

pytestmark = pytest.mark.servers

LEFT = Path(__file__).parent / "written_by_0_1_0" / "two_workers"
STEP = 560
# As LEFT/../README.md says, of the whole MNIST; nothing here draws random numbers but the order, which is 0.1.0's.
FLAGS = ("--data_dir=", "--hidden_units=2", "--dropout=0", "--epochs=2", "--keep_best=val_loss:2")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with s3_server(tmp_path_factory.mktemp("s3")) as at:
        yield at


@pytest.fixture(scope="module")
def there(address: str) -> Iterator[Store]:
    """The run of 0.1.0 in the bucket, with a checkpoint among the best."""
    with opened(f"s3://{BUCKET}/old", address) as store:
        for path in LEFT.rglob("*"):
            if path.is_file():
                store.create(path.relative_to(LEFT).as_posix(), path.read_bytes())
        name = "step-0000000468.npz"
        store.create(f"best/{name}", (LEFT / "checkpoints" / name).read_bytes())
        yield store


@pytest.mark.usefixtures("there")
def test_what_0_1_0_has_left_goes_on_as_from_a_folder(training: Training, address: str, tmp_path: Path) -> None:
    own = (*FLAGS, f"--resume_from=s3://{BUCKET}/old", f"--run_dir={tmp_path / 'bucket'}")
    from_bucket = training.start(*own, environ=environ(address))
    assert from_bucket.wait() == 0, from_bucket.text
    assert f"resuming at step {STEP} of 936" in from_bucket.text
    training.run(*FLAGS, f"--resume_from={LEFT}", f"--run_dir={tmp_path / 'folder'}")
    ended = result(tmp_path / "bucket")
    assert ended["weights_sha256"] == result(tmp_path / "folder")["weights_sha256"]
    assert ended["val_accuracy"] > 0.4
    assert best_names(tmp_path / "bucket") == ["step-0000000468.npz", "step-0000000936.npz"]


def test_a_damaged_checkpoint_in_a_bucket_costs_the_steps_since_the_one_before(
    training: Training, address: str, there: Store, tmp_path: Path
) -> None:
    with opened(f"s3://{BUCKET}/damaged", address) as store:
        for name in ("step-0000000468.npz", "step-0000000560.npz"):
            content = (LEFT / "checkpoints" / name).read_bytes()
            store.create(f"checkpoints/{name}", content if name.endswith("468.npz") else content[:1000])
    own = (*FLAGS, f"--resume_from=s3://{BUCKET}/damaged", f"--run_dir={tmp_path}", "--epochs=1")
    worker = training.start(*own, environ=environ(address))
    assert worker.wait() == 0, worker.text
    assert "checkpoints/step-0000000560.npz is damaged" in worker.text
    assert "resuming at step 468 of 468" in worker.text
    assert there.keys("checkpoints/")


@pytest.mark.parametrize(
    ("address_of_run", "code", "words"),
    [
        (f"s3://{BUCKET}/none", 65, f"--resume_from=s3://{BUCKET}/none holds no checkpoint"),
        ("s3://no-such-bucket/old", 64, "no-such-bucket"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(
    address_of_run: str, code: int, words: str, training: Training, address: str, tmp_path: Path
) -> None:
    own = (*FLAGS, f"--resume_from={address_of_run}", f"--run_dir={tmp_path}")
    worker = training.start(*own, environ=environ(address))
    assert worker.wait() == code, worker.text
    (line,) = [line for line in worker.lines if line.startswith("error: ")]
    assert words in line
