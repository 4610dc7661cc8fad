"""What is told of an error of the client of s3://, whose texts hold what a server answered."""

import pytest

from tests.support.long_texts import PIECES, cpu_seconds, long_text
from trainer.output.stores.s3_client import one_line


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Generic S3 error\n\nDebug source:\nGeneric { … }", "Generic S3 error"),
        ("<Error><Code>AccessDenied</Code><Message>No</Message></Error>", "AccessDenied: No"),
        ("<Error><Code>AccessDenied</Code></Error>", "AccessDenied"),
        ("error for url (https://host/b/k?X-Amz-Signature=secret) again", "error for url ((address) again"),
        ("HEAD http://host:9000/b/k: refused", "HEAD http://host:9000/b/k: refused"),
        ("to http://proxy/http://host/k?list-type=2&prefix=a", "to (address)"),
    ],
)
def test_it_is_one_line_without_what_was_signed(text: str, told: str) -> None:
    assert one_line(ValueError(text)) == told


@pytest.mark.parametrize("piece", PIECES, ids=ascii)
@pytest.mark.parametrize("start", ["", "http://", "<Code>"])
def test_no_answer_takes_long(piece: str, start: str) -> None:
    """A server may send more than a line of a log has."""
    assert cpu_seconds(lambda text: one_line(ValueError(text)), long_text(piece, start) * 4) < 1
