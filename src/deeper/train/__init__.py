"""The compiled, data-parallel training loop.

The package is also the function ``deeper.train(config)``, see `deeper.api.train`: both have one
name, and whichever is imported first must not hide the other.
"""

import sys
import types
from typing import Any


class _Train(types.ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> Any:
        from deeper import api

        return api.train(*arguments, **options)


sys.modules[__name__].__class__ = _Train
