"""JAX settings that have to be made before it starts, and its devices."""

import logging
import os
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
from jax._src.compilation_cache import decompress_executable  # how entries are decompressed
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import Mesh

from deeper.errors import UserError
from deeper.kernels import cpu_dispatch
from deeper.platform_support import core_count
from deeper.train.data_parallel import data_mesh
from deeper.xla_flags import TUNED

# Settings that change every number; pinned to JAX's defaults.
PINNED = {
    "jax_enable_x64": False,
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
}
# Environment variables of JAX that change no number.
HARMLESS = ("JAX_COORDINATOR_", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID", "JAX_COMPILATION_CACHE_")


def start_jax(cpu_kernels: bool) -> None:
    """Configure JAX: logging, pinned settings, CPU formulations and the compilation cache."""
    for key, value in PINNED.items():
        jax.config.update(key, value)
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    logging.getLogger("orbax").setLevel(logging.WARNING)
    cpu_dispatch.use(cpu_kernels)
    open_cache()


def open_cache() -> None:
    """Use a persistent compilation cache in `cache_directory`."""
    cache = cache_directory()
    if cache is None:
        _turn_cache(on=False)
        return
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    # Or a run that times its kernels would choose those of runs that are to be repeatable.
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
    _turn_cache(on=True)
    _mend_when_jax_complains(cache)


def cache_directory() -> Path | None:
    """Return the directory of the compilation cache.

    It is ``$DEEPER_CACHE``, or JAX's own ``$JAX_COMPILATION_CACHE_DIR``, or in the user's cache
    directory; None for a user without a home directory, as in containers. With ``$DEEPER_TUNED``
    (see `deeper.xla_flags`) it is a directory in there.
    """
    if tuned := os.environ.get(TUNED):
        return Path(tuned) / "programs"
    given = os.environ.get("DEEPER_CACHE") or os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if given:
        return Path(given)
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        return None
    return Path(base) / "deeper" / "xla"


def _mend_when_jax_complains(cache: Path) -> None:
    """Remove damaged entries when JAX reports one; otherwise it would warn at every run."""
    show = warnings.showwarning
    if getattr(show, "mends", None) == cache:
        return

    def mend(message: Warning | str, *details: Any, **more: Any) -> None:
        if "Error reading persistent compilation cache entry" not in str(message):
            show(message, *details, **more)
            return
        removed = remove_damaged(cache)  # before JAX compiles and writes a valid entry
        logging.getLogger(__name__).info("%d damaged entries removed from %s", removed, cache)

    mend.mends = cache  # type: ignore[attr-defined]
    warnings.showwarning = mend


def remove_damaged(cache: Path) -> int:
    """Remove unreadable entries of a compilation cache; return their number."""
    removed = 0
    for entry in cache.glob("*-cache"):
        try:
            decompress_executable(entry.read_bytes())
        except Exception:  # exceptions depend on the decompressor
            with suppress(OSError):
                entry.unlink()
                removed += 1
    return removed


def close_cache() -> None:
    """Turn off the compilation cache for the rest of the process.

    For programs that contain a net's weights as constants, which are large and not reusable.
    """
    _turn_cache(on=False)


def _turn_cache(*, on: bool) -> None:
    jax.config.update("jax_enable_compilation_cache", on)
    compilation_cache.reset_cache()  # JAX reads the option only at its first compilation


def mesh_of(count: int | None) -> Mesh:
    """Return the data mesh over the first ``count`` devices, by default over all.

    With several processes, all devices are used.
    """
    devices = _devices()
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


def _devices() -> list[Any]:
    """Return all devices.

    Raises:
        UserError: JAX has no devices; the message gives the reason.
    """
    try:
        return jax.devices()
    except (RuntimeError, AssertionError) as error:
        platforms = os.environ.get("JAX_PLATFORMS")
        reason = str(error).strip().split("\n")[0] or "no platform could be started"
        what = f" with JAX_PLATFORMS={platforms}" if platforms else ""
        raise UserError(
            f"JAX finds no device{what}: {reason}. For GPUs run `scripts/setup cuda` "
            "where nvidia-smi finds one; JAX_PLATFORMS=cpu takes the CPU."
        ) from error


def one() -> Mesh:
    """Return the mesh of one device of this process."""
    return data_mesh(jax.local_devices()[:1])


def _are(number: int) -> str:
    return "is 1 device of platform" if number == 1 else f"are {number} devices of platform"


def facts(mesh: Mesh) -> dict[str, Any]:
    """Return the entries of `environment.json` on the devices."""
    devices = list(mesh.devices.flat)
    return {
        "platform": devices[0].platform,
        "device_kind": devices[0].device_kind,
        "device_count": len(devices),
        "process_count": jax.process_count(),
        "cores": core_count(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "jax_variables": {
            key: value
            for key, value in sorted(os.environ.items())
            if key.startswith("JAX_") and not key.startswith(HARMLESS)
        },
    }
