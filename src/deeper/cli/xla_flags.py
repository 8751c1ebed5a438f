"""Flags that XLA has to be given before JAX is imported. Imports nothing but the standard library.

XLA aborts the process at a flag that it does not know, so a flag is set only where the installed
jaxlib is known to have it.
"""

import importlib.metadata
import importlib.util
import os
from collections.abc import MutableMapping

# Sends convolutions to Eigen instead of YNNPACK, which is about ten times slower at the weight
# gradients of small images. In jaxlib 0.10.2 to 0.12; unknown before 0.10.
CONVOLUTION_FLAG = "--xla_cpu_experimental_ynn_fusion_type=-individual_convolution"
FIRST, BEYOND = (0, 10, 2), (0, 13)


def only_cpu(environ: MutableMapping[str, str] = os.environ) -> bool:
    """Whether JAX will run on the CPU: it is told to, or has no accelerator's plugin."""
    platforms = environ.get("JAX_PLATFORMS", "")
    if platforms:
        return platforms == "cpu"
    plugins = ("jax_cuda12_plugin", "jax_cuda13_plugin", "jax_rocm60_plugin", "libtpu")
    return not any(importlib.util.find_spec(name) for name in plugins)


def set_cpu_flags(environ: MutableMapping[str, str] = os.environ) -> None:
    """Add the CPU's flag to ``XLA_FLAGS``, keeping what the user has put there."""
    given = environ.get("XLA_FLAGS", "")
    name = CONVOLUTION_FLAG.partition("=")[0]
    if name in given or not only_cpu(environ) or not FIRST <= _jaxlib_version() < BEYOND:
        return
    environ["XLA_FLAGS"] = f"{given} {CONVOLUTION_FLAG}".strip()


def _jaxlib_version() -> tuple[int, ...]:
    numbers = importlib.metadata.version("jaxlib").split(".")[:3]
    return tuple(int(number) for number in numbers if number.isdigit())
