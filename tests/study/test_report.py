"""The page, the README and the command."""

import re
import shutil
from collections import Counter

import pytest
from omegaconf import OmegaConf

from deeper.cli.report import write_and_show
from deeper.errors import UserError
from deeper.study.report import make_report, update_readme
from tests.cli.test_config import compose_train
from tests.study.conftest import DEFINITION, write_net, write_run, write_study


def test_the_page_opens_with_claim_and_verdict(report):
    text = report.page.read_text()
    body = re.sub(
        r"\s+", " ", re.sub(r"<style>.*?</style>|<svg.*?</svg>|<[^>]+>", " ", text, flags=re.S)
    )
    first = [
        "Deeper is better, but only with shortcuts.",
        "Supported.",
        "At 44 layers the residual net is better. Supported.",
        "paired t test",
        "Results",
        "plain44",
        "Published numbers",
        "He et al. 2015 table 6",
        "30 of 30 runs are finished",
        "git checkout c0ffee0123456789",
        "deeper train -m study=depth_test mode=quick",
        "deeper report study=depth_test mode=quick",
    ]
    positions = [body.find(words) for words in first]
    assert -1 not in positions
    assert positions == sorted(positions)


def test_the_page_needs_nothing_from_elsewhere(report):
    page = report.page.read_text()
    assert "<script" not in page
    assert "<link" not in page
    assert "@import" not in page
    assert page.count("<svg") == 3
    references = re.findall(r'(?:src|href|url)\s*[=(]\s*["\']?([^"\')\s>]+)', page)
    assert references
    assert all(reference.startswith("#") for reference in references)


def test_ids_are_unique_and_every_reference_has_one(report):
    page = report.page.read_text()
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', page)) <= set(ids)


def test_the_same_runs_give_the_same_page(report):
    before = report.page.read_bytes(), (report.page.parent / "results.csv").read_bytes()
    again = make_report(report.page.parent)
    assert (again.page.read_bytes(), (again.page.parent / "results.csv").read_bytes()) == before


def test_a_half_finished_study_says_what_is_missing(tmp_path):
    study = write_study(tmp_path / "depth_test", seeds=(0, 1))
    shutil.rmtree(next(study.glob("plain44-s0-*")))
    shutil.rmtree(next(study.glob("plain44-s1-*")))
    (next(study.glob("resnet8-s1-*")) / "result.json").unlink()
    (next(study.glob("plain8-s0-*")) / "result.json").write_text("{ <b>not json")
    write_net(study, False, 44, 2, 90.0, status="diverged")
    page = make_report(study).page.read_text()
    for words in (
        "Inconclusive.",
        "The study is not complete (1 diverged, 1 unfinished, 1 damaged, 11 not begun).",
        "16 of 30 runs are finished.",
        "</code>, at step 100 of 100</li>",
        "</code>, non-finite loss at step 7</li>",
        "result.json cannot be read",
        "<b>Not begun</b>: plain44, seeds 0, 1</li>",
        "No seed has a finished run of both.",
    ):
        assert words in page


def test_a_claim_with_markup_stays_text(tmp_path):
    write_net(tmp_path, True, 8, 0, 10.0)
    definition = {**DEFINITION, "claim": "a < b & <i>c</i>", "tests": []}
    page = make_report(tmp_path, definition).page.read_text()
    assert "<h1>a &lt; b &amp; &lt;i&gt;c&lt;/i&gt;</h1>" in page


MARKED = "kept\n" + "".join(
    f"<!-- generated:{name} -->\nold\n<!-- /generated:{name} -->\n"
    for name in ("verdict", "table", "figure")
)


