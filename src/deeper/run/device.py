"""What has to be said to JAX before it starts, and what it says of the machine."""

import logging
import os
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
from jax._src.compilation_cache import decompress_executable  # what an entry is read with
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import Mesh

from deeper.errors import UserError
from deeper.kernels import cpu_dispatch
from deeper.platform_support import core_count
from deeper.train.data_parallel import data_mesh
from deeper.xla_flags import TUNED

# What changes every number and is no choice: as JAX has it where nobody says otherwise.
PINNED = {
    "jax_enable_x64": False,
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
}
# Variables of JAX that change no number: where processes meet and where programs are kept.
INDIFFERENT = ("JAX_COORDINATOR_", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID", "JAX_COMPILATION_CACHE_")


def start_jax(cpu_kernels: bool) -> None:
    """Make JAX quiet, pin its numbers, choose the CPU formulations and open the cache."""
    for key, value in PINNED.items():
        jax.config.update(key, value)
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    logging.getLogger("orbax").setLevel(logging.WARNING)
    cpu_dispatch.use(cpu_kernels)
    open_cache()


def open_cache() -> None:
    """Keep what is compiled in `cache_directory`, so that a second run finds its step."""
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
    """Return where what is compiled is kept.

    It is ``$DEEPER_CACHE``, or JAX's own ``$JAX_COMPILATION_CACHE_DIR``, or in the user's cache
    directory; None for a user without a home, as containers have them. With choices of kernels in
    ``$DEEPER_TUNED`` (see `deeper.xla_flags`) it is in there.
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
    """Remove damaged entries when JAX meets one; it leaves them, and would warn at every run."""
    show = warnings.showwarning
    if getattr(show, "mends", None) == cache:
        return

    def mend(message: Warning | str, *details: Any, **more: Any) -> None:
        if "Error reading persistent compilation cache entry" not in str(message):
            show(message, *details, **more)
            return
        removed = remove_damaged(cache)  # before JAX has compiled: it then writes a good one
        logging.getLogger(__name__).info("%d damaged entries removed from %s", removed, cache)

    mend.mends = cache  # type: ignore[attr-defined]
    warnings.showwarning = mend


def remove_damaged(cache: Path) -> int:
    """Remove the entries of a compilation cache that cannot be read; return how many they were."""
    removed = 0
    for entry in cache.glob("*-cache"):
        try:
            decompress_executable(entry.read_bytes())
        except Exception:  # whatever the decompressor at hand raises
            with suppress(OSError):
                entry.unlink()
                removed += 1
    return removed


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
        UserError: JAX has none, and why.
    """
    try:
        return jax.devices()
    except (RuntimeError, AssertionError) as error:
        wish = os.environ.get("JAX_PLATFORMS")
        reason = str(error).strip().split("\n")[0] or "no platform could be started"
        what = f" with JAX_PLATFORMS={wish}" if wish else ""
        raise UserError(
            f"JAX finds no device{what}: {reason}. For GPUs run `scripts/setup cuda` "
            "where nvidia-smi finds one; JAX_PLATFORMS=cpu takes the CPU."
        ) from error


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
        "jax_variables": {
            key: value
            for key, value in sorted(os.environ.items())
            if key.startswith("JAX_") and not key.startswith(INDIFFERENT)
        },
    }
