"""Convolutional-network studies in JAX: from a claim to a figure in one command.

::

    config = deeper.configure("model=resnet", "model.depth=20", "data=fashion_mnist")
    run = deeper.train(config)
    run.metrics["test/error"]

Importing the package sets the XLA flags that make runs fast and repeatable, before JAX starts;
everything else is imported on first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

from deeper import xla_flags

if TYPE_CHECKING:
    from deeper.api import call as call
    from deeper.api import compare as compare
    from deeper.api import configure as configure
    from deeper.api import load as load
    from deeper.api import prepare as prepare
    from deeper.api import search as search
    from deeper.api import study as study
    from deeper.api import train as train

_OFFERED = ("call", "compare", "configure", "load", "prepare")
_PACKAGES = ("search", "study", "train")  # packages that are also functions

xla_flags.set_flags()
xla_flags.warn_if_too_late()


def __getattr__(name: str) -> Any:
    if name in _OFFERED:
        return getattr(importlib.import_module("deeper.api"), name)
    if name in _PACKAGES:
        return importlib.import_module(f"deeper.{name}")
    if name == "__version__":  # lazy: it runs git in a checkout
        from deeper.version import version

        return version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_OFFERED, *_PACKAGES, "__version__"]
