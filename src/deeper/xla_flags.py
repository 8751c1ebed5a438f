"""Flags of XLA that have to be set before JAX is imported. Imports only the standard library.

XLA aborts the process at an unknown flag, so a flag is set only if the installed jaxlib is known to
have it.
"""

import importlib.metadata
import importlib.util
import os
import sys
import warnings
from collections.abc import MutableMapping

# Sends convolutions to Eigen instead of YNNPACK, which is about ten times slower at the weight
# gradients of small images. In jaxlib 0.10.2 to 0.12; unknown before 0.10.
CONVOLUTION_FLAG = "--xla_cpu_experimental_ynn_fusion_type=-individual_convolution"
FIRST_VERSION, END_VERSION = (0, 10, 2), (0, 13)

# Without it a run on a GPU differs in bits from its repetition: some kernels add up in the order in
# which their threads come, and each process chooses its kernels anew. experiments/reliability
# holds what it costs.
GPU_FLAG = "--xla_gpu_deterministic_ops=true"

# Records a whole step, with its convolutions, as one CUDA graph. XLA's default list lacks
# CONVOLUTION, and can only be replaced as a whole. In jaxlib 0.12.
GRAPH_FLAG = (
    "--xla_gpu_enable_command_buffer="
    "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,DYNAMIC_SLICE_FUSION,CONVOLUTION"
)
FIRST_WITH_GRAPHS = (0, 12)

# With deterministic operations XLA does not autotune kernels, but reads the results of earlier
# autotuning from a directory. This variable names one: a run with --xla_gpu_deterministic_ops=false
# autotunes and writes its results there; any other run only reads them. Without the variable no run
# uses the results of another. The compiled programs need a cache of their own too, since the keys
# of JAX's compilation cache ignore the results of autotuning.
TUNED = "DEEPER_TUNED"
CHOICES_FLAG = "--xla_gpu_per_fusion_autotune_cache_dir="
CHOICES_MODE_FLAG = "--xla_gpu_experimental_autotune_cache_mode=AUTOTUNE_CACHE_MODE_"

GPU_PLUGINS = ("jax_cuda12_plugin", "jax_cuda13_plugin", "jax_rocm60_plugin")


def only_cpu(environ: MutableMapping[str, str] = os.environ) -> bool:
    """Return whether JAX will run on the CPU: by JAX_PLATFORMS, or without a plugin for
    accelerators.
    """
    platforms = environ.get("JAX_PLATFORMS", "")
    if platforms:
        return platforms == "cpu"
    return not any(importlib.util.find_spec(name) for name in (*GPU_PLUGINS, "libtpu"))


def set_flags(environ: MutableMapping[str, str] = os.environ) -> None:
    """Add what fits the device to ``XLA_FLAGS``, keeping what the user has put there."""
    if only_cpu(environ):
        if FIRST_VERSION <= _jaxlib_version() < END_VERSION:
            _add(CONVOLUTION_FLAG, environ)
    elif any(importlib.util.find_spec(name) for name in GPU_PLUGINS):
        _add(GPU_FLAG, environ)
        if FIRST_WITH_GRAPHS <= _jaxlib_version() < END_VERSION:
            _add(GRAPH_FLAG, environ)
        if directory := environ.get(TUNED):
            writes = GPU_FLAG not in environ["XLA_FLAGS"].split()
            _add(f"{CHOICES_FLAG}{directory}/choices", environ)
            _add(f"{CHOICES_MODE_FLAG}{'UPDATE' if writes else 'READ'}", environ)


def _add(flag: str, environ: MutableMapping[str, str]) -> None:
    given = environ.get("XLA_FLAGS", "")
    if flag.partition("=")[0] not in given:
        environ["XLA_FLAGS"] = f"{given} {flag}".strip()


def _jaxlib_version() -> tuple[int, ...]:
    """Return the numbers of jaxlib's version; none without it: `deeper.data` does not need JAX."""
    try:
        numbers = importlib.metadata.version("jaxlib").split(".")[:3]
    except importlib.metadata.PackageNotFoundError:
        return ()
    return tuple(int(number) for number in numbers if number.isdigit())


def warn_if_too_late() -> None:
    """Warn if JAX has started already: XLA reads its flags at that time alone."""
    bridge = sys.modules.get("jax._src.xla_bridge")
    if bridge is None or not bridge.backends_are_initialized():
        return
    warnings.warn(
        "JAX started before deeper was imported, so that XLA did not get the flags that make runs "
        "fast on a CPU and repeatable on a GPU: import deeper first, in a new process.",
        stacklevel=3,
    )
