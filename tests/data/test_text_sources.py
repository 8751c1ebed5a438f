"""A user's own texts, movie review snippets, and texts that TFDS prepared, become data sets."""

import contextlib
import io
import json
import tarfile

import pytest

from deeper.data import text
from deeper.data.prepare.snippets import FILE, INNER, snippets
from deeper.data.prepare.text_files import texts
from deeper.data.prepare.tfds_texts import tfds_texts
from deeper.errors import UserError

ROWS = [(f'text, {i} \u2028 "é"\nline', "no" if i % 2 else "yes") for i in range(20)]


def table(path, rows, names=("text", "label")):
    """Write rows as a CSV, TSV or JSONL file."""
    if path.suffix == ".jsonl":
        lines = [json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows]
    else:
        mark = "," if path.suffix == ".csv" else "\t"
        quoted = [['"' + cell.replace('"', '""') + '"' for cell in row] for row in (names, *rows)]
        lines = [mark.join(row) + "\n" for row in quoted]
    path.write_text("".join(lines), encoding="utf-8-sig" if path.suffix == ".csv" else "utf-8")


def prepared(tmp_path, source, **more):
    keys = {"text": "text", "label": "label", "fraction": 0.1} | more
    directory, said = texts(str(tmp_path / "data"), "mine", str(source), **keys)
    return *text.load(directory, "prepare"), said


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_a_table_of_texts_and_labels_becomes_a_data_set(tmp_path, suffix):
    file = tmp_path / f"mine{suffix}"
    copies = [ROWS[0]] * 3
    table(file, [*ROWS, *copies, ("  ", "no"), ("unlabelled", "")])
    splits, names, said = prepared(tmp_path, file)
    assert names == ["no", "yes"]
    assert sorted(splits["train"] + splits["test"]) == sorted(
        (one.strip(), int(of == "yes")) for one, of in [*ROWS, *copies]
    )
    assert {number for _, number in splits["test"]} == {0, 1}
    assert not {one for one, _ in splits["train"]} & {one for one, _ in splits["test"]}
    assert len(said) == 2  # an empty text, and one without a label
    assert prepared(tmp_path, file)[:2] == (splits, names)


def test_splits_and_columns_may_be_given(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    table(source / "train.csv", ROWS[:6], ("words", "stars"))
    table(source / "test.jsonl", ROWS[6:8], ("words", "stars"))
    splits, _, _ = prepared(tmp_path, source, text="words", label="stars")
    assert {split: len(some) for split, some in splits.items()} == {"train": 6, "test": 2}


def test_a_folder_of_text_files_is_a_class(tmp_path):
    for number, (content, of) in enumerate(ROWS):
        folder = tmp_path / "source" / of
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.txt").write_text(content, encoding="utf-8")
    (tmp_path / "source" / "no" / "bytes").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "source" / "no" / "empty.txt").write_text("\n")
    splits, names, said = prepared(tmp_path, tmp_path / "source", fraction=0.3)
    assert names == ["no", "yes"] and len(said) == 2
    assert {split: len(some) for split, some in splits.items()} == {"train": 14, "test": 6}


@pytest.mark.parametrize(
    "case", ["nothing", "suffix", "columns", "one class", "no table", "bytes", "no source"]
)
def test_a_source_that_is_no_data_set_of_texts_is_refused(tmp_path, case):
    file = tmp_path / ("mine.csv" if case != "suffix" else "mine.xls")
    if case == "no table":
        file = tmp_path / "mine.jsonl"
        file.write_text('["text"]\n')
    elif case == "bytes":
        file.write_bytes(b"text,label\n\xff\xff,no\n")
    elif case != "nothing":
        names = ("words", "label") if case == "columns" else ("text", "label")
        table(file, ROWS[:1] if case == "one class" else ROWS, names) if case != "suffix" else (
            file.write_text("")
        )
    with pytest.raises(UserError):
        prepared(tmp_path, file) if case != "no source" else texts(
            str(tmp_path), "mine", None, "text", "label", 0.1
        )


def archive(path, lines):
    """Write a source archive with a table of rated snippets."""
    inner, content = io.BytesIO(), "\r\n".join(lines).encode()
    with tarfile.open(fileobj=inner, mode="w:gz") as tables:
        member = tarfile.TarInfo(FILE)
        member.size = len(content)
        tables.addfile(member, io.BytesIO(content))
    with tarfile.open(path, "w:gz") as outer:
        member = tarfile.TarInfo(f"vaderSentiment-3.3.2/{INNER}")
        member.size = len(inner.getvalue())
        outer.addfile(member, io.BytesIO(inner.getvalue()))


def test_rated_snippets_are_positive_or_negative_by_the_sign(tmp_path):
    lines = [f"{i}\t{(-1) ** i * 1.5}\tSnippet {i}" for i in range(40)]
    archive(
        tmp_path / "vaderSentiment-3.3.2.tar.gz",
        [*lines, "40\t0.0\tNeither", "41\t-1.0\tSnippet 0"],
    )
    directory, said = snippets(str(tmp_path), "snippets", str(tmp_path))
    splits, names = text.load(directory, "prepare")
    assert names == ["negative", "positive"] and len(said) == 2
    assert splits == {"train": [(f"Snippet {i}", int(i % 2 == 0)) for i in range(40)]}


def test_an_archive_without_snippets_is_refused(tmp_path):
    with pytest.raises(UserError, match="pip download"):
        snippets(str(tmp_path), "snippets", None)
    with pytest.raises(UserError, match="pip download"):
        snippets(str(tmp_path), "snippets", str(tmp_path))
    file = tmp_path / "vaderSentiment-3.3.2.tar.gz"
    for content in (b"nothing", b""):
        file.write_bytes(content)
        with pytest.raises(UserError, match=r"3\.3\.2\.tar\.gz"):
            snippets(str(tmp_path), "snippets", str(file))
    archive(file, ["1\tnot rated\tSnippet"])
    with pytest.raises(UserError, match=r"3\.3\.2\.tar\.gz"):
        snippets(str(tmp_path), "snippets", str(file))


def write_tfds(data_dir, name, config, rows, label="label"):
    """Have TFDS's own writer prepare texts, which needs no TensorFlow."""
    import tensorflow_datasets as tfds

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=config)] if config else []
        pkg_dir_path = data_dir

        def _info(self):
            features = {key: tfds.features.Text() for key in rows["train"][0] if key != label}
            features[label] = tfds.features.ClassLabel(names=["neg", "pos"])
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(some) for split, some in rows.items()}

        def _generate_examples(self, some):
            yield from enumerate(some)

    Builder.name = name
    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):
        Builder(data_dir=data_dir, file_format="array_record").download_and_prepare(
            download_config=tfds.download.DownloadConfig(try_download_gcs=False)
        )


def test_texts_that_tfds_prepared_are_read_without_tensorflow(tmp_path):
    rows = {
        "train": [{"text": f"é {i}\nline", "label": i % 2} for i in range(7)],
        "test": [{"text": "t", "label": 1}],
        "unsupervised": [{"text": "u", "label": -1}],
    }
    write_tfds(tmp_path, "reviews", "plain_text", rows)
    directory, said = tfds_texts(str(tmp_path), "mine", "reviews/plain_text", ["text"])
    splits, names = text.load(directory, "prepare")
    assert names == ["neg", "pos"] and len(said) == 1
    assert sorted(splits["train"]) == sorted((row["text"], row["label"]) for row in rows["train"])
    assert splits["test"] == [("t", 1)]
    with pytest.raises(UserError, match="text, title"):
        tfds_texts(str(tmp_path), "other", "reviews/plain_text", ["text", "title"])
    with pytest.raises(UserError, match="tensorflow"):
        tfds_texts(str(tmp_path), "other", "nothing", ["text"])


def test_several_columns_of_tfds_are_one_text(tmp_path):
    rows = {"train": [{"title": "a", "description": "b c", "label": 0}]}
    write_tfds(tmp_path, "news", None, rows)
    directory, _ = tfds_texts(str(tmp_path), "mine", "news", ["title", "description"])
    assert text.load(directory, "prepare")[0] == {"train": [("a b c", 0)]}
