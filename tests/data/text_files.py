"""Debian packages of manual pages, made up."""

import gzip
import io
import tarfile
from pathlib import Path

WORDS = {"aa": "bade gade vand mand", "bb": "поле дерево вода хлеб", "cc": "lumo nokto akvo pano"}


def page(language: str, name: str) -> str:
    """Return a page in roff whose sentences have words of the language alone."""
    words = WORDS[language].split()
    sentences = [
        " ".join(words[(i + j) % 4] + f"{name[0]}" * (j == 2) for j in range(8)) for i in range(4)
    ]
    return "\n".join(
        [
            f'.TH {name} 1 "2020"',
            ".SH NAME",
            f"\\fB{name}\\fP \\- {sentences[0]} {language}{name}.",
            *(f".PP\n{sentence} {language} {name}." for sentence in sentences),
            ".nf",
            "literal literal literal literal literal literal literal",
            ".fi",
        ]
    )


def deb(path: Path, pages: dict[str, str]) -> None:
    """Write a package with manual pages, name -> source."""
    files = io.BytesIO()
    with tarfile.open(fileobj=files, mode="w:xz") as archive:
        for name, source in pages.items():
            content = gzip.compress(source.encode())
            member = tarfile.TarInfo(f"./usr/share/man/xx/man1/{name}.gz")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    members = {"debian-binary": b"2.0\n", "data.tar.xz": files.getvalue()}
    with path.open("wb") as out:
        out.write(b"!<arch>\n")
        for name, content in members.items():
            out.write(f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode())
            out.write(content + b"\n" * (len(content) % 2))


def packages(directory: Path) -> Path:
    """Write a package for each made-up language; return their directory."""
    directory.mkdir()
    names = [f"{letter}{number}.1" for letter in "abcdefghij" for number in range(4)]
    for language in WORDS:
        deb(directory / f"manpages-{language}_1_all.deb", {n: page(language, n) for n in names})
    return directory
