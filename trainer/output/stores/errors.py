"""What can go wrong with a request to an object store.

StorageError             says which object, and what the store answered
 ├── UnreachableError    the store is away, slow, overloaded or failing: another try may succeed
 ├── RefusedError        the credentials are missing, expired, or not allowed to do it
 │    └── CredentialsError   of these: missing, wrong or expired
 ├── NoBucketError       there is no such bucket
 ├── AddressError        the address, or the region, can never be right: no other try will succeed
 ├── TooLargeError       the object is larger than anything that is read whole
 ├── MissingError        there is no such object
 └── ConflictError       the object is not the version that was expected
"""

from trainer.core.safe_text import redacted


class StorageError(Exception):
    """A request to an object store failed."""

    def __init__(self, text: str) -> None:
        """Takes what went wrong: clients put the address that they asked into that text, and it may hold a password."""
        super().__init__(redacted(text))


class UnreachableError(StorageError):
    """The store did not answer, or answered that it cannot now."""


class RefusedError(StorageError):
    """The store knows who asks and says no, or does not know who asks."""


class CredentialsError(RefusedError):
    """The store does not know who asks: there are no credentials, or they are wrong or expired."""


class NoBucketError(StorageError):
    """The bucket does not exist."""


class AddressError(StorageError):
    """The store says that what it was asked for can be no bucket's name, or that the bucket is in another region."""


class TooLargeError(StorageError):
    """The object is larger than anything that is read whole: whoever put it there means harm."""

    def __init__(self, address: str, size: int, most: int) -> None:
        """Takes the object's address and size, and what is allowed, in bytes."""
        super().__init__(f"{address} is {size} bytes large, expected at most {most}")


class MissingError(StorageError):
    """The object does not exist."""


class ConflictError(StorageError):
    """The object exists already, or is no longer the version that was to be changed."""
