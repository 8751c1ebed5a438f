"""From run directories to tables, figures and a page; nothing here trains.

The package is also the function ``deeper.study(name, ...)``, see `deeper.api.study`: both have one
name, and whichever is imported first must not hide the other.
"""

import sys
import types
from typing import Any


class _Study(types.ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> Any:
        from deeper import api

        return api.study(*arguments, **options)


sys.modules[__name__].__class__ = _Study
