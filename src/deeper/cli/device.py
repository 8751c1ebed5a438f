"""What has to be said to JAX before it starts, and what it says of the machine."""

import logging
import os
from pathlib import Path
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import Mesh

from deeper.errors import UserError
from deeper.models import cpu
from deeper.platform_support import core_count
from deeper.train.parallel import data_mesh


def start_jax(cpu_kernels: bool) -> None:
    """Make JAX quiet, choose the CPU formulations and open the compilation cache."""
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    logging.getLogger("orbax").setLevel(logging.WARNING)
    cpu.use(cpu_kernels)
    open_cache()


def open_cache() -> None:
    """Keep what is compiled, so that a second run of the same net finds its step.

    The cache is in ``$DEEPER_CACHE``, by default the user's cache directory.
    """
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    cache = os.environ.get("DEEPER_CACHE") or str(Path(base) / "deeper" / "xla")
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    _turn_cache(on=True)


def close_cache() -> None:
    """Keep nothing of what is compiled from here on.

    For programs that hold a net's weights: they are as large, and of no use to other weights.
    """
    _turn_cache(on=False)


def _turn_cache(*, on: bool) -> None:
    jax.config.update("jax_enable_compilation_cache", on)
    compilation_cache.reset_cache()  # JAX looks at the option at its first compilation alone


def mesh_of(count: int | None) -> Mesh:
    """Return the data mesh over the first ``count`` devices, by default all.

    Of several processes all devices take part.
    """
    devices = jax.devices()
    if count is not None and jax.process_count() > 1:
        raise UserError(
            f"train.devices={count}: of several processes all devices take part; leave it out."
        )
    if count is not None and not 1 <= count <= len(devices):
        raise UserError(
            f"train.devices={count} but there {_are(len(devices))} {devices[0].platform}: "
            f"take 1 to {len(devices)}."
        )
    return data_mesh(devices[:count])


def one() -> Mesh:
    """Return the mesh of one device, of this process's own."""
    return data_mesh(jax.local_devices()[:1])


def _are(number: int) -> str:
    return "is 1 device of platform" if number == 1 else f"are {number} devices of platform"


def facts(mesh: Mesh) -> dict[str, Any]:
    """Return what `environment.json` says of the devices."""
    devices = list(mesh.devices.flat)
    return {
        "platform": devices[0].platform,
        "device_kind": devices[0].device_kind,
        "device_count": len(devices),
        "process_count": jax.process_count(),
        "cores": core_count(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }
