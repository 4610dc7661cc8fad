"""The picture of a failed run says what today's launcher says."""

import html
import re
from pathlib import Path

from tests.support.paths import RECORDED, ROOT
from tools.launcher_pictures import draw_recorded


def words(picture: Path) -> list[str]:
    """What stands in a picture of a terminal, piece by piece."""
    pieces = re.findall(r"<text[^>]*>(.*?)</text>", picture.read_text())
    return [text.strip() for piece in pieces if (text := html.unescape(piece).replace("\xa0", " ")).strip()]


def test_the_failed_run_is_what_the_launcher_makes_of_its_record(tmp_path: Path) -> None:
    """`python -m tools.launcher_pictures --recorded tests/recorded/data_missing.jsonl docs/launcher-failed.svg`."""
    draw_recorded(str(RECORDED / "data_missing.jsonl"), str(tmp_path / "drawn.svg"))
    drawn = words(tmp_path / "drawn.svg")
    assert any("is not a folder" in piece for piece in drawn)
    assert words(ROOT / "docs" / "launcher-failed.svg") == drawn
