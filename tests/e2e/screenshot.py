"""A picture of TensorBoard's page as a browser shows it: `python -m tests.e2e.screenshot URL FILE` (needs Chromium)."""

import pathlib
import subprocess
import sys
import tempfile

WIDTH, HEIGHT = 1280, 620


def screenshot(url: str, path: pathlib.Path) -> None:
    """Writes the scalars of all runs as a PNG."""
    page = f"{url}/?darkMode=false&forceSVG=true&smoothing=0&tagFilter=epoch_(accuracy%7Closs)#timeseries"
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
             f"--user-data-dir={profile}", f"--window-size={WIDTH},{HEIGHT}", "--virtual-time-budget=20000",
             f"--screenshot={path}", page],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip
    assert path.read_bytes().startswith(b"\x89PNG")


if __name__ == "__main__":
    screenshot(sys.argv[1], pathlib.Path(sys.argv[2]))
