"""Code that goes through the output: written once, fetched whole or refused."""

import random

import pytest

from tests.support.mirrored_run import Clock
from tests.support.object_stores import Server, opened
from tests.support.servers import BUCKET, s3_environ, toxiproxy
from tests.support.servers.refusing_proxy import S3_ERROR, refusing_proxy
from trainer.core.exit_codes import DataError, OutputError, UsageError
from trainer.core.shipped_code import MOST_BYTES, digest
from trainer.output import sent_code
from trainer.output.stores.errors import NoBucketError

pytestmark = pytest.mark.servers

ARCHIVE = b"an archive"


def address_of(output: str, archive: bytes = ARCHIVE) -> str:
    return f"{output}/.code/{digest(archive)}.tar.gz"


@pytest.fixture
def output(server: Server, run: str) -> str:
    return f"{server.scheme}://{BUCKET}/{run}"


@pytest.fixture(autouse=True)
def environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in server.environ().items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("size", [len(ARCHIVE), 18 * 2**20])
def test_it_is_written_once_and_fetched(size: int, output: str, address: str) -> None:
    archive = ARCHIVE if size == len(ARCHIVE) else random.Random(size).randbytes(size)
    assert sent_code.put(output, archive) is True
    with opened(output, address) as store:
        before = store.version(f".code/{digest(archive)}.tar.gz")
        assert before is not None
        assert sent_code.put(f"{output}/", archive) is False
        assert store.version(f".code/{digest(archive)}.tar.gz") == before
        assert sent_code.fetch(address_of(output, archive)) == archive
        assert list(store.keys("")) == [f".code/{digest(archive)}.tar.gz"], "nothing else is left"


def test_what_is_not_there_or_another_is_refused(output: str, address: str) -> None:
    with pytest.raises(DataError, match="there is no such object; the launcher's --code puts the code there"):
        sent_code.fetch(address_of(output))
    with opened(output, address) as store:
        store.create(f".code/{digest(ARCHIVE)}.tar.gz", ARCHIVE[:-1])
        with pytest.raises(DataError, match="is not what was sent: its checksum is another one; delete it and submit"):
            sent_code.fetch(address_of(output))


def test_more_than_is_ever_sent_is_not_read_to_its_end(
    output: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(output, address) as store:
        store.create(f".code/{digest(ARCHIVE)}.tar.gz", b"x" * 100)
        monkeypatch.setattr(sent_code, "MOST_BYTES", 99)
        with pytest.raises(DataError, match="is larger than any code that is sent"):
            sent_code.fetch(address_of(output))


@pytest.mark.parametrize("text", ["s3://bucket/.code/abc.tar.gz", "s3://bucket/code.tar.gz", "no address"])
def test_what_is_no_address_of_code(text: str) -> None:
    with pytest.raises(UsageError, match=r"is no address of code: it ends in \.code/<SHA-256>\.tar\.gz"):
        sent_code.fetch(text)


def test_no_such_bucket(scheme: str) -> None:
    with pytest.raises(NoBucketError, match="there is no such bucket"):
        sent_code.put(f"{scheme}://no-such-bucket/runs", ARCHIVE)
    # The emulator of gs:// tells a bucket that is not there from an object that is not only when it is written.
    with pytest.raises(UsageError if scheme == "s3" else DataError, match="there is no such"):
        sent_code.fetch(address_of(f"{scheme}://no-such-bucket/runs"))


def test_a_refusal_may_pass_within_a_minute(output: str, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cloud's identity can lag behind the pod that it is given to."""
    sent_code.put(output, ARCHIVE)
    clock, asked = Clock(), list[float]()
    with refusing_proxy(address) as (front, proxy):
        for name, value in {**s3_environ(front), "STORAGE_EMULATOR_HOST": front}.items():
            monkeypatch.setenv(name, value)
        proxy.answer = lambda _method, _path: (403, S3_ERROR % (b"AccessDenied", b"because"))

        def wait(seconds: float) -> None:
            asked.append(clock())
            clock.now += seconds

        with pytest.raises(UsageError, match="the code cannot be fetched: "):
            sent_code.fetch(address_of(output), clock=clock, wait=wait)
        assert 30 < asked[-1] < 60
        clock.now = 0.0

        def mend(seconds: float) -> None:
            wait(seconds)
            proxy.answer = lambda _method, _path: None

        assert sent_code.fetch(address_of(output), clock=clock, wait=mend) == ARCHIVE


def test_a_store_that_is_away_is_waited_for(output: str, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sent_code.put(output, ARCHIVE)
    clock = Clock()
    with toxiproxy(address) as (front, toxics):
        for name, value in {**s3_environ(front), "STORAGE_EMULATOR_HOST": front}.items():
            monkeypatch.setenv(name, value)
        toxics.enable(False)

        def wait(seconds: float) -> None:
            clock.now += 10 * seconds

        with pytest.raises(OutputError, match="the code cannot be fetched: "):
            sent_code.fetch(address_of(output), clock=clock, wait=wait)
        assert clock() >= sent_code.FETCH_SECONDS

        def mend(_: float) -> None:
            toxics.enable(True)

        assert sent_code.fetch(address_of(output), clock=clock, wait=mend) == ARCHIVE


def test_the_limit_is_what_a_pod_has_memory_for() -> None:
    assert MOST_BYTES == 64 * 2**20
