"""DNA: how letters are read, how examples are cut, and what is prepared from files."""

import gzip
import io
import json
import sqlite3
import zipfile
from collections import Counter

import numpy as np
import pytest

from deeper.data.dna import (
    LOWER,
    NOT_KNOWN,
    RNA,
    DnaReader,
    encode,
    fit,
    letters_of,
    read_fasta,
    reverse_complement,
    sequences,
)
from deeper.data.prepare.genomics_ood import genomics_ood
from deeper.data.prepare.motifs import motifs, read_database, shuffled, with_site
from deeper.data.prepare.sequence_files import sequence_files
from deeper.data.prepare.splice import bases_of, splice
from deeper.errors import UserError


def test_each_kind_of_letter_has_a_rule_and_a_count():
    changed = Counter()
    assert letters_of(encode("ACgt", changed)) == "ACGT"
    assert letters_of(encode("AC GU\n", changed)) == "ACGT"
    assert letters_of(encode("ARNT", changed)) == "ANNT"
    assert {word: changed[word] for word in (LOWER, RNA, NOT_KNOWN)} == {
        LOWER: 1,
        RNA: 1,
        NOT_KNOWN: 1,
    }


@pytest.mark.parametrize("text", ["", "  ", "NNN", "ACGE", "AC-T", "ACé"])
def test_what_is_no_dna_is_refused(text):
    with pytest.raises(UserError):
        encode(text, Counter())


@pytest.mark.parametrize(
    ("text", "length", "expected"),
    [("ACGTA", 3, "CGT"), ("ACGT", 4, "ACGT"), ("AC", 5, "NACNN"), ("ACGTAC", 3, "CGT")],
)
def test_the_middle_of_a_sequence_is_kept_and_a_short_one_stands_in_the_middle(
    text, length, expected
):
    assert letters_of(fit(encode(text, Counter()), length)) == expected


def test_the_other_strand_is_read_backwards():
    assert letters_of(reverse_complement(encode("AACGN", Counter()))) == "NCGTT"


def test_the_reader_counts_what_it_changes_and_names_what_it_leaves_out(tmp_path):
    fasta = tmp_path / "some.fa.gz"
    with gzip.open(fasta, "wt") as file:
        file.write(">one first\nACGT\nAC\n>two\nacgtnn\n>three\n??\n")
    lines = tmp_path / "lines.txt"
    lines.write_text("ACG\n\nACGTACGT\n")
    read = DnaReader(6)(["ACGTAC", fasta, lines])
    assert read.names == ("ACGTAC", "one first", "two", "ACG", "ACGTACGT")
    assert read.columns["dna"].shape == (5, 6)
    assert len(read.left_out) == 1
    assert sum(read.changed.values()) == 4  # lower case, unknown bases, one cut, one filled up
    assert DnaReader(6).symbols(read.columns["dna"][3]) == list("NACGNN")
    with pytest.raises(UserError):
        DnaReader(6)(["", tmp_path / "missing.fa"])


def test_a_file_that_does_not_begin_as_fasta_is_refused(tmp_path):
    file = tmp_path / "a.fa"
    file.write_text("ACGT\n>one\nAC\n")
    with pytest.raises(UserError, match="FASTA"):
        list(read_fasta(file))


# --- files of a user's own -----------------------------------------------------------------------


def prepared(tmp_path, source, length=4, several_labels=False, **options):
    path, sentences = sequence_files(str(tmp_path / "data"), "own", str(source), **options)
    assert path == tmp_path / "data" / "own" and sentences
    return sequences(str(tmp_path / "data"), "own", length, several_labels)


def strings(split):
    return [letters_of(row) for row in split.columns["dna"]]


