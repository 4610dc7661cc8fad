"""All kinds of models, by name."""

from tests.training.oracle.kinds import COMMON, Kind
from tests.training.oracle.more_kinds import LESS_COMMON

KINDS: dict[str, Kind] = COMMON | LESS_COMMON
