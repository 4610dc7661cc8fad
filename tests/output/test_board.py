"""TensorBoard as `python -m trainer.board` starts it."""

import json
import pathlib
import urllib.error
import urllib.request

from tests.support.mirrored_run import Training
from tests.support.tensorboard_client import tensorboard, wait_for_page
from trainer.core.free_ports import free_ports

SECRET = "AWS_SECRET_ACCESS_KEY=very-secret"


def test_it_hands_out_no_file_that_the_logs_name(tmp_path: pathlib.Path) -> None:
    logs = tmp_path / "logs"
    Training(logs / "run", 1).do_step(10)
    (tmp_path / "secret").write_text(SECRET)
    for folder in (logs, logs / "run", logs / "run" / "train"):
        config = (
            f'embeddings {{ tensor_name: "x" metadata_path: "{tmp_path}/secret" tensor_path: "{tmp_path}/secret" }}'
        )
        (folder / "projector_config.pbtxt").write_text(config)
    (port,) = free_ports(1)
    with tensorboard(logs, port, fast=False):
        wait_for_page(port)
        listed = json.loads(get(port, "/data/plugins_listing"))
        assert {"scalars", "graphs", "text", "timeseries"} <= listed.keys()
        assert "projector" not in listed
        for run in (".", "run", "run/train"):
            for what in ("metadata", "tensor", "info", "bookmarks"):
                assert SECRET not in get(port, f"/data/plugin/projector/{what}?run={run}&name=x&num_rows=1")
        assert get(port, "/data/plugin/projector/runs") == ""


def get(port: int, path: str) -> str:
    """The body of a page; "" when there is none."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return answer.read().decode(errors="replace")  # type: ignore[no-any-return]
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
        return ""
