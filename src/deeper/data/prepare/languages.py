"""Which language a sentence is in: snippets of Debian's translated manual pages.

Each package ``manpages-LANGUAGE`` holds manual pages translated into one language. Their sentences
are cut to snippets. Pages of one name, such as ls.1, are on one side of the split in all languages,
so that no snippet's translation is on the other side.
"""

import gzip
import hashlib
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from deeper.data.prepare.atomic_directory import Progress
from deeper.data.prepare.debian_package import files_of
from deeper.data.text import is_prepared, normalise, store
from deeper.errors import UserError

PREFIX = "manpages-"
SHORTEST, LONGEST = 32, 128  # characters of a snippet
TEST_SHARE = 10  # a page in so many is tested on
# Pages are translated in part: a snippet with so many different ones of these words is English.
ENGLISH = frozenset(
    (
        "the", "and", "this", "that", "with", "which", "not", "are", "all", "from", "or", "by",
        "can", "be", "of", "is",
    )
)  # fmt: skip
ENGLISH_WORDS = 2
LETTERS = 0.7  # least share of letters and spaces: commands and options are of no language


def languages(
    dir: str,
    name: str,
    packages: Sequence[str],
    source: str | None,
    train: int,
    test: int,
    progress: Progress = lambda what, done, total: None,
) -> Path:
    """Prepare the data set, unless it is prepared; every call on the same packages gives the same.

    Args:
        dir: where prepared data sets are.
        name: of the data set.
        packages: Debian's packages, a class each, called as what follows ``manpages-``.
        source: a directory of the packages' files (.deb), as ``apt-get download`` leaves them.
        train: snippets of each language to train on, at most.
        test: snippets of each language to test on, at most.
        progress: called with the number of packages read.

    Returns:
        Its directory.

    Raises:
        UserError: a package is missing or damaged.
    """
    directory = Path(dir) / name
    if is_prepared(directory):
        return directory
    command = f"apt-get download {' '.join(packages)}"
    if source is None:
        raise UserError(
            f"Say where the packages of {name} are: data.prepare.source=DIRECTORY, in which "
            f"`{command}` was run."
        )
    by_language: dict[str, dict[str, list[str]]] = {}
    for done, package in enumerate(packages):
        progress("read packages", done, len(packages))
        found = sorted(Path(source).glob(f"{package}_*.deb"))
        if not found:
            raise UserError(
                f"data.prepare.source={source} has no {package}_*.deb: `{command}` fetches it."
            )
        by_language[package.removeprefix(PREFIX)] = snippets_of_package(found[-1])
    progress("read packages", len(packages), len(packages))
    texts, names = split_by_page(by_language, train, test)
    store(directory, texts, names, progress)
    return directory


def split_by_page(
    by_language: Mapping[str, Mapping[str, Sequence[str]]], train: int, test: int
) -> tuple[dict[str, list[tuple[str, int]]], list[str]]:
    """Divide snippets by their pages, and draw as many of each language.

    A snippet that is there in two languages, or twice in one, is left out from the second on:
    what stays untranslated says nothing of a language.

    Args:
        by_language: language -> page -> snippets.
        train: of each language, at most.
        test: of each language, at most.

    Returns:
        Split -> (snippet, number of its language), and the languages' names.
    """
    names = sorted(by_language)
    languages_of: dict[str, set[str]] = {}
    for language, pages in by_language.items():
        for snippets in pages.values():
            for snippet in snippets:
                languages_of.setdefault(snippet, set()).add(language)
    texts: dict[str, list[tuple[str, int]]] = {"train": [], "test": []}
    for number, language in enumerate(names):
        of_split: dict[str, set[str]] = {"train": set(), "test": set()}
        for page, snippets in by_language[language].items():
            side = "test" if _hash(page) % TEST_SHARE == 0 else "train"
            of_split[side] |= {one for one in snippets if len(languages_of[one]) == 1}
        of_split["train"] -= of_split["test"]
        for side, most in (("train", train), ("test", test)):
            # By another hash than the order of all: else languages with many snippets come first.
            drawn = sorted(of_split[side], key=lambda one: (_hash(f"drawn {one}"), one))[:most]
            texts[side] += [(snippet, number) for snippet in drawn]
    return {
        side: sorted(some, key=lambda one: _hash(one[0])) for side, some in texts.items()
    }, names


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def snippets_of_package(path: Path) -> dict[str, list[str]]:
    """Return the snippets of a package's manual pages, by the page's name, such as ls.1.

    Raises:
        UserError: the file is no package.
    """
    pages: dict[str, list[str]] = {}
    try:
        for name, content in files_of(path):
            place = PurePosixPath(name)
            if "man" in place.parts and place.suffix == ".gz":
                source = gzip.decompress(content).decode("utf-8", errors="replace")
                pages[place.stem] = list(snippets(source))
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} is no Debian package, or damaged: {error}.") from error
    return pages


# What roff writes with a backslash: fonts, sizes, hyphens, spaces and characters by name.
_ESCAPES = (
    (re.compile(r'\\".*'), ""),
    (re.compile(r"\\f(\[[^]]*\]|\(..|.)"), ""),
    (re.compile(r"\\s[-+]?\d"), ""),
    (re.compile(r"\\(\[[^]]*\]|\(..|\*\[[^]]*\]|\*\(..|\*.)"), " "),
    (re.compile(r"\\-"), "-"),
    (re.compile(r"\\[&/,|^%:]"), ""),
    (re.compile(r"\\[ ~0]"), " "),
    (re.compile(r"\\e"), r"\\"),
)
_KEEPS_PARAGRAPH = (".B", ".I", ".BR", ".RB", ".BI", ".IB", ".IR", ".RI", ".SM", ".SB")


def snippets(page: str) -> Iterator[str]:
    """Yield snippets of `SHORTEST` to `LONGEST` characters of a manual page's running text.

    Args:
        page: its source in roff.
    """
    for paragraph in _paragraphs(page):
        for sentence in re.split(r"(?<=[.!?;:]) +", paragraph):
            while len(sentence) >= SHORTEST:
                end = len(sentence)
                if end > LONGEST:
                    end = sentence.rfind(" ", SHORTEST, LONGEST + 1)
                    end = LONGEST if end < 0 else end
                snippet, sentence = sentence[:end].strip(), sentence[end:].strip()
                spoken = sum(c.isalpha() or c == " " for c in snippet)
                foreign = ENGLISH & set(snippet.lower().split())
                if (
                    len(snippet) >= SHORTEST
                    and spoken >= LETTERS * len(snippet)
                    and len(foreign) < ENGLISH_WORDS
                ):
                    yield snippet


def _paragraphs(page: str) -> Iterator[str]:
    """Yield a page's paragraphs without roff's requests; literal blocks are left out."""
    lines: list[str] = []
    literal = False
    for line in page.split("\n"):
        request = re.match(r"[.'] *([A-Za-z]*)", line)
        if request is None:
            if not literal:
                lines.append(line)
            continue
        name = f".{request[1]}"
        if name in (".nf", ".EX", ".fi", ".EE"):
            literal = name in (".nf", ".EX")
        elif name in _KEEPS_PARAGRAPH:
            if not literal:
                lines.append(line[request.end() :].replace('"', ""))
            continue
        yield _plain(lines)
        lines = []
    yield _plain(lines)


def _plain(lines: Sequence[str]) -> str:
    text = " ".join(lines)
    for pattern, replacement in _ESCAPES:
        text = pattern.sub(replacement, text)
    return normalise(text, lower=False)
