"""Preparing data sets in Python, and the returned messages."""

from PIL import Image

from deeper.config.compose import configure
from deeper.run.prepare_data import prepare_data


def test_a_folder_is_prepared_once_and_nothing_is_printed(tmp_path, capsys):
    source = tmp_path / "tree"
    for label in ("cat", "dog"):
        (source / label).mkdir(parents=True)
        for number in range(5):
            Image.new("RGB", (40, 40), (number, 0, 0)).save(source / label / f"{number}.png")
    (source / "dog" / "notes.txt").touch()
    data = configure(
        "data=folder", "data.name=pets", "data.classes=2", "data.fraction=0.2",
        f"data.source={source}", f"data.dir={tmp_path / 'data'}",
    ).data  # fmt: skip
    first = prepare_data(data)
    assert first.kinds == {".png": 10} and first.left_out == {".txt": ["dog/notes.txt"]}
    again = prepare_data(data)
    assert again.path == first.path and again.left_out == first.left_out
    assert not again.kinds and not again.sentences
    (first.path / "source.json").unlink()  # as an older deeper prepared it
    [sentence] = prepare_data(data).sentences
    assert str(source) in sentence
    assert capsys.readouterr() == ("", "")