def test_a_table_of_sequences_and_labels_is_a_data_set(tmp_path):
    table = tmp_path / "all.csv"
    table.write_text(
        "label,sequence,split\nyes,ACGT,train\nno,AAAA,train\nyes,CCcC,test\n,ACGT,train\nno,!!,test\n"
        "no,NNGG,validation\n"
    )
    data = prepared(tmp_path, table)
    assert data.class_names == ("no", "yes")
    assert {name: strings(split) for name, split in data.splits.items()} == {
        "train": ["ACGT", "AAAA"],
        "test": ["CCCC"],
        "validation": ["NNGG"],
    }
    assert data.splits["train"].labels.tolist() == [1, 0]
    about = json.loads((tmp_path / "data" / "own" / "about.json").read_text())
    assert sum(about["left_out"].values()) == 2 and sum(about["changed"].values()) == 2


def test_fasta_files_are_a_class_each_and_both_strands_of_a_sequence_on_one_side(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    rng = np.random.default_rng(0)
    made = [rng.integers(1, 5, 12).astype(np.uint8) for _ in range(200)]
    for name, some in (("bound", made), ("free", [reverse_complement(one) for one in made])):
        (source / f"{name}.fa").write_text("".join(f">x\n{letters_of(b)}\n" for b in some))
    data = prepared(tmp_path, source, length=12)
    assert data.class_names == ("bound", "free")
    sides = {name: set(strings(split)) for name, split in data.splits.items()}
    other = {letters_of(reverse_complement(row)) for row in data.splits["test"].columns["dna"]}
    assert 10 < len(data.splits["test"]) < 80
    assert not sides["train"] & (sides["test"] | other)


def test_regions_of_a_genome_are_cut_on_their_strand_and_tested_by_chromosome(tmp_path):
    genome = tmp_path / "genome.fa"
    genome.write_text(">chr1 first\nAACC\nGGTT\n>chr2\nACGTACGT\n")
    bed = tmp_path / "regions.bed"
    bed.write_text(
        "track name=x\nchr1\t0\t4\tyes\nchr1\t4\t8\tno\t0\t-\nchr2\t1\t5\tyes\nchr2\t6\t10\tno\n"
        "chr3\t0\t4\tno\n"
    )
    data = prepared(tmp_path, bed, genome=str(genome), chromosomes=["chr2"])
    assert strings(data.splits["train"]) == ["AACC", "AACC"]
    assert strings(data.splits["test"]) == ["CGTA"]
    about = json.loads((tmp_path / "data" / "own" / "about.json").read_text())
    assert sorted(about["left_out"].values()) == [1, 1]


@pytest.mark.parametrize("form", ["npz", "mat"])
def test_one_hot_arrays_of_deepseas_form_are_read_in_their_order_of_bases(tmp_path, form):
    source = tmp_path / "source"
    source.mkdir()
    rows = np.zeros((2, 4, 3), np.uint8)  # AGCT: AGT and CNA
    for example, positions in enumerate(((0, 1, 3), (2, None, 0))):
        for place, base in enumerate(positions):
            if base is not None:
                rows[example, base, place] = 1
    labels = np.array([[1, 0, 1], [0, 0, 0]], np.uint8)
    from scipy.io import savemat

    for split in ("train", "valid", "test"):
        arrays = {f"{split}xdata": rows, f"{split}data": labels}
        if form == "npz":
            np.savez(source / f"{split}.npz", **arrays)
        else:
            savemat(source / f"{split}.mat", arrays)
    data = prepared(tmp_path, source, length=3, several_labels=True, bases="AGCT")
    assert strings(data.splits["validation"]) == ["AGT", "CNA"]
    assert data.splits["train"].labels.tolist() == labels.tolist()
    assert len(data.class_names) == 3
    with pytest.raises(UserError, match="several_labels"):
        sequences(str(tmp_path / "data"), "own", 3)


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("a.csv", "sequence,class\nACGT,1\n", "column label"),
        ("a.csv", "sequence,label\nACGT,1\nAACC,1\n", "one class"),
        ("a.csv", "sequence,label\n!!,1\n", "no sequence"),
        ("a.csv", "sequence,label,split\nAC,1,train\nAC,2,here\n", "split=here"),
        ("a.csv", "sequence,label,split\nAC,1,train\nAC,2,train\n", "split test"),
        ("a.bed", "chr1\t0\t4\tyes\n", "genome"),
    ],
)
def test_a_mistake_in_a_users_file_is_one_sentence(tmp_path, name, content, match):
    source = tmp_path / name
    source.write_text(content)
    with pytest.raises(UserError, match=match):
        sequence_files(str(tmp_path / "data"), "own", str(source))


