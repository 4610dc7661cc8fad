"""All kinds of models, by name."""

from tests.training.oracle.kinds import COMMON, Kind
from tests.training.oracle.more_kinds import LESS_COMMON, OURS_ALONE

KINDS: dict[str, Kind] = COMMON | LESS_COMMON
WITH_OURS = KINDS | OURS_ALONE  # What Keras' fit has nothing for.