def test_a_readme_is_brought_up_to_date_between_its_markers(report, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(MARKED + "kept too\n")
    update_readme(report, readme)
    text = readme.read_text()
    assert text.startswith("kept\n")
    assert text.endswith("kept too\n")
    assert "old" not in text
    assert "**Supported.** Both tests" in text
    assert "| plain8 | 3 |" in text
    assert "commit c0ffee012345, JAX 0.12.0, A processor" in text
    for image in re.findall(r"\]\(([^)]+)\)", text):
        assert (tmp_path / image).read_bytes() == (report.page.parent / image).read_bytes()
    csv = report.page.parent / "results.csv"
    assert (tmp_path / "results.csv").read_bytes() == csv.read_bytes()


def test_a_readme_without_a_marker_is_left_as_it_was(report, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(MARKED.replace("generated:figure", "generated:other"))
    before = readme.read_text()
    with pytest.raises(UserError, match="generated:figure"):
        update_readme(report, readme)
    assert readme.read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


def command_config(root, study, **more):
    return OmegaConf.create(
        {
            "study": study,
            "runs": str(root),
            "mode": {"name": "quick"},
            "readme": None,
            "wandb": False,
            **more,
        }
    )


def test_the_command_prints_the_summary_and_ends_with_the_page(report, tmp_path, capsys):
    readme = tmp_path / "README.md"
    readme.write_text(MARKED)
    root = report.page.parents[1]
    write_and_show(command_config(root, DEFINITION, readme=str(readme)))
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == str(report.page)
    assert "parameters" in lines[0]
    # A table that is wider than the terminal is divided; each part has all rows.
    parts = sum(line.startswith("net ") for line in lines)
    names = [line.split()[0] for line in lines if re.match(r"(plain|resnet)\d+ ", line)]
    assert len(names) == 10 * parts
    assert set(Counter(names).values()) == {parts}
    assert all(len(line) <= 100 for line in lines[:-2])
    assert any(line.startswith("Supported. Both tests") for line in lines)
    assert "plain8" in readme.read_text()


def test_the_command_wants_a_study(tmp_path):
    with pytest.raises(UserError, match="deeper report study="):
        write_and_show(command_config(tmp_path, None))


def test_quotes_in_a_label_end_no_attribute(tmp_path):
    study = write_study(tmp_path / "depth_test")
    label = 'depth" onload="x <b>'
    page = make_report(study, {**DEFINITION, "x_label": label}).page.read_text(encoding="utf-8")
    assert not re.search(r'aria-label="[^"]*" onload=', page)
    assert "depth&quot; onload=&quot;x &lt;b&gt;" in page


def test_what_a_study_leaves_open_is_taken_from_its_runs(report):
    arms = DEFINITION["arms"] | {"model": "${nets}"}
    study = DEFINITION | {"title": "On ${data.name}", "arms": arms}
    write_and_show(command_config(report.page.parents[1], study, data={"name": "???"}, nets="???"))
    page = report.page.read_text()
    assert DEFINITION["title"] in page
    assert "30 of 30 runs are finished" in page


@pytest.fixture
def on_photographs(tmp_path):
    """The runs of a study on own photographs, at 85 and 340 of them; and the report's config."""
    study = tmp_path / "transfer_imagenet"
    given = ("study=transfer_imagenet", "mode=quick", f"runs={tmp_path}")
    own = ("data.name=flowers", "data.classes=17", "study.sizes=[85,340]")
    stated = OmegaConf.to_container(compose_train(*given, *own).study, resolve=True)
    for arm in ("staged", "finetune", "linear", "scratch"):
        for size in (85, 340):
            for seed in (0, 1):
                write_run(
                    study, "resnet50", seed, 10.0 + seed, name=f"{arm}{size}", study=stated,
                    overrides=f"{' '.join(own)} arm={arm} data.examples={size}",
                    facts={"arm": arm, "train_images": size},
                )  # fmt: skip
    config = compose_train(*given)
    OmegaConf.set_struct(config, False)
    config.readme, config.wandb = None, False
    return study, config


def test_a_study_on_own_photographs_is_reported_as_its_runs_were_given_it(on_photographs):
    study, config = on_photographs
    write_and_show(config)
    page = (study / "report.html").read_text()
    assert "from scratch" in page
    assert "16 of 16 runs are finished" in page


def test_what_the_command_says_of_a_study_counts_before_its_runs(on_photographs):
    study, config = on_photographs
    config.study.sizes = [85, 340, 1020]
    write_and_show(config, typed=["study.sizes=[85,340,1020]"])
    assert "16 of 24 runs are finished" in (study / "report.html").read_text()