def test_a_data_set_that_is_not_prepared_is_told_so(tmp_path):
    with pytest.raises(UserError, match="deeper prepare"):
        sequences(str(tmp_path), "none", 4)


# --- splice junctions ----------------------------------------------------------------------------


def test_indicators_of_three_columns_are_bases_and_none_set_is_t():
    indicators = np.array([[1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]])
    assert letters_of(bases_of(indicators)[0]) == "ACGT"


def test_splice_says_where_its_source_comes_from(tmp_path):
    for source in (None, str(tmp_path)):
        with pytest.raises(UserError, match="r-cran-mlbench"):
            splice(str(tmp_path), "splice", source)


# --- motifs --------------------------------------------------------------------------------------


def wheel(directory, matrices):
    """Write a wheel like pyjaspar's, with these matrices: identifier -> counts (length, 4)."""
    file = directory / "one.sqlite"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE MATRIX (ID, COLLECTION, BASE_ID, VERSION, NAME)")
        connection.execute('CREATE TABLE MATRIX_DATA (ID, "row", "col", val)')
        connection.execute("CREATE TABLE MATRIX_ANNOTATION (ID, TAG, VAL)")
        for number, (identifier, counts) in enumerate(matrices.items()):
            base, version = identifier.split(".")
            row = (number, "CORE", base, int(version), f"F{number}")
            connection.execute("INSERT INTO MATRIX VALUES (?, ?, ?, ?, ?)", row)
            tag = (number, "tax_group", "vertebrates")
            connection.execute("INSERT INTO MATRIX_ANNOTATION VALUES (?, ?, ?)", tag)
            for place, values in enumerate(counts, 1):
                for letter, value in zip("ACGT", values, strict=True):
                    cell = (number, letter, place, float(value))
                    connection.execute("INSERT INTO MATRIX_DATA VALUES (?, ?, ?, ?)", cell)
    connection.close()
    with zipfile.ZipFile(directory / "pyjaspar-4.0.0-py3-none-any.whl", "w") as archive:
        archive.writestr("pyjaspar/data/JASPAR2024.sqlite", file.read_bytes())


SITES = {
    "MA0001.1": np.eye(4)[[0, 0, 1, 2, 3, 1, 1, 0]] * 100,
    "MA0002.1": np.eye(4)[[3, 2, 3, 1, 1, 0, 2, 2]] * 100,
}


def planting(source):
    return {
        "source": str(source), "release": "JASPAR2024", "matrices": list(SITES), "length": 40,
        "train": 4, "test": 4, "seed": 0,
    }  # fmt: skip


def test_planted_sites_are_there_and_equal_seeds_give_equal_sequences(tmp_path):
    wheel(tmp_path, SITES)
    options = planting(tmp_path) | {"train": 60, "test": 20}
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        motifs(str(tmp_path), name, **options | {"seed": seed})
    one, same, other = (sequences(str(tmp_path), name, 40) for name in ("one", "same", "other"))
    rows = one.splits["train"].columns["dna"]
    np.testing.assert_array_equal(rows, same.splits["train"].columns["dna"])
    assert (rows != other.splits["train"].columns["dna"]).any()
    consensus = ["".join("ACGT"[i] for i in table.argmax(1)) for table in SITES.values()]
    forms = consensus + [
        letters_of(reverse_complement(encode(site, Counter()))) for site in consensus
    ]
    holds = np.array([any(site in text for site in forms) for text in strings(one.splits["train"])])
    labels = one.splits["train"].labels
    assert holds[labels == 1].mean() > 0.85  # pseudocounts change a base now and then
    assert holds[labels == 0].mean() < 0.1


