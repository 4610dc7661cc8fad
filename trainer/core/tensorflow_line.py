"""The two lines of TensorFlow that this project runs on; what differs between them is asked here.

classic: 2.17 (2.16 fits), whose own file systems read gs://, and with tensorflow-io s3://.
current: the newest, for which there is no tensorflow-io; what lies in a bucket is read with our own stores.
"""

import importlib.util


def reads_buckets() -> bool:
    """Whether TensorFlow itself reads gs:// and s3://. It is not imported for the answer, which would take seconds."""
    return importlib.util.find_spec("tensorflow_io") is not None
