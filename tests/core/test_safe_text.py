"""What others wrote, as one line that does nothing to a terminal."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.long_texts import PIECES, cpu_seconds, long_text
from trainer.core.safe_text import MOST_CHARACTERS, one_line, printable, redacted


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain: ü 漢 👩", "plain: ü 漢 👩"),
        ("two\nlines\r\nof it", "two lines of it"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07left", "left"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]52;c;aGk=", "52;c;aGk="),  # Without its end it is no command, and hides nothing behind it.
        ("\x9b2Jcleared", "cleared"),
        ("a\u202eb\u2066c\u200fd\ufeffe", "abcde"),
        ("a\ud800b", "ab"),
        ("a\u2028b", "a b"),
        ("\x00\x08\x7f", ""),
        ("", ""),
    ],
)
def test_examples(text: str, expected: str) -> None:
    assert one_line(text) == expected


def test_what_is_too_long_is_cut() -> None:
    assert one_line("x" * 5000) == "x" * 999 + "…"
    assert one_line("x" * 5000, 10) == "x" * 9 + "…"


@given(st.text(st.characters(), max_size=200) | st.text("\x1b[]08;\x9b\x9d\x07m\\ a\n", max_size=30))
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    line = one_line(text)
    assert not [character for character in line if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")]
    assert len(line) <= 1000
    line.encode()
    assert one_line(line) == line


@pytest.mark.parametrize(
    ("text", "plain", "coloured"),
    [
        ("\x1b[1;31mred\x1b[0m", "red", "\x1b[1;31mred\x1b[0m\x1b[0m"),
        ("\x1b[31mred", "red", "\x1b[31mred\x1b[0m"),  # It does not colour what comes after it.
        ("\x1b[2J\x1b[1A\x1b[32mforged", "forged", "\x1b[32mforged\x1b[0m"),
        ("two\nlines\rand more", "two\nlines and more", "two\nlines and more"),
        ("\x1b]52;c;aGk=\x07\x1b]0;t\x1b\\x", "x", "x"),
        ("ü 漢", "ü 漢", "ü 漢"),
        ("a\ud800\u202eb\x9bc", "ab", "ab"),
    ],
)
def test_of_many_lines_colours_may_stay(text: str, plain: str, coloured: str) -> None:
    assert printable(text) == plain
    assert printable(text, colours=True) == coloured


@given(st.text(st.characters(), max_size=200) | st.text("\x1b[]08;\x9b\x9d\x07m\\ a\n31", max_size=40))
def test_nothing_but_colours_is_left(text: str) -> None:
    left = re.sub(r"\x1b\[[0-9;:]*m", "", printable(text, colours=True))
    for shown in (left, printable(text)):
        rest = shown.replace("\n", "")
        assert not [character for character in rest if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")]
    printable(text, colours=True).encode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("read https://user:password@host/x?X-Amz-Signature=secret&a=b: 403", "read https://host/x?… 403"),
        ("'s3://key:secret@bucket/run'", "'s3://bucket/run'"),
        ('see ("gs://b/c?token=secret")', 'see ("gs://b/c?…")'),
        ("is it https://host/a? Yes", "is it https://host/a? Yes"),
        ("what? no address", "what? no address"),
        ("s3://a?b=secret,gs://c?d=secret", "s3://a?…"),
        ("http://proxy:80/http://host:9000/x?key=secret", "http://proxy:80/http://host:9000/x?…"),
        ("?s3://a?b=secret>s3://c?>s3://d", "?s3://a?…>s3://c?>s3://d"),
    ],
)
def test_addresses_keep_no_secrets(text: str, expected: str) -> None:
    assert redacted(text) == expected


@pytest.mark.parametrize("piece", PIECES, ids=ascii)
@pytest.mark.parametrize("start", ["", "://"])
def test_no_text_takes_long(piece: str, start: str) -> None:
    """A line of a log, which anybody may have written: whoever shows it does nothing else meanwhile."""
    text = long_text(piece, start)
    assert cpu_seconds(printable, text) < 1
    assert cpu_seconds(lambda line: printable(line, colours=True), text) < 1
    assert cpu_seconds(one_line, text) < 1
    assert cpu_seconds(lambda line: one_line(line, 4 * MOST_CHARACTERS), text) < 1
    assert cpu_seconds(redacted, text) < 1
