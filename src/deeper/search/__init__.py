"""Searches for better values of a config: Optuna asks and is told, over runs of `deeper.sweep`.

The package is also the function ``deeper.search(name, ...)``, see `deeper.api.search`: both have
one name, and whichever is imported first must not hide the other.
"""

import sys
import types
from typing import Any


class _Search(types.ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> Any:
        from deeper import api

        return api.search(*arguments, **options)


sys.modules[__name__].__class__ = _Search
