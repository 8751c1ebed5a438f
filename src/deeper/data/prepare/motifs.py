"""Binding sites planted in random sequences: a task whose truth is known.

Sites are drawn, base by base, from binding matrices of JASPAR (Rauluseviciute et al. 2024). A
sequence of class ``site`` has one site, of one of the matrices, on either strand, at a random
place. Each has a partner of class ``none``: the sequence shuffled so that the counts of
neighbouring bases stay (Altschul and Erickson 1985), as the negatives of Alipanahi et al. 2015 and
Zeng et al. 2016, so that composition tells nothing. Both are on one side of the split.
"""

import sqlite3
import tempfile
import zipfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from deeper.data.dna import BASES, Examples, is_prepared, reverse_complement, store
from deeper.data.prepare.atomic_directory import Progress
from deeper.errors import UserError

CLASSES = ("none", "site")
PSEUDOCOUNT = 0.8  # shared by the four bases, as in TFBSTools
GC = 0.41  # share of G and C in the backgrounds, as in the human genome
GET = "pip download --no-deps pyjaspar==4.0.0"

Matrix = Float[np.ndarray, "length 4"]  # probabilities of A, C, G, T


def motifs(
    dir: str,
    name: str,
    source: str | None,
    release: str,
    matrices: Sequence[str],
    length: int,
    train: int,
    test: int,
    seed: int,
    progress: Progress = lambda what, done, total: None,
) -> Path:
    """Prepare the data set, unless it is prepared; equal arguments give equal sequences.

    The planted matrices, and all others of vertebrates to compare filters with, are stored beside
    the sequences, see `read_matrices`.

    Args:
        dir: where prepared data sets are.
        name: of the data set.
        source: wheel of pyjaspar, or the directory that it is in.
        release: which of its databases, such as JASPAR2024.
        matrices: identifiers, such as MA0139.1.
        length: bases of a sequence.
        train: sequences to train on; half of them have a site.
        test: sequences to test on.
        seed: of the sequences.
        progress: called with the number of sequences made.

    Returns:
        Its directory.

    Raises:
        UserError: the wheel or a matrix is not there, or a matrix is longer than the sequences.
    """
    directory = Path(dir) / name
    if is_prepared(directory):
        return directory
    database = read_database(source, release)
    missing = [one for one in matrices if one not in database]
    if missing or not matrices:
        raise UserError(
            f"data.prepare.matrices: {release} has no {missing[0] if missing else 'empty list'}; "
            f"its {len(database):,} matrices of vertebrates are called like MA0139.1."
        )
    planted = {one: database[one] for one in matrices}
    long = max(planted, key=lambda one: len(planted[one][1]))
    if len(planted[long][1]) > length:
        raise UserError(
            f"data.prepare.length={length} is shorter than the {len(planted[long][1])} positions "
            f"of {long}."
        )
    rng = np.random.default_rng(seed)
    splits = {}
    for split, count in (("train", train), ("test", test)):
        examples = Examples()
        for number in range(count // 2):
            if number % 1000 == 0:
                progress(f"make {split}", 2 * number, count)
            chosen = planted[matrices[int(rng.integers(len(matrices)))]][1]
            sequence = with_site(chosen, length, rng)
            examples.add(sequence, CLASSES.index("site"))
            examples.add(shuffled(sequence, rng), CLASSES.index("none"))
        splits[split] = examples
    names = {one: label for one, (label, _) in database.items()}
    store(
        directory,
        splits,
        CLASSES,
        progress,
        arrays={
            "matrices": np.concatenate([matrix for _, matrix in database.values()]),
            "matrix-lengths": np.array([len(matrix) for _, matrix in database.values()]),
        },
        more={"planted": list(matrices), "matrices": names, "release": release},
    )
    return directory


def read_database(source: str | None, release: str) -> dict[str, tuple[str, Matrix]]:
    """Return JASPAR's matrices of vertebrates (CORE), the newest and all older versions.

    Args:
        source: wheel of pyjaspar, or the directory that it is in.
        release: such as JASPAR2024.

    Returns:
        Identifier -> (name of the factor, probabilities), in the order of the identifiers.

    Raises:
        UserError: the wheel or the release is not there, or damaged.
    """
    path = None if source is None else Path(source)
    if path is not None and path.is_dir():
        path = next(iter(sorted(path.glob("pyjaspar-*.whl"), reverse=True)), None)
    if path is None or not path.is_file():
        raise UserError(
            f"data.prepare.source={source} has no wheel of pyjaspar: run `{GET}` in a directory, "
            "and give that directory."
        )
    try:
        with zipfile.ZipFile(path) as wheel, tempfile.TemporaryDirectory() as scratch:
            found = [n for n in wheel.namelist() if n.endswith(f"/{release}.sqlite")]
            if not found:
                known = sorted(Path(n).stem for n in wheel.namelist() if n.endswith(".sqlite"))
                raise UserError(
                    f"data.prepare.release={release}: {path.name} has {', '.join(known)}."
                )
            file = wheel.extract(found[0], scratch)
            with closing(sqlite3.connect(file)) as connection:
                return _matrices(connection)
    except (zipfile.BadZipFile, sqlite3.Error, OSError) as error:
        raise UserError(f"{path} is no wheel of pyjaspar, or damaged: {error}.") from error


def _matrices(connection: sqlite3.Connection) -> dict[str, tuple[str, Matrix]]:
    rows = connection.execute(
        "SELECT m.BASE_ID || '.' || m.VERSION, m.NAME, d.row, d.col, d.val FROM MATRIX m "
        "JOIN MATRIX_DATA d ON d.ID = m.ID JOIN MATRIX_ANNOTATION a ON a.ID = m.ID "
        "WHERE m.COLLECTION = 'CORE' AND a.TAG = 'tax_group' AND a.VAL = 'vertebrates' "
        "ORDER BY m.BASE_ID, m.VERSION, d.col"
    )
    counts: dict[str, dict[tuple[int, str], float]] = {}
    names: dict[str, str] = {}
    for identifier, name, base, column, value in rows:
        names[identifier] = name
        counts.setdefault(identifier, {})[int(column), base] = float(value)
    matrices = {}
    for identifier, cells in counts.items():
        columns = sorted({column for column, _ in cells})
        table = np.array([[cells.get((c, base), 0.0) for base in BASES] for c in columns])
        matrices[identifier] = (names[identifier], probabilities(table))
    return matrices


def probabilities(counts: Float[np.ndarray, "length 4"]) -> Matrix:
    """Return the probabilities of the bases, with a pseudocount shared equally."""
    more = counts + PSEUDOCOUNT / 4
    return more / more.sum(axis=1, keepdims=True)


def with_site(matrix: Matrix, length: int, rng: np.random.Generator) -> UInt8[np.ndarray, " n"]:
    """Return a random background with a site drawn from a matrix, on either strand."""
    background = ((1 - GC) / 2, GC / 2, GC / 2, (1 - GC) / 2)
    sequence = rng.choice(4, size=length, p=background).astype(np.uint8) + 1
    draws = rng.random(len(matrix))[:, None] > np.cumsum(matrix, axis=1)[:, :3]
    site = (draws.sum(axis=1) + 1).astype(np.uint8)
    if rng.integers(2):
        site = reverse_complement(site)
    place = rng.integers(length - len(site) + 1)
    sequence[place : place + len(site)] = site
    return sequence


def shuffled(sequence: UInt8[np.ndarray, " n"], rng: np.random.Generator) -> np.ndarray:
    """Return a sequence with the same counts of neighbouring bases, in a random order.

    Altschul and Erickson 1985: a random Eulerian path through the sequence's pairs. The last edge
    out of each base leads, by a random spanning tree, to the last base.
    """
    last = int(sequence[-1])
    followers: dict[int, list[int]] = {}
    for one, other in zip(sequence[:-1].tolist(), sequence[1:].tolist(), strict=True):
        followers.setdefault(one, []).append(other)
    others = [base for base in followers if base != last]
    while True:  # draw last edges until all lead to the last base
        final = {base: followers[base][rng.integers(len(followers[base]))] for base in others}
        if all(_leads_to(base, last, final) for base in others):
            break
    for base, edges in followers.items():
        if base in final:
            edges.remove(final[base])
        order = [edges[i] for i in rng.permutation(len(edges))]
        followers[base] = order + ([final[base]] if base in final else [])
    made = [int(sequence[0])]
    used = dict.fromkeys(followers, 0)
    while len(made) < len(sequence):
        base = made[-1]
        made.append(followers[base][used[base]])
        used[base] += 1
    return np.array(made, sequence.dtype)


def _leads_to(base: int, last: int, final: dict[int, int]) -> bool:
    for _ in range(len(final)):
        base = final.get(base, last)
    return base == last
