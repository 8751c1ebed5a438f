"""Texts read word by word, and vectors of words."""

import numpy as np
import pytest

from deeper.data import text
from deeper.data.words import WordReader, read_vectors, words, words_of
from deeper.errors import UserError

READER = WordReader(["good", "not", "n't", "bad", "!"], 4)


def silent(what, done, total):
    pass


def test_words_are_divided_by_kims_rules():
    # As his clean_str gives them, but for the accented letter, which his would cut out.
    words = words_of("It's (NOT) bad, they've said; isn't it?  I'd re-do café_2!")
    expected = "it 's ( not ) bad , they 've said is n't it ? i 'd re do café 2 !"
    assert " ".join(words) == expected
    assert words_of("*** ---") == []


def test_words_become_their_places_in_the_vocabulary():
    read = READER(["Good, isn't it", "bad bad bad bad bad", "***", " "])
    np.testing.assert_array_equal(read.columns["text"], [[2, 1, 1, 4], [5, 5, 5, 5], [1, 0, 0, 0]])
    assert len(read.left_out) == 1 and sorted(read.changed.values()) == [2, 2]
    assert READER.symbols(read.columns["text"][1]) == ["bad"] * 4


def stored(tmp_path):
    texts = {"train": [("good good film", 1), ("bad film", 0)], "test": [("good bore", 1)]}
    text.store(tmp_path / "set", texts, ("no", "yes"), silent)
    return str(tmp_path)


def test_the_vocabulary_has_the_most_frequent_words_of_the_training_texts(tmp_path):
    data = words(stored(tmp_path), "set", length=3, tokens=4)
    assert data.reader["words"] == ["film", "good"]
    np.testing.assert_array_equal(data.splits["test"].columns["text"], [[3, 1, 0]])
    assert words(str(tmp_path), "set", 3, 10, least=2).reader["words"] == ["film", "good"]
    assert data.token_vectors is None


@pytest.mark.parametrize("head", ["", "3 2\n"])
def test_vectors_of_word2vec_and_glove_become_rows_of_the_vocabulary(tmp_path, head):
    file = tmp_path / "vectors.txt"
    file.write_text(f"{head}good 1 2\n. . 5 6\nother 3 4\ngood 9 9\n", encoding="utf-8")
    data = words(stored(tmp_path), "set", length=3, tokens=6, vectors="vectors.txt")
    assert data.reader["words"] == ["film", "good", "bad"]
    np.testing.assert_array_equal(data.token_vectors[3], [1, 2])
    assert np.isnan(data.token_vectors).all(axis=1).tolist() == [
        True,
        True,
        True,
        False,
        True,
        True,
    ]


@pytest.mark.parametrize(
    "content", ["good 1 2\nbad 3\n", "good 1 x\n", "other 1 2\n", "good 1 nan\n", "good\n", ""]
)
def test_a_file_that_has_no_vectors_is_refused(tmp_path, content):
    file = tmp_path / "vectors.txt"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"data\.vectors="):
        read_vectors(file, ["good"])
    with pytest.raises(UserError, match=r"data\.vectors="):
        read_vectors(tmp_path / "nothing.txt", ["good"])
