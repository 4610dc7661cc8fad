"""Files of a folder that is local or in a bucket: read through TensorFlow's file systems, or else our own stores."""

import os
from pathlib import Path

from trainer.core import tensorflow_line
from trainer.core.exit_codes import DataError
from trainer.core.s3_environ import tell_tensorflow_io
from trainer.sources import files


def join(folder: str, name: str) -> str:
    """The path of a file in a folder, local or not."""
    return f"{folder.rstrip('/')}/{name}" if "://" in folder else str(Path(folder, name))


def parent(path: str) -> str:
    """The folder of a file, local or not."""
    return path.rpartition("/")[0] if "://" in path else str(Path(path).parent)


def read(path: str) -> bytes | None:
    """A file's content; None when there is no such file.

    Raises:
      DataError: it cannot be read.
      UsageError, StoreAwayError: its bucket refuses, or does not answer.
    """
    if "://" not in path:
        try:
            return Path(path).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from None
    if not tensorflow_line.reads_buckets():
        found = files.look(path)
        return files.read(found) if found else None
    import tensorflow as tf  # Its file systems read gs://, and tensorflow-io's s3://.

    _register(path)
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return bytes(file.read())
    except (tf.errors.OpError, UnicodeDecodeError) as error:
        # TensorFlow takes much for a file that is not there; our own stores tell a wrong secret from a wrong name.
        found = files.look(path)
        if found is None:
            return None
        raise DataError(f"{path} cannot be read: {' '.join(str(error).split())[:300]}") from None


def names(folder: str) -> list[str]:
    """The names of what lies in a folder; none where there is no such folder.

    Raises:
      DataError: it cannot be listed.
      UsageError, StoreAwayError: its bucket refuses, or does not answer.
    """
    if "://" not in folder:
        try:
            return sorted(path.name for path in Path(folder).glob("*"))
        except OSError as error:
            raise DataError(f"{folder} cannot be listed: {error.strerror}") from None
    if not tensorflow_line.reads_buckets():
        return sorted({entry.key.partition("/")[0] for entry in files.entries(folder)})
    import tensorflow as tf

    _register(folder)
    try:
        return sorted(name.rstrip("/") for name in tf.io.gfile.listdir(folder))
    except (tf.errors.OpError, UnicodeDecodeError):
        return sorted({entry.key.partition("/")[0] for entry in files.entries(folder)})  # Or it says why not.


def _register(path: str) -> None:
    if path.startswith("s3://"):
        tell_tensorflow_io(os.environ)
        import tensorflow_io  # noqa: F401  Importing it registers s3://.
