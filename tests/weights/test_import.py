"""Files of weights as people have them: wrapped, prefixed, with heads and names of their own."""

import argparse
import json
import re
from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from deeper.config.compose import configure
from deeper.data.dataset import Dataset
from deeper.errors import UserError
from deeper.models.alexnet import alexnet
from deeper.models.convnext import SIZES, convnext
from deeper.models.densenet import densenet
from deeper.models.googlenet import googlenet
from deeper.models.inception_v3 import inception_v3
from deeper.models.mobilenet_v2 import mobilenet_v2
from deeper.models.regnet import RULES, regnet
from deeper.models.resnet import resnet
from deeper.models.vgg import vgg
from deeper.run import load
from deeper.run.build import build_model, make_plan
from deeper.run.class_names import class_names, imagenet_names
from deeper.run.initial_weights import beginning
from deeper.run.run import Run
from deeper.run.weights import import_weights
from deeper.weights.architectures import architecture_of
from deeper.weights.torchvision import convert, state_dict_shapes
from deeper.weights.torchvision_names import as_timm, as_torchvision
from tests.weights import torch_format

SMALL = resnet(None, 37, blocks=(1, 1, 1, 1), width=8)


def state_dict(model, seed=0, shape=(224, 224, 3)):
    rng = np.random.default_rng(seed)
    return OrderedDict(
        (name, rng.random(shape, np.float32))
        for name, shape in state_dict_shapes(model, shape).items()
    )


def kernel_of(directory):
    variables = load.open_stored(directory, "last", "run").variables
    return np.asarray(variables["params"]["conv1"]["kernel"])


def head_of(directory):
    variables = load.open_stored(directory, "last", "run").variables
    return np.asarray(variables["params"]["fc"]["kernel"])


ARRAYS = state_dict(SMALL)
AVERAGES = state_dict(SMALL, seed=1)


def prefixed(prefix, arrays=ARRAYS):
    return OrderedDict((prefix + name, values) for name, values in arrays.items())