def test_a_shuffled_sequence_keeps_its_ends_and_its_pairs():
    rng = np.random.default_rng(0)
    for _ in range(20):
        sequence = rng.integers(1, 5, 60).astype(np.uint8)
        made = shuffled(sequence, rng)
        pairs = [Counter(zip(s[:-1].tolist(), s[1:].tolist())) for s in (sequence, made)]
        assert pairs[0] == pairs[1]
        assert (made != sequence).any()


def test_sites_are_drawn_with_the_matrixs_probabilities_on_either_strand():
    rng = np.random.default_rng(0)
    matrix = np.array([[0.7, 0.1, 0.1, 0.1]])
    drawn = np.concatenate([with_site(matrix, 1, rng) for _ in range(4000)])
    shares = np.bincount(drawn, minlength=5)[1:] / 4000
    np.testing.assert_allclose(shares, [0.4, 0.1, 0.1, 0.4], atol=0.03)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"source": None}, "pip download"),
        ({"release": "JASPAR1999"}, "JASPAR2024"),
        ({"matrices": ["MA9999.1"]}, "MA9999"),
        ({"length": 5}, "shorter"),
    ],
)
def test_a_mistake_in_what_is_planted_is_one_sentence(tmp_path, changes, match):
    wheel(tmp_path, SITES)
    with pytest.raises(UserError, match=match):
        motifs(str(tmp_path), "motifs", **planting(tmp_path) | changes)


def test_a_damaged_wheel_is_told_so(tmp_path):
    (tmp_path / "pyjaspar-4.0.0-py3-none-any.whl").write_bytes(b"no wheel")
    with pytest.raises(UserError, match="damaged"):
        read_database(str(tmp_path), "JASPAR2024")


# --- TFDS ----------------------------------------------------------------------------------------


def field(number, payload):
    return bytes([number << 3 | 2]) + varint(len(payload)) + payload


def varint(value):
    out = io.BytesIO()
    while True:
        out.write(bytes([value & 127 | (128 if value > 127 else 0)]))
        value >>= 7
        if not value:
            return out.getvalue()


def example(text, label):
    text_feature = field(1, field(1, text.encode()))
    label_feature = field(3, field(1, varint(label)))
    entries = [
        field(1, field(1, name) + field(2, feature))
        for name, feature in ((b"seq", text_feature), (b"label", label_feature))
    ]
    return field(1, b"".join(entries))


def test_what_tfds_prepared_is_read_without_the_classes_that_train_has_not(tmp_path):
    from array_record.python.array_record_module import ArrayRecordWriter

    source = tmp_path / "tfds" / "genomics_ood" / "1.0.0"
    source.mkdir(parents=True)
    content = {
        "train": [("ACGT", 3), ("ACNT", 1)],
        "test": [("GGGG", 3), ("TTTT", 0), ("NNNN", 1)],
        "test_ood": [("CCCC", 2)],
    }
    for split, records in content.items():
        writer = ArrayRecordWriter(
            str(source / f"genomics_ood-{split}.array_record-00000-of-00001"), "group_size:1"
        )
        for text, label in records:
            writer.write(example(text, label))
        writer.close()
    about = {"splits": [{"name": s, "shardLengths": [str(len(r))]} for s, r in content.items()]}
    (source / "dataset_info.json").write_text(json.dumps(about))
    (source / "label.labels.txt").write_text("a\nb\nc\nd\n")
    genomics_ood(str(tmp_path), "ood", str(tmp_path / "tfds"))
    data = sequences(str(tmp_path), "ood", 4)
    assert data.class_names == ("b", "d")
    assert strings(data.splits["train"]) == ["ACGT", "ACNT"]
    assert data.splits["train"].labels.tolist() == [1, 0]
    assert strings(data.splits["test"]) == ["GGGG"] and data.splits["test"].labels.tolist() == [1]
    with pytest.raises(UserError, match="TFDS"):
        genomics_ood(str(tmp_path), "again", str(tmp_path))
