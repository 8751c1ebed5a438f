"""What the Hugging Face Hub takes: weights, timm's config.json, and a card made from the record."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import yaml
from PIL import Image
from safetensors.numpy import load_file, save_file

import deeper
from deeper.errors import UserError
from deeper.models.resnet import resnet
from deeper.models.vgg import vgg
from deeper.run.model_card import write_card
from deeper.run.run import Run
from deeper.run.weights import import_weights
from deeper.weights.torchvision import state_dict_shapes
from deeper.weights.weight_files import metadata_of
from tests.weights import hub_server

NAMES = [f"breed {number}" for number in range(5)]


def random_file(model, path):
    rng = np.random.default_rng(0)
    save_file({n: rng.random(s, np.float32) for n, s in state_dict_shapes(model).items()}, path)


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    root = tmp_path_factory.mktemp("imported")
    random_file(resnet(18, 5), root / "pets.safetensors")
    (root / "names.txt").write_text("\n".join(NAMES))
    import_weights(str(root / "pets.safetensors"), root / "out", names=root / "names.txt")
    return root


@pytest.fixture(scope="module")
def runs(data_dir, tmp_path_factory):
    """Two seeds of one small run."""
    root = tmp_path_factory.mktemp("runs")
    return [
        deeper.train(
            deeper.configure(
                "model=lenet5", "data=fashion_mnist", f"data.dir={data_dir}",
                "data.validation=100", "train.steps=6", "train.batch_size=20", "train.devices=1",
                "train.train_error_examples=20", "train.log_every=2", f"runs={root}",
                "train.evaluate_every=0.05", "tracker.mode=disabled", f"seed={seed}",
            ),
            progress=False,
        )
        for seed in (0, 1)
    ]  # fmt: skip


def test_a_net_that_timm_has_is_written_by_its_conventions(imported, tmp_path):
    done = write_card(imported / "out", tmp_path / "card")
    assert (done.architecture, done.by_timm) == ("resnet18", True)
    config = json.loads((tmp_path / "card/config.json").read_text())
    assert (config["architecture"], config["num_classes"]) == ("resnet18", 5)
    assert config["label_names"] == NAMES
    shown = config["pretrained_cfg"]
    assert (shown["input_size"], shown["crop_pct"]) == ([3, 224, 224], 0.875)
    arrays = load_file(tmp_path / "card/model.safetensors")
    np.testing.assert_array_equal(
        arrays["fc.weight"], load_file(imported / "pets.safetensors")["fc.weight"]
    )


@pytest.mark.long
def test_timms_vgg_gets_timms_names(tmp_path):
    random_file(vgg(11, 2), tmp_path / "vgg11.safetensors")
    import_weights(str(tmp_path / "vgg11.safetensors"), tmp_path / "out")
    assert write_card(tmp_path / "out", tmp_path / "card").by_timm
    arrays = load_file(tmp_path / "card/model.safetensors")
    assert arrays["pre_logits.fc1.weight"].shape == (4096, 512, 7, 7)
    assert arrays["head.fc.weight"].shape == (2, 4096)


def test_a_card_says_what_the_record_says(runs, tmp_path):
    done = write_card(runs[0].path, tmp_path / "card", repository="me/lenet")
    assert not done.by_timm and "curve.png" in done.files
    text = (tmp_path / "card/README.md").read_text()
    head = yaml.safe_load(text.split("---\n")[1])
    assert head["library_name"] == "deeper"
    error = runs[0].metrics["test/error"]
    mean = np.mean([run.metrics["test/error"] for run in runs])
    [row] = [line for line in text.splitlines() if "top-1 error" in line]
    assert f"{error:.4g}" in row and f"{mean:.2f}" in row and "2 seeds" in row
    assert "500 train" in text and "203 test" in text
    assert "hf:me/lenet" in text and runs[0].environment["git_commit"][:8] in text
    assert (tmp_path / "card/curve.png").stat().st_size > 1000


def test_any_net_that_deeper_has_comes_back_from_its_card(runs, tmp_path):
    write_card(runs[0].path, tmp_path / "card")
    done = import_weights(str(tmp_path / "card"), tmp_path / "back")
    assert done.config.label == runs[0].config.label
    back, images = Run(tmp_path / "back"), runs[0].data("test")["image"][:20]
    expected = runs[0].predict(np.asarray(images))
    found = back.predict(np.asarray(images))
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert found.class_names == expected.class_names
    # A picture of another size is shown to both alike.
    Image.fromarray(np.arange(40 * 50, dtype=np.uint8).reshape(40, 50)).save(tmp_path / "a.png")
    one, other = (run.predict(tmp_path / "a.png").scores for run in (runs[0], back))
    np.testing.assert_array_equal(one, other)


def test_a_file_that_names_code_of_others_is_refused(runs, tmp_path):
    write_card(runs[0].path, tmp_path / "card")
    file = tmp_path / "card/model.safetensors"
    facts = metadata_of(file)
    facts["architecture"] = json.dumps({"_target_": "os.system", "command": "true"})
    save_file(load_file(file), file, facts)
    with pytest.raises(UserError, match=r"os\.system"):
        import_weights(str(file), tmp_path / "back")


def test_a_net_with_random_layers_has_no_card(imported, tmp_path):
    source = str(imported / "pets.safetensors")
    import_weights(source, tmp_path / "out", "data.classes=3")
    with pytest.raises(UserError, match="random values"):
        write_card(tmp_path / "out", tmp_path / "card")


@pytest.mark.long
def test_a_net_goes_to_the_hub_and_comes_back(imported, tmp_path):
    pytest.importorskip("huggingface_hub", reason="needs the extra hub, which .ci/run installs")

    def command(*words, token, endpoint):
        environment = hub_server.environment(endpoint, tmp_path / "cache", os.environ)
        return subprocess.run(
            [sys.executable, "-m", "deeper", "weights", *words],
            env=environment | {"HF_TOKEN": token},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=240,
        )

    shutil.copytree(imported / "out", tmp_path / "net")
    with hub_server.serving() as hub:
        words = ("run=net", "push=me/pets", "out=card")
        refused = command(*words, token="hf_other", endpoint=hub.url)
        assert refused.returncode == 2 and "push=me/pets" in refused.stderr
        assert "Traceback" not in refused.stderr
        done = command(*words, token=hub_server.TOKEN, endpoint=hub.url)
        assert done.returncode == 0, done.stderr
        assert set(hub.files["me/pets"]) == {"model.safetensors", "config.json", "README.md"}
        back = command("import=hf:me/pets", "out=back", token="", endpoint=hub.url)
        assert back.returncode == 0, back.stderr
    one, other = (
        json.loads((tmp_path / name / "net.json").read_text()) for name in ("net", "back")
    )
    assert one["class_names"] == other["class_names"] == NAMES
    assert one["architecture"] == other["architecture"]
    assert other["source"] == "hf:me/pets" and other["revision"] == hub_server.COMMIT
