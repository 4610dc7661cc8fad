"""The environment variables of an S3 server, for the programs that know them by other names."""

from collections.abc import MutableMapping


def tell_tensorflow_io(environ: MutableMapping[str, str]) -> None:
    """Gives the endpoint of an S3 server the name that tensorflow-io knows it by; before tensorflow-io is imported."""
    endpoint = environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        environ.setdefault("S3_ENDPOINT", endpoint)
