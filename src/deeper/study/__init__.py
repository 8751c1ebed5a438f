"""From run directories to tables, figures and a page; nothing here trains.

The package can be called as the function ``deeper.study(name, ...)``, see `deeper.api.study`:
package and function share a name, so importing the package must not hide the function.
"""

import sys
import types
from typing import Any


class _Study(types.ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> Any:
        from deeper import api

        return api.study(*arguments, **options)


sys.modules[__name__].__class__ = _Study
