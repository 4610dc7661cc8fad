"""The examples of docs/data.md, run as they stand there."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from array_record.python import array_record_module
from PIL import Image

from tests.support.paths import ROOT
from trainer.core.tfrecord import record
from trainer.sources.formats.tf_example import _EXAMPLE

PAGE = (ROOT / "docs" / "data.md").read_text()
EXAMPLES = [
    (match[1], match[2]) for match in re.finditer(r"^##+ ([^\n]+)\n(?:(?!^#).)*?```python\n(.*?)```", PAGE, re.M | re.S)
]
IMAGES = np.arange(3 * 784, dtype=np.uint8).reshape(3, 28, 28)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three examples in every format."""
    folder = tmp_path_factory.mktemp("data")
    np.save(folder / "x-0.npy", IMAGES[:2])
    np.save(folder / "x-1.npy", IMAGES[2:])
    np.save(folder / "y.npy", np.arange(3))
    records = []
    for number, image in enumerate(IMAGES):
        example = _EXAMPLE()
        example.features.feature["image"].bytes_list.value.append(image.tobytes())
        example.features.feature["label"].int64_list.value.append(number)
        records.append(example.SerializeToString())
    (folder / "train-00000-of-00001").write_bytes(b"".join(map(record, records)))
    raw = [bytes([number]) + image.tobytes() for number, image in enumerate(IMAGES)]
    (folder / "pictures.bin").write_bytes(b"".join(raw))
    writer = array_record_module.ArrayRecordWriter(str(folder / "train.array_record"), "group_size:1")
    for data in raw:
        writer.write(data)
    writer.close()
    for part in ("train", "validation"):
        for number, image in enumerate(IMAGES):
            path = folder / part / f"class {number}" / "a.png"
            path.parent.mkdir(parents=True)
            Image.fromarray(image).save(path)
    table = pa.table({"age": [1.0, 2, 3], "height": [4.0, 5, 6], "label": [0, 1, 2], "weight": [1.0, 1, 2]})
    pq.write_table(table, folder / "train" / "a.parquet")
    (folder / "table.csv").write_text("age,height,label\n1,4,0\n2,5,1\n3,6,2\n")
    return folder


def test_each_reader_has_an_example() -> None:
    assert [title for title, _ in EXAMPLES][:7] == [
        "NPY files", "TFRecord", "ArrayRecord", "Images", "Parquet", "CSV", "Decoding and random choices",
    ]  # fmt: skip
    assert len(EXAMPLES) == 10


@pytest.mark.parametrize(("title", "code"), EXAMPLES, ids=[title for title, _ in EXAMPLES])
def test_example(title: str, code: str, data_dir: Path) -> None:
    if "torchvision" in code:
        pytest.importorskip("torchvision")
    module: dict[str, Any] = {}
    exec(compile(code, f"docs/data.md: {title}", "exec"), module)  # noqa: S102
    for source in module["load_data"](SimpleNamespace(data_dir=str(data_dir))):
        if source is not None:
            assert len(source) == 3
            example = source[2]
            if hasattr(source, "decode"):
                example = source.decode(example, np.array([1, 2], np.uint32))
            assert int(example[1]) == 2
            assert np.asarray(example[0]).dtype in (np.uint8, np.float32)
