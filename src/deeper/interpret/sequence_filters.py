"""First-layer filters of nets of sequences: as frequency responses, as motifs, as words.

Sounds and other signals: the filters, and how strongly they pass each frequency, in the order of
the frequency that is passed most. DNA: the motif of what activates a filter most, see `motifs`.
Texts: the words or characters that activate a filter most at each of its positions.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from deeper.interpret.drawing import LOOK, shortened
from deeper.interpret.motifs import filter_motifs
from deeper.interpret.sequence_logo import motif_figure
from deeper.plotting import INK

Kernel = Float[np.ndarray, "length channels filters"]
FREQUENCIES = 256  # of a response, at least
SHOWN = 32  # filters as motifs or words, the strongest
AS_LINES = 24  # filters that are drawn themselves, beside the responses of all
WORDS = 3  # at each position of a filter
LETTERS = 12  # of a word


def response(kernel: Kernel) -> Float[np.ndarray, "frequencies filters"]:
    """Return the size of each filter's Fourier transform, over all channels.

    Rows are frequencies from 0 to half the sampling rate, equally far apart.
    """
    points = 2 * max(FREQUENCIES, len(kernel))
    spectrum = np.fft.rfft(kernel, points, axis=0)
    return np.asarray(np.sqrt((np.abs(spectrum) ** 2).sum(axis=1)))


def draw_responses(title: str, kernel: Kernel, out: Path, rate: float | None = None) -> None:
    """Draw filters by time and by frequency.

    Args:
        title: of the sheet.
        kernel: of the first convolution.
        out: the PNG.
        rate: samples per second; without it frequencies are given per position.
    """
    sizes = response(kernel)
    order = np.argsort(sizes.argmax(axis=0), kind="stable")
    top, unit = (0.5, "per position") if rate is None else (rate / 2.0, "Hz")
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(9.0, 4.6))
        FigureCanvasAgg(figure)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        halves = figure.add_gridspec(
            1, 2, left=0.01, right=0.99, bottom=0.12, top=0.86, wspace=0.22
        )
        some = order[np.unique(np.linspace(0, len(order) - 1, AS_LINES).astype(int))]
        across = 4
        grid = halves[0].subgridspec(-(-len(some) // across), across, hspace=0.15, wspace=0.08)
        for number, which in enumerate(some):
            axes = figure.add_subplot(grid[number // across, number % across])
            axes.plot(kernel[:, :, which], linewidth=0.7)
            axes.axis("off")
        axes = figure.add_subplot(halves[1])
        shares = sizes[:, order] / np.maximum(sizes[:, order].max(axis=0), 1e-12)
        axes.imshow(
            shares, origin="lower", aspect="auto", cmap="magma", vmin=0, vmax=1,
            extent=(0.5, len(order) + 0.5, 0.0, top), interpolation="nearest",
        )  # fmt: skip
        axes.set_ylabel(f"frequency ({unit})")
        axes.set_xlabel("filters, by the frequency of their largest response")
        figure.savefig(out, metadata={"Software": None})


def draw_motifs(
    title: str, kernel: Kernel, bases: UInt8[np.ndarray, "n length"], out: Path
) -> tuple[str, ...]:
    """Draw the motifs of the filters that have one, see `motifs.filter_motifs`.

    Args:
        title: of the sheet.
        kernel: of the first convolution, channels A, C, G and T.
        bases: sequences, 1 to 4 for A, C, G and T, 0 for an unknown base.
        out: the PNG.

    Returns:
        A sentence on how many filters have one.
    """
    motifs = filter_motifs(kernel, bases)
    strength = np.abs(kernel).max(axis=(0, 1))
    chosen = sorted(motifs, key=lambda number: (-strength[number], number))[:SHOWN]
    drawn = [(f"filter {number}", motifs[number]) for number in chosen]
    motif_figure(title, drawn, columns=4).savefig(out, metadata={"Software": None})
    said = f"{len(motifs)} of {kernel.shape[2]} filters have a motif in {len(bases):,} sequences"
    return (f"{said}; {len(chosen)} are drawn.",)


def strongest_tokens(
    kernel: Kernel, vectors: Float[np.ndarray, "tokens channels"]
) -> tuple[Float[np.ndarray, "length filters words"], Int[np.ndarray, "length filters words"]]:
    """Return what activates each filter most at each position: activations, and which tokens."""
    activations = np.einsum("kcf,tc->kft", kernel, vectors)
    places = np.argsort(-activations, axis=-1, kind="stable")[..., :WORDS]
    return np.take_along_axis(activations, places, axis=-1), places


def draw_tokens(
    title: str,
    kernel: Kernel,
    vectors: Float[np.ndarray, "tokens channels"],
    symbols: Sequence[str],
    out: Path,
) -> tuple[str, ...]:
    """Draw the words or characters that activate the strongest filters most, position by position.

    Args:
        title: of the sheet.
        kernel: of the first convolution.
        vectors: of the tokens.
        symbols: what each token stands for.
        out: the PNG.

    Returns:
        A sentence on what is drawn.
    """
    values, places = strongest_tokens(kernel, vectors)
    order = np.argsort(-values[..., 0].sum(axis=0), kind="stable")[:SHOWN]
    most = max(float(np.abs(values).max()), 1e-12)
    length = len(kernel)
    columns = max(1, min(4, 12 // length))
    rows = -(-len(order) // columns)
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(0.95 * length * columns + 0.2, 0.62 * rows + 0.5))
        FigureCanvasAgg(figure)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        panels: Any = figure.subplots(rows, columns, squeeze=False)
        figure.subplots_adjust(0.01, 0.01, 0.99, 1 - 0.45 / figure.get_figheight(), 0.08, 0.25)
        for axes in panels.flat:
            axes.axis("off")
        for number, axes in zip(order, panels.flat, strict=False):
            shown = values[:, number].T  # words, positions
            axes.imshow(shown, cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto", alpha=0.8)
            for (word, place), token in np.ndenumerate(places[:, number].T):
                said = shortened(symbols[token], LETTERS).replace(" ", "\N{OPEN BOX}")
                axes.text(
                    place, word, said, color=INK, fontsize=7, family="monospace", ha="center",
                    va="center", parse_math=False,
                )  # fmt: skip
        figure.savefig(out, metadata={"Software": None})
    what = f"the {len(order)} strongest of {kernel.shape[2]} filters"
    return (f"{what}; in each column what activates a position of the filter most.",)
