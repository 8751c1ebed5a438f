"""Texts: stored, read by characters, and which language they are in."""

import json
from pathlib import Path

import numpy as np
import pytest

from deeper.data import text
from deeper.data.prepare.languages import languages, snippets, split_by_page
from deeper.data.text import CharacterReader
from deeper.errors import UserError
from tests.data.text_files import WORDS, packages

PACKAGES = [f"manpages-{language}" for language in WORDS]
READER = CharacterReader("abc é", 6, lower=True)


def silent(what, done, total):
    pass


def test_characters_become_their_places_in_the_alphabet():
    read = READER(["Ab  c", "e\N{COMBINING ACUTE ACCENT}\tz", "abcabcabc"])
    np.testing.assert_array_equal(
        read.columns["text"], [[2, 3, 5, 4, 0, 0], [6, 5, 1, 0, 0, 0], [2, 3, 4, 2, 3, 4]]
    )
    assert read.names == ("Ab  c", "e\N{COMBINING ACUTE ACCENT}\tz", "abcabcabc")
    assert sorted(read.changed.values()) == [1, 1]  # one cut, one with an unknown character
    assert READER.symbols(read.columns["text"][0]) == ["a", "b", " ", "c"]


def test_empty_texts_and_files_that_are_no_text_are_left_out_and_counted(tmp_path):
    (tmp_path / "lines.txt").write_text("abc\n\n  \ncab\n", encoding="utf-8")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    read = READER(["a", " \n", tmp_path])
    assert len(read.columns["text"]) == len(read.names) == 3
    assert len(read.left_out) == 2
    with pytest.raises(UserError):
        READER(["  "])
    with pytest.raises(UserError):
        READER([Path("not-there.txt")])


def test_stored_texts_come_back_as_they_were(tmp_path):
    texts = {"train": [("a\u2028b\nc", 0), ("\x85 é", 1)], "test": [("b", 1)]}
    text.store(tmp_path / "set", texts, ("no", "yes"), silent)
    assert text.load(tmp_path / "set", "prepare") == (texts, ["no", "yes"])


def test_a_damaged_line_is_told_with_its_number(tmp_path):
    text.store(tmp_path / "set", {"train": [("a", 0), ("b", 0)]}, ("no",), silent)
    (tmp_path / "set" / "train.jsonl").write_text('{"text": "a", "label": 0}\n{"text":\n')
    with pytest.raises(UserError, match="line 2"):
        text.load(tmp_path / "set", "prepare")


def test_the_alphabet_has_the_most_frequent_characters_of_the_training_texts(tmp_path):
    texts = {"train": [("aab", 0), ("abc", 1)], "test": [("ddd", 1)]}
    text.store(tmp_path / "set", texts, ("no", "yes"), silent)
    data = text.characters(str(tmp_path), "set", length=3, tokens=4)
    assert data.reader["characters"] == "ab"
    np.testing.assert_array_equal(data.splits["train"].columns["text"], [[2, 2, 3], [2, 3, 1]])
    assert data.class_names == ("no", "yes")
    with pytest.raises(UserError, match=r"data\.name=other"):
        text.characters(str(tmp_path), "other", length=3, tokens=4)


def test_a_manual_page_gives_its_running_text():
    page = r""".TH LS 1
.\" a comment that nobody reads, long enough for a snippet
.SH NAVN
.B Vis
\fIinformation\fP om filerne i den nuv\[ae]rende mappe med \-\-sort og mere.
.nf
literal text that is long enough to be a snippet of its own
.fi
.PP
kort
.TP
This is what the translators of the page did not translate at all.
"""
    assert list(snippets(page)) == [
        "Vis information om filerne i den nuv rende mappe med --sort og mere."
    ]
    long = " ".join(["tekst"] * 60)
    assert {len(one) <= 128 for one in snippets(long)} == {True}


def test_pages_are_on_one_side_and_what_two_languages_share_is_left_out():
    pages = {f"p{n}.1": [f"tekst {n}", "shared"] for n in range(40)}
    others = {f"p{n}.1": [f"текст {n}", "shared"] for n in range(40)}
    texts, names = split_by_page({"da": pages, "ru": others}, 1000, 1000)
    assert names == ["da", "ru"]
    sides = {split: {one for one, _ in some} for split, some in texts.items()}
    assert "shared" not in sides["train"] | sides["test"]
    tested = {one.split()[1] for one in sides["test"]}
    assert tested and not tested & {one.split()[1] for one in sides["train"]}
    assert sum(map(len, texts.values())) == 80


def test_packages_become_a_data_set_once(tmp_path):
    source = packages(tmp_path / "debs")
    arguments = (str(tmp_path), "tongues", PACKAGES)
    with pytest.raises(UserError, match="apt-get download manpages-aa"):
        languages(*arguments, None, 20, 5)
    with pytest.raises(UserError, match="manpages-zz"):
        languages(str(tmp_path), "other", [*PACKAGES, "manpages-zz"], str(source), 20, 5)
    path = languages(*arguments, str(source), 20, 5)
    texts, names = text.load(path, "prepare")
    assert names == list(WORDS)
    assert np.bincount([n for _, n in texts["train"]]).tolist() == [20] * 3
    assert languages(*arguments, None, 20, 5) == path
    (source / "manpages-aa_1_all.deb").write_bytes(b"!<arch>\nnothing")
    with pytest.raises(UserError, match="manpages-aa_1_all"):
        languages(str(tmp_path), "other", PACKAGES, str(source), 20, 5)
    assert json.loads((path / "classes.json").read_text()) == names
