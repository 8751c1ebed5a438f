"""Times formulations of 3x3 convolutions of few channels, and of their kernel's gradient.

    python experiments/bench/thin_convolutions.py [--write]

For the shapes of the depth studies' nets: each formulation inside a compiled loop, as in training,
on one core, in interleaved rounds; and XLA's calls of oneDNN beside them. Also tells whether XLA
can write a program with such calls into the compilation cache.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from rich.progress import track

from deeper.kernels import cpu_convolution
from deeper.kernels.cpu_convolution import Window
from deeper.record.environment import environment
from deeper.study.tables import insert_between_markers, markdown

HERE = Path(__file__).parent
BATCH = 128
SHAPES = ((14, 8), (7, 16), (4, 32), (32, 16))  # side of the map, channels
WINDOW = Window(padding=((1, 1), (1, 1)))
ONEDNN = {"xla_cpu_experimental_onednn_custom_call": True}
WORK = 5e8  # operations of a round


def columns(x, n: int):
    """Return the map with its rows padded and n neighbouring columns and their two neighbours as
    channels: (batch, height + 2, groups, (n + 2) * channels).
    """
    groups = -(-x.shape[2] // n)
    x = jnp.pad(x, ((0, 0), (1, 1), (1, groups * n + 1 - x.shape[2]), (0, 0)))
    return jnp.concatenate(
        [x[:, :, j : j + (groups - 1) * n + 1 : n] for j in range(n + 2)], axis=-1
    )


def product(n: int, x, kernel):
    """Gather the patches of n columns at once and multiply."""
    seen, rows = columns(x, n), x.shape[1]
    patches = jnp.concatenate([seen[:, i : i + rows] for i in range(3)], axis=-1)
    wide = jnp.concatenate(
        [jnp.pad(kernel, ((0, 0), (i, n - 1 - i), (0, 0), (0, 0))) for i in range(n)], axis=-1
    )
    y = patches.reshape(-1, patches.shape[-1]) @ wide.reshape(patches.shape[-1], -1)
    return y.reshape(*seen.shape[:1], rows, -1, kernel.shape[3])[:, :, : x.shape[2]]


def product_of_gradient(n: int, x, dy):
    """Multiply the patches of n columns at once by dy, and add the diagonals."""
    (_, rows, width, channels), seen = dy.shape, lax.optimization_barrier(columns(x, n))
    groups = seen.shape[2]
    dy = jnp.pad(dy, ((0, 0), (0, 0), (0, groups * n - width), (0, 0))).reshape(-1, n * channels)
    over = (((0,), (0,)), ((), ()))
    by_row = [
        lax.dot_general(seen[:, i : i + rows].reshape(len(dy), -1), dy, over) for i in range(3)
    ]
    sums = jnp.stack(by_row).reshape(3, n + 2, x.shape[3], n, channels)
    return sum(sums[:, i : i + 3, :, i] for i in range(n))


def ours(x, kernel):
    """Convolve as a step does."""
    return cpu_convolution.convolve(WINDOW, x, kernel)


def our_gradient(x, dy):
    """Return the kernel's gradient as a step does."""
    kernel = jnp.zeros((3, 3, x.shape[3], dy.shape[3]))
    return cpu_convolution.gradients(WINDOW, x, kernel, dy)[1]


plain = partial(cpu_convolution.plain, WINDOW)
RESULT = {
    "ours": (ours, None),
    "plain": (plain, None),
    "oneDNN": (plain, ONEDNN),
    **{f"product, {n} columns": (partial(product, n), None) for n in (2, 4)},
}
GRADIENT = {
    "ours": (our_gradient, None),
    "oneDNN": (our_gradient, ONEDNN),
    **{f"product, {n} columns": (partial(product_of_gradient, n), None) for n in (2, 4)},
}


def looped(function: Callable, options: dict | None) -> Callable:
    """Return a compiled loop over a function, each pass of which needs the one before."""

    def loop(count, *arguments):
        def body(_, last):
            return function(*(a + last for a in arguments)).reshape(-1)[0] * 1e-20

        return lax.fori_loop(0, count, body, jnp.float32(0))

    return jax.jit(loop, compiler_options=options)


def measure(forms: dict[str, tuple], arguments: tuple, rounds: int) -> dict[str, float]:
    """Return the median milliseconds of each form.

    Raises:
        AssertionError: a form's values are not those of the first.
    """
    (first, _), *_ = forms.values()
    expected = np.asarray(first(*arguments))
    loops = {}
    for name, (function, options) in forms.items():
        found = np.asarray(jax.jit(function, compiler_options=options)(*arguments))
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * np.abs(expected).max())
        loops[name] = looped(function, options)
        jax.block_until_ready(loops[name](1, *arguments))
    x = arguments[0]
    count = max(2, round(WORK / (18 * x.size * x.shape[3])))
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(rounds):
        for name, loop in loops.items():
            start = time.perf_counter()
            jax.block_until_ready(loop(count, *arguments))
            seconds[name].append((time.perf_counter() - start) / count)
    return {name: 1e3 * statistics.median(values) for name, values in seconds.items()}


def kept() -> str:
    """Return what XLA answers when a program that calls oneDNN is to be written into the cache."""
    x, kernel = jnp.ones((1, 8, 8, 4)), jnp.ones((3, 3, 4, 4))
    compiled = jax.jit(plain, compiler_options=ONEDNN).lower(x, kernel).compile()
    assert "__onednn" in compiled.as_text()
    try:
        compiled.runtime_executable().serialize()
    except (MemoryError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return "written"


def main() -> None:
    """Measure and print; with --write, also update the JSON file and the README."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--write", action="store_true", help="record in experiments/bench")
    options = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before XLA starts its threads
    draw = np.random.default_rng(0)
    results = []
    for side, channels in track(SHAPES, "shapes", transient=True):
        x, dy = (
            jnp.asarray(draw.normal(size=(BATCH, side, side, channels)), jnp.float32)
            for _ in range(2)
        )
        kernel = jnp.asarray(draw.normal(size=(3, 3, channels, channels)), jnp.float32)
        for what, forms, arguments in (
            ("result", RESULT, (x, kernel)),
            ("kernel's gradient", GRADIENT, (x, dy)),
        ):
            milliseconds = measure(forms, arguments, options.rounds)
            shape = f"{side}x{side}x{channels}"
            results.append({"shape": shape, "what": what, "milliseconds": milliseconds})
    headings = ("map", "of the", *RESULT)
    rows = [
        (r["shape"], r["what"], *(_shown(r["milliseconds"], name) for name in RESULT))
        for r in results
    ]
    answer = kept()
    table = markdown(headings, rows)
    facts = environment()
    note = (
        f"Milliseconds, batch {BATCH}, median of {options.rounds} interleaved rounds; "
        f"{facts['cpu']}, 1 core; JAX {facts['jax']}. Writing a program with calls of oneDNN into "
        f"the compilation cache: {answer}."
    )
    print(f"{table}\n\n{note}")
    if options.write:
        record = {
            "machine": {"cpu": facts["cpu"], "system": platform.platform()},
            "versions": {n: facts[n] for n in ("python", "jax", "jaxlib")},
            "commit": facts["git_commit"],
            "onednn_in_cache": answer,
            "results": results,
        }
        (HERE / "thin_convolutions.json").write_text(json.dumps(record, indent=1) + "\n")
        insert_between_markers(HERE / "README.md", "thin_convolutions", f"{table}\n\n{note}")


def _shown(milliseconds: dict[str, float], name: str) -> str:
    return f"{milliseconds[name]:.2f}" if name in milliseconds else ""


if __name__ == "__main__":
    main()
