"""On the path of processes that tests start: what Python calls deprecated is an error in our own code there, too."""

import warnings

for _category in (DeprecationWarning, PendingDeprecationWarning):
    warnings.filterwarnings("error", category=_category, module=r"(trainer|tests)\.")
