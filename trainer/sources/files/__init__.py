"""Files of data on local disks, in gs:// and in s3://: which there are, and ranges of them.

Readers of one's own use these, too: `find` for the files, `read` and `read_many` for their bytes, from any thread.
"""

from trainer.sources.files.file import File
from trainer.sources.files.finding import entries, find, look
from trainer.sources.files.reading import read, read_many, use_cache
from trainer.sources.files.together import each

__all__ = ["File", "each", "entries", "find", "look", "read", "read_many", "use_cache"]
