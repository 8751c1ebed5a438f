"""First-layer filters of a net of DNA as motifs, and the known motifs that they are.

A filter's motif is made of the positions that activate it most (Alipanahi et al. 2015,
supplementary note 10; threshold of Kelley et al. 2016), and compared with known matrices as Tomtom
does (Gupta, Stamatoyannopoulos, Bailey and Noble 2007): p-values of the best alignment, against
columns drawn at random from all known matrices.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8
from numpy.lib.stride_tricks import sliding_window_view

from deeper.errors import UserError

Matrix = Float[np.ndarray, "length 4"]  # probabilities of A, C, G, T

SHARE = 0.5  # of a filter's largest activation, that a site has to reach
LEAST_SITES = 10
PSEUDOCOUNT = 0.25  # of each base
LEAST_OVERLAP = 5  # columns
LEVELS = 100  # that column scores are rounded to, for the p-values
LIMIT = 0.05  # on the corrected p-value of a match


def filters_of(params: Mapping[str, Any]) -> Float[np.ndarray, "length 4 filters"]:
    """Return the kernel of the first convolution, ``conv1``, wherever in the net it is.

    Raises:
        UserError: there is none that takes four bases.
    """
    if "conv1" in params:
        kernel = np.asarray(params["conv1"]["kernel"], np.float32)
        if kernel.ndim == 3 and kernel.shape[1] == 4:
            return kernel
    if "net" in params:  # on both strands
        return filters_of(params["net"])
    raise UserError("This net has no convolution conv1 of one-hot DNA.")


def filter_motifs(
    kernel: Float[np.ndarray, "length 4 filters"], bases: UInt8[np.ndarray, "n length"]
) -> dict[int, Matrix]:
    """Return the motif of each filter that has one.

    Of each sequence the position that activates a filter most is a site, if the activation is at
    least `SHARE` of the filter's largest; activations are counted from the filter's mean. A filter
    with fewer than `LEAST_SITES` sites has no motif.

    Args:
        kernel: of the first convolution.
        bases: 1 to 4 for A, C, G and T, 0 for an unknown base.
    """
    length = len(kernel)
    windows = sliding_window_view(bases, length, axis=1)  # (n, places, length)
    # Zero for an unknown base; the sum over a window is its activation, without the bias.
    weights = np.concatenate([np.zeros((length, 1, kernel.shape[2]), np.float32), kernel], axis=1)
    found = {}
    for number in range(kernel.shape[2]):
        activation = weights[np.arange(length), windows, number].sum(axis=-1)
        activation = activation - activation.mean()
        best = activation.argmax(axis=1)
        highest = activation[np.arange(len(bases)), best]
        kept = highest >= SHARE * highest.max()
        if highest.max() <= 0 or kept.sum() < LEAST_SITES:
            continue
        sites = windows[kept, best[kept]]
        counts = np.stack([(sites == base).sum(axis=0) for base in range(1, 5)], axis=1)
        more = counts + PSEUDOCOUNT
        found[number] = more / more.sum(axis=1, keepdims=True)
    return found


def other_strand(matrix: Matrix) -> Matrix:
    """Return a matrix of the other strand."""
    return matrix[::-1, ::-1]


class Tomtom:
    """Compares motifs with known matrices.

    The score of two columns is minus their Euclidean distance, that of an alignment the sum over
    the columns that overlap. A p-value is the chance that an alignment of as many columns, drawn
    at random from all known ones, scores as high; that of a match corrects the smallest one for
    the number of alignments on both strands.

    Args:
        known: name -> matrix; random columns are drawn from all of them.
    """

    def __init__(self, known: Mapping[str, Matrix]):
        self._known = dict(known)
        both = [one for matrix in known.values() for one in (matrix, other_strand(matrix))]
        self._columns = np.concatenate(both)

    def matches(self, motif: Matrix, targets: Sequence[str]) -> dict[str, float]:
        """Return target -> p-value of its best alignment with a motif."""
        scores = -np.linalg.norm(motif[:, None] - self._columns[None], axis=-1)
        low, high = scores.min(), scores.max()
        step = max(high - low, 1e-12) / LEVELS
        levels = np.rint((scores - low) / step).astype(int)
        shares = [np.bincount(row, minlength=LEVELS + 1) / row.size for row in levels]
        tails = _tails(shares)
        return {name: self._match(motif, self._known[name], low, step, tails) for name in targets}

    @staticmethod
    def _match(
        motif: Matrix,
        target: Matrix,
        low: float,
        step: float,
        tails: Mapping[tuple[int, int], np.ndarray],
    ) -> float:
        least = min(LEAST_OVERLAP, len(motif), len(target))
        smallest, tried = 1.0, 0
        for matrix in (target, other_strand(target)):
            for shift in range(least - len(matrix), len(motif) - least + 1):
                begin, end = max(0, shift), min(len(motif), shift + len(matrix))
                overlap = matrix[begin - shift : end - shift]
                each = -np.linalg.norm(motif[begin:end] - overlap, axis=-1)
                total = int(np.rint((each - low) / step).sum())
                tail = tails[begin, end]
                smallest = min(smallest, float(tail[min(total, len(tail) - 1)]))
                tried += 1
        return float(-np.expm1(tried * np.log1p(-min(smallest, 1 - 1e-12))))


def _tails(shares: Sequence[np.ndarray]) -> dict[tuple[int, int], np.ndarray]:
    """Return (first, end) columns of a motif -> chance of each total score or a higher one."""
    tails = {}
    for begin in range(len(shares)):
        total = np.ones(1)
        for end in range(begin + 1, len(shares) + 1):
            total = np.convolve(total, shares[end - 1])
            tails[begin, end] = np.minimum(1.0, np.cumsum(total[::-1])[::-1])
    return tails


@dataclass(frozen=True)
class Recovery:
    """Which planted motifs a net's filters are.

    Attributes:
        found: planted motif -> (filter, corrected p-value) of its best match, if below `LIMIT`.
        planted: names of all planted motifs.
        filters: how many filters have a motif.
    """

    found: Mapping[str, tuple[int, float]]
    planted: tuple[str, ...]
    filters: int

    @property
    def share(self) -> float:
        """Share of the planted motifs that a filter was found to be."""
        return len(self.found) / len(self.planted)


def recovery(
    motifs: Mapping[int, Matrix], known: Mapping[str, Matrix], planted: Sequence[str]
) -> Recovery:
    """Return which planted motifs are among those of some filters.

    The p-values are corrected for all pairs of a filter and a planted motif (Bonferroni).

    Args:
        motifs: filter -> motif, from `filter_motifs`.
        known: name -> matrix, the planted ones among them.
        planted: names in ``known``.
    """
    tomtom = Tomtom(known)
    best: dict[str, tuple[int, float]] = {}
    for number, motif in motifs.items():
        for name, p in tomtom.matches(motif, planted).items():
            corrected = min(1.0, p * len(motifs) * len(planted))
            if corrected <= LIMIT and corrected < best.get(name, (0, 2.0))[1]:
                best[name] = (number, corrected)
    return Recovery(best, tuple(planted), len(motifs))


def information(matrix: Matrix) -> Float[np.ndarray, "length 4"]:
    """Return the height of each letter of a motif's logo, in bits (Schneider and Stephens 1990)."""
    bits = 2.0 + (matrix * np.log2(np.maximum(matrix, 1e-12))).sum(axis=1, keepdims=True)
    return matrix * np.maximum(bits, 0.0)


def split_matrices(
    columns: Matrix, lengths: Int[np.ndarray, " n"], names: Sequence[str]
) -> dict[str, Matrix]:
    """Return name -> matrix of matrices that are stored one after the other."""
    ends = np.cumsum(lengths)
    return {
        name: columns[end - length : end]
        for name, length, end in zip(names, lengths, ends, strict=True)
    }
