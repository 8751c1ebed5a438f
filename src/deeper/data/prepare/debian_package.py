"""Reads the files of a Debian package without installing it."""

import io
import lzma
import tarfile
from collections.abc import Iterator
from pathlib import Path

from deeper.errors import UserError


def files_of(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of the regular files that a package (.deb) installs.

    Raises:
        UserError: the file is no package, or damaged.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(_data_of_deb(path.read_bytes()))) as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isfile() else None
                if file is not None:
                    yield member.name, file.read()
    except (OSError, EOFError, ValueError, lzma.LZMAError, tarfile.TarError) as error:
        raise UserError(f"{path} is no Debian package, or damaged: {error}.") from error


def _data_of_deb(content: bytes) -> bytes:
    """Return the archive of a package's files, decompressed: a member of an ar archive."""
    if not content.startswith(b"!<arch>\n"):
        raise ValueError("it does not begin as one")
    place = 8
    while place + 60 <= len(content):
        head = content[place : place + 60]
        name, size = head[:16].decode("ascii").rstrip(" /"), int(head[48:58])
        body = content[place + 60 : place + 60 + size]
        if name == "data.tar.xz":
            return lzma.decompress(body)
        place += 60 + size + size % 2
    raise ValueError("it has no data.tar.xz")