# As each program saves them: what is in the file, and the prefix that is said to be left out.
WRAPPED = {
    "plain": (ARRAYS, None),
    "DataParallel": (prefixed("module."), "module."),
    "torch.compile": (prefixed("_orig_mod."), "_orig_mod."),
    "Lightning": (
        {"epoch": 1, "pytorch-lightning_version": "2", "state_dict": prefixed("model.")},
        "state_dict.model.",
    ),
    "a backbone": ({"model_state_dict": prefixed("backbone.")}, "model_state_dict.backbone."),
    "net": ({"net": ARRAYS, "acc": 0.9}, "net."),
    "weights": ({"weights": ARRAYS}, "weights."),
    "timm's train.py": (
        {"arch": "resnet18", "state_dict": ARRAYS, "state_dict_ema": AVERAGES,
         "args": argparse.Namespace(lr=0.1), "optimizer": {"state": {0: {"step": 3}}}},
        "state_dict.",
    ),
    "torchvision's train.py": (
        {"model": ARRAYS, "args": argparse.Namespace(lr=0.1),
         "model_ema": OrderedDict(n_averaged=np.array(5), **prefixed("module.", AVERAGES))},
        "model.",
    ),
    "parameters": (
        OrderedDict((k, torch_format.Tensor(v, parameter=True)) for k, v in ARRAYS.items()), None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRAPPED)
def test_a_net_is_found_however_it_was_saved(name, tmp_path):
    tree, prefix = WRAPPED[name]
    torch_format.save(tree, tmp_path / "net.ckpt")
    done = import_weights(str(tmp_path / "net.ckpt"), tmp_path / "out")
    expected = ARRAYS["conv1.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(kernel_of(tmp_path / "out"), expected)
    assert done.new == () and done.config.data.classes == 37
    assert [line for line in done.said if "In front" in line] == (
        [] if prefix is None else [f"In front of the names stood {prefix}, which is left out."]
    )


@pytest.mark.parametrize("name", ["timm's train.py", "torchvision's train.py"])
def test_averages_over_training_are_taken_where_they_are_asked_for(name, tmp_path):
    torch_format.save(WRAPPED[name][0], tmp_path / "net.pth.tar")
    done = import_weights(str(tmp_path / "net.pth.tar"), tmp_path / "out", ema=True)
    expected = AVERAGES["conv1.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(kernel_of(tmp_path / "out"), expected)
    assert any("averages" in line for line in done.said)


def test_averages_that_are_not_there_are_refused(tmp_path):
    save_file(ARRAYS, tmp_path / "net.safetensors")
    with pytest.raises(UserError, match="ema=true"):
        import_weights(str(tmp_path / "net.safetensors"), tmp_path / "out", ema=True)


def test_of_several_nets_the_prefix_says_which(tmp_path):
    both = prefixed("student.") | prefixed("teacher.", AVERAGES)
    save_file(both, tmp_path / "both.safetensors")
    source = str(tmp_path / "both.safetensors")
    with pytest.raises(UserError, match=r"prefix=student\. or prefix=teacher\."):
        import_weights(source, tmp_path / "out")
    with pytest.raises(UserError, match="prefix=nobody"):
        import_weights(source, tmp_path / "out", prefix="nobody")
    import_weights(source, tmp_path / "out", prefix="teacher")
    expected = AVERAGES["conv1.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(kernel_of(tmp_path / "out"), expected)


def test_the_content_decides_and_not_the_suffix(tmp_path):
    save_file(ARRAYS, tmp_path / "net.bin")
    assert import_weights(str(tmp_path / "net.bin"), tmp_path / "one").arrays == len(ARRAYS)
    torch_format.save(ARRAYS, tmp_path / "net.safetensors", legacy=True)
    assert import_weights(str(tmp_path / "net.safetensors"), tmp_path / "two").arrays == len(ARRAYS)


def test_a_safetensors_file_may_begin_as_a_pickle_does(tmp_path):
    save_file(ARRAYS, tmp_path / "net.safetensors")
    whole = (tmp_path / "net.safetensors").read_bytes()
    length = int.from_bytes(whole[:8], "little")
    longer = (length | 0xFF) + 0x81  # ends in the byte 0x80, which begins a pickle
    head = whole[8 : 8 + length] + b" " * (longer - length)
    (tmp_path / "net.safetensors").write_bytes(
        longer.to_bytes(8, "little") + head + whole[8 + length :]
    )
    assert import_weights(str(tmp_path / "net.safetensors"), tmp_path / "out").arrays == len(ARRAYS)


def test_half_precision_is_read(tmp_path):
    content, header = b"", {}
    for name, values in ARRAYS.items():
        half = values.astype(jnp.bfloat16).tobytes()
        places = [len(content), len(content) + len(half)]
        header[name] = {"dtype": "BF16", "shape": values.shape, "data_offsets": places}
        content += half
    head = json.dumps(header).encode()
    whole = len(head).to_bytes(8, "little") + head + content
    (tmp_path / "net.safetensors").write_bytes(whole)
    import_weights(str(tmp_path / "net.safetensors"), tmp_path / "out")
    expected = ARRAYS["conv1.weight"].astype(jnp.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(kernel_of(tmp_path / "out"), expected.transpose(2, 3, 1, 0))


# --- which net -----------------------------------------------------------------------------------

NETS = {
    "alexnet": alexnet(10, hidden=16),
    "vgg11": vgg(11, 10, hidden=16),
    "vgg13_bn": vgg(13, 10, hidden=16, batch_norm=True),
    "vgg16": vgg(16, 10, hidden=16),
    "vgg19_bn": vgg(19, 10, hidden=16, batch_norm=True),
    "googlenet": googlenet(10),
    "resnet18": resnet(18, 10),
    "resnet34": resnet(34, 10),
    "resnet50": resnet(50, 10),
    "resnet101": resnet(101, 10),
    "resnet152": resnet(152, 10),
    "resnext50_32x4d": resnet(50, 10, groups=32, width_per_group=4),
    "resnext101_64x4d": resnet(101, 10, groups=64, width_per_group=4),
    "wide_resnet50_2": resnet(50, 10, width_per_group=128),
    "resnet26": resnet(None, 10, blocks=(2, 2, 2, 2), bottleneck=True),
    "resnet26d": resnet(None, 10, blocks=(2, 2, 2, 2), bottleneck=True, stem="deep", shortcut="D"),
    "resnet26t": resnet(
        None, 10, blocks=(2, 2, 2, 2), bottleneck=True, stem="tiered", shortcut="D"
    ),
    "resnet34d": resnet(34, 10, stem="deep", shortcut="D"),
    "resnet50d": resnet(50, 10, stem="deep", shortcut="D"),
    "resnet50c": resnet(50, 10, stem="deep"),
    "seresnet18": resnet(18, 10, squeeze=16),
    "seresnext50_32x4d": resnet(50, 10, squeeze=16, groups=32, width_per_group=4),
    "densenet121": densenet(121, 10),
    "densenet161": densenet(161, 10),
    "densenet201": densenet(201, 10),
    "densenet37 of growth 8 of width 24": densenet(
        None, 10, blocks=(4, 4, 4, 4), growth=8, width=24
    ),
    "mobilenet_v2": mobilenet_v2(10),
    "mobilenet_v2 of width 0.35": mobilenet_v2(10, width_multiplier=0.35),
    **{f"convnext_{size}": convnext(size, 10) for size in SIZES},
    **{f"regnet_{variant}": regnet(variant, 10) for variant in RULES},
    "inception_v3": inception_v3(10),
}
# Layers of deeper's that stand for others in timm's names.
IN_TIMM = {
    "densenet121": "features.denseblock1.denselayer1.conv1.weight",
    "mobilenet_v2": "blocks.2.1.conv_pwl.weight",
    "convnext_tiny": "stages.3.blocks.2.mlp.fc2.weight",
    "regnet_y_400mf": "s4.b6.se.fc2.weight",
    "inception_v3": "AuxLogits.conv1.bn.running_var",
}


@pytest.mark.parametrize("name", IN_TIMM)
def test_timms_names_tell_the_same_net(name):
    arrays = state_dict(NETS[name])
    timm = as_timm(arrays, NETS[name])
    assert IN_TIMM[name] in timm
    assert len(timm) == len(arrays)
    back = as_torchvision(timm)
    assert sorted(back.values()) == sorted(arrays)
    jax.tree.map(
        np.testing.assert_array_equal, convert(timm, NETS[name]), convert(arrays, NETS[name])
    )


def test_the_older_names_of_torchvisions_densenets_are_read():
    arrays = state_dict(NETS["densenet121"])
    older = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", n): a for n, a in arrays.items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in older
    assert sorted(as_torchvision(older).values()) == sorted(arrays)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("mobilenet_v2", {"features.17.conv.2.weight": (400, 960, 1, 1)}, "other blocks"),
        ("regnet_y_400mf", {"trunk_output.block4.block4-0.f.b.0.weight": (48, 8, 3, 3)}, "none of"),
        ("convnext_tiny", {"features.7.0.block.0.weight": (700, 1, 7, 7)}, "deeper has tiny"),
        (
            "densenet121",
            {"features.denseblock1.denselayer1.conv1.weight": (64, 64, 1, 1)},
            "four|4",
        ),
        ("inception_v3", {"Mixed_7c.branch3x3_2a.conv.weight": None}, "another form"),
    ],
)
def test_relatives_of_a_family_are_refused(name, changes, message):
    shapes = state_dict_shapes(NETS[name]) | changes
    with pytest.raises(UserError, match=message):
        architecture_of({n: shape for n, shape in shapes.items() if shape is not None})


@pytest.mark.parametrize("name", NETS)
def test_names_and_shapes_tell_the_net(name):
    shapes = state_dict_shapes(NETS[name])
    told = architecture_of(shapes)
    assert (told.name, told.classes, told.channels) == (name, 10, 3)
    config = configure("data=imagenet", "data.classes=10", *told.overrides)
    assert state_dict_shapes(build_model(config)) == shapes


def test_a_head_of_other_classes_is_kept_with_names(tmp_path):
    torch_format.save({"state_dict": prefixed("module.")}, tmp_path / "pets.pth")
    names = [f"breed {number}" for number in range(37)]
    (tmp_path / "names.txt").write_text("\n".join(names) + "\n")
    out = tmp_path / "out"
    import_weights(str(tmp_path / "pets.pth"), out, names=tmp_path / "names.txt")
    np.testing.assert_array_equal(head_of(out), ARRAYS["fc.weight"].T)
    config = load.config_of(out, "run")
    assert (config.data.name, config.data.classes) == ("pets", 37)
    assert class_names(out, config) == names
    image = np.zeros((1, 224, 224, 3), np.uint8)
    assert set(Run(out).predict(image).class_names) == set(names)


NAMES = {
    "folder": lambda p: [(p / f"c{i:02}").mkdir(parents=True) for i in range(37)],
    "list.json": lambda p: p.write_text(json.dumps([f"c{i:02}" for i in range(37)])),
    "index.json": lambda p: p.write_text(json.dumps({str(i): f"c{i:02}" for i in range(37)})),
    "pairs.json": lambda p: p.write_text(json.dumps({i: ["n1", f"c{i:02}"] for i in range(37)})),
    "class_to_idx.json": lambda p: p.write_text(json.dumps({f"c{i:02}": i for i in range(37)})),
}


@pytest.mark.parametrize("kind", NAMES)
def test_names_are_read_as_people_keep_them(kind, tmp_path):
    from deeper.weights import class_name_files

    NAMES[kind](tmp_path / kind)
    assert class_name_files.read(tmp_path / kind, 37) == tuple(f"c{i:02}" for i in range(37))
    with pytest.raises(UserError, match="37 names"):
        class_name_files.read(tmp_path / kind, 36)


def test_two_classes_of_one_name_are_told_apart(tmp_path):
    from deeper.weights import class_name_files

    (tmp_path / "names.txt").write_text("crane\ndog\ncrane\n")
    assert class_name_files.read(tmp_path / "names.txt", 3) == ("crane (0)", "dog", "crane (2)")


def test_a_head_within_a_sequence_is_kept(tmp_path):
    arrays = OrderedDict((name.replace("fc.", "fc.1."), values) for name, values in ARRAYS.items())
    save_file(arrays, tmp_path / "net.safetensors")
    import_weights(str(tmp_path / "net.safetensors"), tmp_path / "out")
    np.testing.assert_array_equal(head_of(tmp_path / "out"), ARRAYS["fc.weight"].T)


def test_a_net_without_a_head_is_an_extractor_whose_answers_are_refused(tmp_path):
    arrays = {name: values for name, values in ARRAYS.items() if not name.startswith("fc.")}
    save_file(arrays, tmp_path / "net.safetensors")
    out = tmp_path / "out"
    done = import_weights(str(tmp_path / "net.safetensors"), out)
    assert done.new == ("fc",)
    with pytest.raises(UserError, match="random values"):
        Run(out).predict(np.zeros((1, 224, 224, 3), np.uint8))
    with pytest.raises(UserError, match="random values"):
        Run(out).evaluate()
    assert Run(out).net().stages


def test_timms_vgg_as_an_extractor_has_no_hidden_layers(tmp_path):
    model = vgg(11, 10, hidden=16)
    arrays = {
        name.replace("features.", "features_"): values
        for name, values in state_dict(model).items()
        if name.startswith("features.")
    }
    save_file(arrays, tmp_path / "net.safetensors")
    source = str(tmp_path / "net.safetensors")
    done = import_weights(source, tmp_path / "out", "model.hidden=16")
    assert done.new == ("fc1", "fc2", "fc3")


def test_a_head_is_replaced_where_that_is_asked_for(tmp_path):
    save_file(ARRAYS, tmp_path / "net.safetensors")
    source = str(tmp_path / "net.safetensors")
    assert import_weights(source, tmp_path / "ten", "data.classes=10").new == ("fc",)
    with pytest.raises(UserError, match=r"37 classes, and cifar10 has 10.*data\.classes=10"):
        import_weights(source, tmp_path / "no", "data=cifar10")
    assert not (tmp_path / "no").exists()


NET = (
    "model=resnet", "model.form=imagenet", "model.depth=null", "model.blocks=[1,1,1,1]",
    "model.width=8",
)  # fmt: skip


def begun(source, *words):
    """What a run begins with that begins from some weights."""
    config = configure("data=imagenet", f"init_from={source}", "train.epochs=1", *NET, *words)
    return beginning(config, make_plan(config, 1000), Dataset("none", {}))


def test_a_run_begins_from_a_wrapped_file_and_says_which_layers_are_new(tmp_path):
    torch_format.save({"state_dict": prefixed("module.")}, tmp_path / "net.ckpt")
    same = begun(tmp_path / "net.ckpt", "data.classes=37")
    assert same.new == []
    np.testing.assert_array_equal(same.variables["params"]["fc"]["kernel"], ARRAYS["fc.weight"].T)
    assert begun(tmp_path / "net.ckpt", "data.classes=5").new == ["fc"]
    body = {name: values for name, values in ARRAYS.items() if not name.startswith("fc.")}
    save_file(body, tmp_path / "body.safetensors")
    assert begun(tmp_path / "body.safetensors", "data.classes=5").new == ["fc"]
    # Nor is a head trained that an import has drawn.
    import_weights(str(tmp_path / "body.safetensors"), tmp_path / "body", "data.classes=5")
    assert begun(tmp_path / "body", "data.classes=5").new == ["fc"]


# --- what does not fit ---------------------------------------------------------------------------

BOTTLENECKS = resnet(None, 10, blocks=(1, 1, 1, 1), bottleneck=True, width=8)
CAUSES = {
    "another depth": (SMALL, "model.blocks=[2,2,2,2]", "blocks=[1,1,1,1]"),
    "ResNet-D": (
        resnet(None, 37, blocks=(1, 1, 1, 1), width=8, stem="deep", shortcut="D"),
        "model.blocks=[1,1,1,1]", "stem=deep model.shortcut=D",
    ),
    "bottlenecks": (BOTTLENECKS, "model.blocks=[1,1,1,1]", "bottleneck=true"),
}  # fmt: skip


@pytest.mark.parametrize("name", CAUSES)
def test_the_first_line_of_a_refusal_is_its_likely_cause(name, tmp_path):
    model, words, cause = CAUSES[name]
    save_file(state_dict(model), tmp_path / "net.safetensors")
    given = ("model=resnet", "model.form=imagenet", "model.depth=null", "model.width=8", words)
    with pytest.raises(UserError) as error:
        import_weights(str(tmp_path / "net.safetensors"), tmp_path / "out", *given)
    first, *rest = str(error.value).splitlines()
    assert cause in first and len(rest) <= 12
    assert not (tmp_path / "out").exists()


def test_all_differences_are_in_a_file_where_they_are_many(tmp_path):
    save_file(state_dict(resnet(18, 10)), tmp_path / "net.safetensors")
    with pytest.raises(UserError, match="all differences"):
        import_weights(
            str(tmp_path / "net.safetensors"), tmp_path / "out", "model=resnet", "model.depth=34"
        )
    lines = (tmp_path / "out.differences.txt").read_text().splitlines()
    ours, theirs = (state_dict_shapes(resnet(depth, 10)) for depth in (34, 18))
    assert len(lines) == len(ours) - len(theirs)


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("layer1.0.se_module.fc1.weight", "squeeze-and-excitation"),
        ("fc.2.weight", "a head of several layers"),
    ],
)
def test_layers_that_our_nets_have_not_are_said(name, cause, tmp_path):
    save_file({**ARRAYS, name: np.ones(3, np.float32)}, tmp_path / "net.safetensors")
    with pytest.raises(UserError, match=cause) as error:
        import_weights(str(tmp_path / "net.safetensors"), tmp_path / "out")
    assert name in str(error.value)


def test_a_net_that_only_looks_like_one_of_ours_is_refused(tmp_path):
    torch_format.save({"arch": "resnetaa50d", "state_dict": ARRAYS}, tmp_path / "net.pth")
    with pytest.raises(UserError, match="resnetaa50d"):
        import_weights(str(tmp_path / "net.pth"), tmp_path / "out")


def test_a_file_without_a_net_of_ours_is_refused(tmp_path):
    save_file({"blocks.0.attn.qkv.weight": np.ones(3, np.float32)}, tmp_path / "vit.safetensors")
    with pytest.raises(UserError, match="No net that deeper has"):
        import_weights(str(tmp_path / "vit.safetensors"), tmp_path / "out")
    (tmp_path / "net.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(UserError, match="HDF5"):
        import_weights(str(tmp_path / "net.h5"), tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "value"), [("conv1.weight", np.nan), ("bn1.running_var", -0.5), ("fc.bias", np.inf)]
)
def test_values_that_no_net_can_have_are_refused(name, value, tmp_path):
    arrays = {key: values.copy() for key, values in ARRAYS.items()}
    arrays[name].flat[0] = value
    save_file(arrays, tmp_path / "net.safetensors")
    with pytest.raises(UserError, match="values that no net can have") as error:
        import_weights(str(tmp_path / "net.safetensors"), tmp_path / "out")
    assert name in str(error.value) and not (tmp_path / "out").exists()


# --- sizes and channels --------------------------------------------------------------------------


def test_a_first_convolution_is_adapted_to_grey_images_on_request(tmp_path):
    save_file(ARRAYS, tmp_path / "net.safetensors")
    source = str(tmp_path / "net.safetensors")
    with pytest.raises(UserError, match=r"3 channels.*channels=1"):
        import_weights(source, tmp_path / "no", "data.image_shape=[64,64,1]", "data.mean=[0.5]",
                       "data.std=[0.2]")  # fmt: skip
    done = import_weights(source, tmp_path / "grey", channels=1)
    assert done.config.data.image_shape == (224, 224, 1) and len(done.config.data.mean) == 1
    assert any("grey" in line for line in done.said)
    expected = ARRAYS["conv1.weight"].sum(1, keepdims=True).transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(kernel_of(tmp_path / "grey"), expected)


@pytest.mark.parametrize("name", ["alexnet", "vgg11"])
def test_alexnet_and_vgg_take_images_of_any_size(name, tmp_path):
    arrays = state_dict(NETS[name])
    save_file(arrays, tmp_path / "net.safetensors")
    source, out = str(tmp_path / "net.safetensors"), tmp_path / "out"
    done = import_weights(source, out, "data.image_shape=[96,96,3]")
    assert done.config.model["pool_size"] == {"alexnet": 6, "vgg11": 7}[name]
    assert Run(out).predict(np.zeros((1, 96, 96, 3), np.uint8)).scores.shape == (1, 10)


def test_timms_names_are_those_that_are_read(tmp_path):
    arrays = state_dict(NETS["vgg11"])
    timm = as_timm(arrays, NETS["vgg11"])
    assert timm["pre_logits.fc1.weight"].shape == (16, 512, 7, 7)
    save_file(timm, tmp_path / "timm.safetensors")
    save_file(arrays, tmp_path / "torchvision.safetensors")
    kernels = []
    for name in ("timm", "torchvision"):
        import_weights(str(tmp_path / f"{name}.safetensors"), tmp_path / name)
        variables = load.open_stored(tmp_path / name, "last", "run").variables
        kernels.append(variables["params"]["fc1"]["kernel"])
    np.testing.assert_array_equal(*kernels)


# --- how images are shown ------------------------------------------------------------------------


def test_timms_config_beside_a_file_is_read_with_it(tmp_path):
    save_file(ARRAYS, tmp_path / "model.safetensors")
    config = {
        "architecture": "resnet10",
        "label_names": [f"kind {number}" for number in range(37)],
        "pretrained_cfg": {
            "input_size": [3, 160, 160], "interpolation": "bicubic", "crop_pct": 0.95,
            "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "license": "cc-by-4.0",
        },
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    done = import_weights(str(tmp_path), tmp_path / "out")
    data = done.config.data
    assert (data.image_shape, data.shorter_side) == ((160, 160, 3), 168)
    assert (data.interpolation, data.mean) == ("bicubic", (0.5,) * 3)
    record = json.loads((tmp_path / "out/net.json").read_text())
    assert record["class_names"][3] == "kind 3" and record["licence"] == "cc-by-4.0"
    # What the user says holds, and the shorter side keeps its proportion.
    done = import_weights(str(tmp_path), tmp_path / "small", "data.image_shape=[80,80,3]")
    assert (done.config.data.image_shape, done.config.data.shorter_side) == ((80, 80, 3), 84)


def test_torchvisions_published_files_are_known_by_their_content(tmp_path, monkeypatch):
    import hashlib

    from deeper.weights.torchvision_files import PUBLISHED

    save_file(ARRAYS, tmp_path / "net.safetensors")
    digest = hashlib.sha256((tmp_path / "net.safetensors").read_bytes()).hexdigest()
    monkeypatch.setitem(PUBLISHED, digest[:8], ("resnet50", "IMAGENET1K_V2", 232))
    done = import_weights(str(tmp_path / "net.safetensors"), tmp_path / "out")
    assert done.config.data.shorter_side == 232
    record = json.loads((tmp_path / "out/net.json").read_text())
    assert record["revision"] == "torchvision resnet50 IMAGENET1K_V2"


def test_a_thousand_classes_have_imagenets_names_and_wordnet_ids(tmp_path):
    arrays = {**ARRAYS, "fc.weight": np.ones((1000, 64), np.float32)}
    save_file({**arrays, "fc.bias": np.ones(1000, np.float32)}, tmp_path / "net.safetensors")
    out = tmp_path / "out"
    import_weights(str(tmp_path / "net.safetensors"), out)
    record = json.loads((out / "net.json").read_text())
    assert record["class_names"] == imagenet_names()
    assert record["wordnet_ids"][207] == "n02099601"
    assert class_names(out, load.config_of(out, "run")) == imagenet_names()
