"""From a FASTA file to a trained net, its answers and what they depend on."""

import shutil

import numpy as np
import pytest

import deeper
from deeper.config.identity import config_hash
from deeper.errors import UserError

OVERRIDES = (
    "data=sequences", "data.folder=sites", "data.length=20", "model=deepbind", "model.motifs=4",
    "model.length=6", "augment=reverse_complement", "train.batch_size=16", "train.steps=6",
    "train.steps_per_call=2", "train.log_every=2", "tracker.mode=disabled",
)  # fmt: skip


def config_of(tmp_path, *more):
    source = tmp_path / "source"
    if not source.exists():
        source.mkdir()
        rng = np.random.default_rng(0)
        for name in ("bound", "free"):
            rows = ["".join(rng.choice(list("ACGT"), 20)) for _ in range(60)]
            (source / f"{name}.fa").write_text("".join(f">{name}\n{row}\n" for row in rows))
    places = (f"data.dir={tmp_path / 'data'}", f"runs={tmp_path / 'runs'}")
    return deeper.configure(*OVERRIDES, *places, f"data.prepare.source={source}", *more)


@pytest.mark.long
def test_a_net_of_dna_trains_resumes_and_answers(tmp_path):
    config = config_of(tmp_path)
    prepared = deeper.prepare(config)
    assert prepared.path == tmp_path / "data" / "sites" and prepared.sentences
    run = deeper.train(config, progress=False)
    polls = iter(range(100))
    again = config.replace(runs=str(tmp_path / "cut"))
    cut = deeper.train(again, progress=False, stop_asked=lambda: next(polls) >= 1)
    assert cut.status == "unfinished"
    assert deeper.train(again, progress=False).metrics == run.metrics
    assert {"test/auroc", "test/auprc", "test/error"} <= set(run.metrics)

    with np.load(run.path / "examples.npz") as shown:
        assert set("".join(shown["texts"])) == set("ACGT")

    # The record is enough to ask the net: the data are not needed.
    shutil.rmtree(tmp_path / "data")
    fasta = tmp_path / "asked.fa"
    fasta.write_text(">one\nACGTACGTACGTACGTACGT\n>two\nacgtnn\n>three\n!!\n")
    answers = run.predict(fasta)
    assert answers.files == ("one", "two") and answers.class_names == ("bound", "free")
    assert len(answers.left_out) == 1 and sum(answers.changed.values()) == 3
    # The default net takes the larger score of both strands: the other strand's answer is the same.
    np.testing.assert_allclose(
        run.predict(["ACGGT" * 4]).scores, run.predict(["ACCGT" * 4]).scores, rtol=1e-5
    )
    found = run.attribute("integrated_gradients", ["ACGGT" * 4, "acgtnn"], classes=["bound"] * 2)
    assert found.maps.shape == (2, 20)
    assert [len(row) for row in found.symbols] == [20, 20]
    assert found.figure().axes[0].patches  # letters by height


def test_a_number_of_classes_that_is_not_the_data_sets_is_refused(tmp_path):
    config = config_of(tmp_path, "data.classes=3")
    deeper.prepare(config)
    with pytest.raises(UserError, match=r"data\.classes=3"):
        deeper.train(config, progress=False)


def test_where_sequences_lie_changes_no_hash(tmp_path):
    config = config_of(tmp_path)
    moved = config.replace({"data.dir": "elsewhere", "data.prepare.source": "elsewhere"})
    assert config_hash(config.plain()) == config_hash(moved.plain())
