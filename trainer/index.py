"""`python -m trainer.index FOLDER`: makes the side indexes of TFRecord shards and CSV files, before any run does.

They are kept beside the data (`.NAME.index`), so that no worker has to read through a shard to find its records.
"""

import argparse
import sys
from typing import NoReturn

from trainer.core.exit_codes import ExitCode, TrainerError
from trainer.sources.files import File, find
from trainer.sources.formats import csv_rows, tfrecords
from trainer.sources.indexes import csv_index, record_index, side_index


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Ends as all programs here do that are given what they do not know."""
        self.print_usage(sys.stderr)
        self.exit(ExitCode.USAGE, f"error: {message}\n")


def parser() -> argparse.ArgumentParser:
    """The program's flags."""
    parser = _Parser(prog="python -m trainer.index", description="Makes the indexes of TFRecord shards and CSV files.")
    parser.add_argument(
        "where",
        nargs="+",
        metavar="FOLDER",
        help="a folder, a file or a pattern: a path, gs://bucket/path or s3://bucket/path",
    )
    parser.add_argument("--quote", default='"', help="of CSV files: the quote character, '' for none (default \")")
    parser.add_argument("--no_header", action="store_true", help="CSV files do not begin with the columns' names")
    return parser


def main(argv: list[str]) -> int:
    """Makes what indexes are missing; returns the process's exit code."""
    arguments = parser().parse_args(argv)
    try:
        files = find(arguments.where, names=(*tfrecords.NAMES, *csv_rows.NAMES))
        tables = [file for file in files if _is_table(file)]
        shards = [file for file in files if not _is_table(file)]
        csv_kind = csv_index.kind(arguments.quote, not arguments.no_header)
        counted = [
            *(len(record_index.RecordIndex(one)) for one in side_index.load(shards, record_index.KIND, say=_say)),
            *(len(csv_index.RowIndex(one).rows) for one in side_index.load(tables, csv_kind, say=_say)),
        ]
    except TrainerError as error:
        return error.tell()
    except KeyboardInterrupt:
        return 130
    print(f"{len(files)} file(s) with {sum(counted)} records; their indexes are in place")
    return ExitCode.DONE


def _is_table(file: File) -> bool:
    return file.name.endswith((".csv", ".tsv"))


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
