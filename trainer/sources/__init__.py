"""Sources: data that need not fit in memory, read example by example, in any order.

A source is any object with `len(source)` and `source[i]`, the example (x, y) or (x, y, weight). Those of this package
also have `__getitems__(indices)`, several examples read together, from any number of threads, and `identity()`, by
which a resume sees that the data are still the same. docs/data.md says which one is for which data.
"""

from trainer.sources.decoded import Decoded
from trainer.sources.errors import DamagedRecord, StoreAwayError
from trainer.sources.formats.array_records import ArrayRecords
from trainer.sources.formats.csv_rows import CsvRows
from trainer.sources.formats.images import ImageFolder
from trainer.sources.formats.npy import NpyFiles
from trainer.sources.formats.parquet_rows import ParquetRows
from trainer.sources.formats.tf_example import example
from trainer.sources.formats.tfrecords import TFRecords

__all__ = [
    "ArrayRecords",
    "CsvRows",
    "DamagedRecord",
    "Decoded",
    "ImageFolder",
    "NpyFiles",
    "ParquetRows",
    "StoreAwayError",
    "TFRecords",
    "example",
]
