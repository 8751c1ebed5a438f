"""Convolutional-network studies in JAX: from a claim to a figure in one command."""

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "__version__":  # asks git in a checkout, which an import should not wait for
        from deeper.version import version

        return version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
