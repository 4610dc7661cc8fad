"""Which requests become of ranges that are wanted."""

from hypothesis import given
from hypothesis import strategies as st

from trainer.sources.files.file import File
from trainer.sources.files.spans import Pieces, Span, requests

CONTENT = bytes(range(256)) * 2
FILES = [File(f"s3://bucket/{number}", len(CONTENT), "1") for number in range(2)]
wanted = st.lists(
    st.builds(
        lambda file, start, size: Span(file, start, min(start + size, len(CONTENT))),
        st.sampled_from(FILES),
        st.integers(0, len(CONTENT)),
        st.integers(0, 200),
    ),
    max_size=20,
)


@given(wanted, st.integers(0, 50), st.integers(1, 120))
def test_what_is_wanted_can_be_cut_from_what_is_asked_for(spans: list[Span], gap: int, most: int) -> None:
    asked = requests(spans, gap=gap, most=most)
    assert all(0 < span.end - span.start <= most for span in asked)
    pieces = Pieces({span: CONTENT[span.start : span.end] for span in asked})
    assert [pieces.cut(span) for span in spans] == [CONTENT[span.start : span.end] for span in spans]


def test_near_ranges_are_asked_for_together() -> None:
    one, other = FILES
    spans = [Span(one, 200, 210), Span(one, 100, 110), Span(other, 110, 120), Span(one, 115, 120)]
    assert requests(spans, gap=5, most=100) == [Span(one, 100, 120), Span(one, 200, 210), Span(other, 110, 120)]
    assert requests(spans, gap=80, most=200)[0] == Span(one, 100, 210)
