"""Movie review snippets with human ratings of their sentiment (Hutto and Gilbert 2014).

They are in the source archive of the Python package vaderSentiment: 10,605 snippets of reviews,
each with the mean of twenty people's ratings, -4 to 4, whose sign is the class. Kim's data set MR
(Pang and Lee 2005) has 10,662 of the same kind, whose class is that of the review's stars, so
errors are not comparable with his to the point.
"""

import io
import tarfile
from pathlib import Path

from deeper.data.prepare.atomic_directory import Progress
from deeper.data.text import is_prepared, store
from deeper.errors import UserError

INNER = "additional_resources/hutto_ICWSM_2014.tar.gz"
FILE = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
CLASSES = ("negative", "positive")


def snippets(
    dir: str,
    name: str,
    source: str | None,
    progress: Progress = lambda what, done, total: None,
) -> tuple[Path, list[str]]:
    """Prepare the data set, unless it is prepared.

    A snippet of a mean of 0 has no class, and a second one of the same words is a copy: both are
    left out. There is one split, ``train``, which ``data.folds`` divides.

    Args:
        dir: where prepared data sets are.
        name: of the data set.
        source: the package's source archive, vaderSentiment-VERSION.tar.gz, or its directory.
        progress: called where another process has to be waited for.

    Returns:
        Its directory, and sentences on what was left out.

    Raises:
        UserError: the archive is missing or damaged.
    """
    directory = Path(dir) / name
    if is_prepared(directory):
        return directory, []
    if source is None:
        raise UserError(
            f"Say where the source archive of {name} is: data.prepare.source=DIRECTORY, in which "
            "`pip download --no-deps --no-binary :all: vaderSentiment==3.3.2` was run."
        )
    place = Path(source)
    found = sorted(place.glob("vader*entiment-*.tar.gz")) if place.is_dir() else [place]
    if not found:
        raise UserError(
            f"data.prepare.source={source} has no vaderSentiment-*.tar.gz: `pip download --no-deps "
            "--no-binary :all: vaderSentiment==3.3.2` fetches it."
        )
    texts: dict[str, int] = {}
    neither = copies = 0
    for text, rating in ratings_of(found[-1]):
        if rating == 0.0:
            neither += 1
        elif text in texts:
            copies += 1
        else:
            texts[text] = int(rating > 0)
    store(directory, {"train": list(texts.items())}, CLASSES, progress)
    return directory, [
        f"{neither:,} snippets of a mean rating of 0 left out.",
        f"{copies:,} copies of others left out.",
    ]


def ratings_of(archive: Path) -> list[tuple[str, float]]:
    """Return the snippets of a source archive, each with its mean rating.

    Raises:
        UserError: it is no such archive.
    """
    try:
        with tarfile.open(archive) as outer:
            inner = next(one for one in outer if one.name.endswith(INNER))
            content = outer.extractfile(inner)
            assert content is not None
            with tarfile.open(fileobj=io.BytesIO(content.read())) as tables:
                table = tables.extractfile(FILE)
                assert table is not None
                lines = table.read().decode("utf-8").replace("\r\n", "\n").split("\n")
        parts = [line.split("\t") for line in lines if line.strip()]
        return [(text.strip(), float(rating)) for _, rating, text in parts]
    except (OSError, EOFError, KeyError, ValueError, StopIteration, tarfile.TarError) as error:
        raise UserError(
            f"{archive} is no source archive of vaderSentiment, or damaged: {error}."
        ) from error
