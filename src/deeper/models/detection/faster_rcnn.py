"""Faster R-CNN on any of our nets: with a feature pyramid, or in the form of the papers (C4).

Ren et al. 2015 (arXiv:1506.01497); Lin et al. 2017, "Feature pyramid networks" (arXiv:1612.03144);
He et al. 2015 (arXiv:1512.03385), appendix A. With a ResNet-50 the first form is torchvision's
``fasterrcnn_resnet50_fpn``, with ``version=2`` its ``_v2`` (Li et al. 2021, arXiv:2111.11429).

Shapes are static: proposals and detections are padded, and what is padding is told beside. Images
of any size lie in the upper left of one array. An image counts as filled up with zeros to multiples
of the largest stride, as torchvision fills it; what lies beyond changes nothing (`valid_region`).
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32, Key

from deeper.errors import UserError
from deeper.models import valid_region
from deeper.models.detection import boxes as on
from deeper.models.detection import proposals, regions
from deeper.models.detection.heads import PyramidHead, ResNetHead, VGGHead
from deeper.models.detection.pyramid import Pyramid
from deeper.models.detection.suppression import best_by_class
from deeper.models.feature_maps import of_stages, stage_names
from deeper.models.initializers import ZEROS, Normal
from deeper.models.layers import Dense, Maps
from deeper.models.resnet import ResNet
from deeper.models.vgg import VGG

WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # of the coded boxes of the head
C4_SIZES = ((128, 256, 512),)
LEAST_SIDE = 1e-2  # pixels of a detection
CHANNELS = 3  # of the images by which stages are looked up


class Scenes(NamedTuple):
    """Images with objects, as the net takes them.

    Attributes:
        images: normalised, each in the upper left, zeros beyond.
        size: (height, width) of each in pixels; None where all fill the array.
        boxes: of the objects, in training.
        labels: of the objects, from 0; -1 for padding and for objects that are not trained on.
        keys: of each image, by which anchors and proposals of the loss are drawn.
    """

    images: Float[Array, "batch height width channels"]
    size: Float[Array, "batch 2"] | None = None
    boxes: Float[Array, "batch objects 4"] | None = None
    labels: Int32[Array, "batch objects"] | None = None
    keys: Key[Array, " batch"] | None = None


class Answers(NamedTuple):
    """What the net answers in training, and what it should answer; see `tasks.detection`.

    Attributes:
        anchor_score: logit of an object, of each anchor.
        anchor_box: coded box of each anchor.
        anchor_label: 1, 0, or -1 where an anchor is not in the loss.
        anchor_target: coded boxes.
        class_score: logits of the sampled proposals; class 0 is background.
        class_box: coded boxes of the sampled proposals, one by class.
        class_label: 0 is background; -1 where a proposal is padding.
        class_target: coded boxes.
    """

    anchor_score: Float[Array, "batch anchors"]
    anchor_box: Float[Array, "batch anchors 4"]
    anchor_label: Int32[Array, "batch anchors"]
    anchor_target: Float[Array, "batch anchors 4"]
    class_score: Float[Array, "batch sampled classes"]
    class_box: Float[Array, "batch sampled classes 4"]
    class_label: Int32[Array, "batch sampled"]
    class_target: Float[Array, "batch sampled 4"]


class Detections(NamedTuple):
    """What the net finds, by falling score.

    Attributes:
        boxes: in pixels of the array.
        scores: probabilities; 0 for padding.
        labels: from 0; -1 for padding.
    """

    boxes: Float[Array, "batch found 4"]
    scores: Float[Array, "batch found"]
    labels: Int32[Array, "batch found"]


class Judged(NamedTuple):
    """What the head says of regions that are given.

    Attributes:
        logits: of the classes, background first.
        boxes: that it makes of each region, by class without background, within the image.
    """

    logits: Float[Array, "batch regions classes"]
    boxes: Float[Array, "batch regions classes 4"]


class FasterRCNN(nn.Module):
    """A detector of two stages: proposals, then a class and a box for each of them.

    Attributes:
        backbone: images -> maps of its stages, see `feature_maps.of_stages`.
        pyramid: on these maps; None: the only map is used as it is (C4).
        head: pooled regions -> vectors.
        strides: pixels a place, of the maps that regions are taken from.
        proposal_settings: see `proposals.Settings`.
        proposal_convolutions: 3x3 convolutions of the proposal head.
        classes: without background.
        side: cells along each side of a pooled region.
        pooling: align or pool.
        body: layers of the backbone, by their first name.
        frozen: those of them that do not train.
        freeze_batch_norm: use and keep the statistics, scales and shifts of the backbone.
        sampled: proposals of an image in the loss.
        positive: share of them with an object, at most.
        overlap: from which a proposal has an object.
        suppression: threshold, within a class.
        least_score: of a detection.
        detections: of an image, at most.
        dtype: of the computation.
    """

    backbone: nn.Module
    pyramid: nn.Module | None
    head: nn.Module
    strides: tuple[int, ...]
    proposal_settings: proposals.Settings
    proposal_convolutions: int
    classes: int
    side: int
    pooling: str
    body: tuple[str, ...]
    frozen: tuple[str, ...]
    freeze_batch_norm: bool
    sampled: int
    positive: float
    overlap: float
    suppression: float
    least_score: float
    detections: int
    dtype: Any

    @property
    def outputs(self) -> tuple[str, ...]:
        """Layers whose outputs are the classes, which begin anew for others."""
        return ("class", "box")

    def placed(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Return a classifier's variables at the places that they have in the detector.

        Those of layers that the detector has not, such as its last one, are left out.
        """
        in_head: tuple[str, ...] = ()
        if isinstance(self.head, ResNetHead):
            in_head = (f"stage{len(self.head.net.stages)}",)
        elif isinstance(self.head, VGGHead):
            in_head = ("fc1", "fc2")
        places: dict[str, Any] = {}
        for collection, tree in variables.items():
            own = {name: leaf for name, leaf in tree.items() if name in self.body}
            mine = {name: leaf for name, leaf in tree.items() if name in in_head}
            places[collection] = {"backbone": own, "head": mine}
        return places

    def fixed(self, path: tuple[str, ...]) -> bool:
        """Return whether a parameter never trains, see `train.phases.Phase.fixed`."""
        if path[0] != "backbone":
            in_head = path[0] == "head" and path[1].startswith("stage")  # the C4 form's conv5
            return in_head and self.freeze_batch_norm and "bn" in path[-2]
        return path[1] in self.frozen or (self.freeze_batch_norm and "bn" in path[-2])

    @nn.compact
    def __call__(
        self,
        inputs: Any,
        *,
        train: bool,
        regions: Float[Array, "batch regions 4"] | None = None,
    ) -> Answers | Detections | Judged:
        """Return answers for the loss in training, and detections otherwise.

        Proposals are sown as ``proposals``, zeros where there is none.

        Args:
            inputs: `Scenes`, or images that fill their array.
            train: see above.
            regions: to be judged in the place of proposals, in pixels of the array; not in
                training.
        """
        scenes = inputs if isinstance(inputs, Scenes) else Scenes(inputs)
        images, size, filled, context = self._filled(scenes)
        norm_train = train and not self.freeze_batch_norm
        settings = self.proposal_settings
        per_place = len(settings.ratios) * len(settings.sizes[0])
        with context:
            maps = list(self.backbone(images.astype(self.dtype), train=norm_train))
            if self.pyramid is not None:
                maps = self.pyramid(maps, train)
            if regions is None:
                head = proposals.ProposalHead(
                    per_place, self.proposal_convolutions, self.dtype, name="rpn"
                )
                scores, coded = head(maps)
        if regions is not None:
            score, box = self._judge(maps[: len(self.strides)], regions, filled, train)
            return Judged(score, jax.vmap(_decoded)(box, regions, size))
        shapes = [values.shape[1:3] for values in maps]
        strides = list(self.strides)
        if self.pyramid is not None:
            strides.append(2 * strides[-1])
        anchors = proposals.anchors_of(shapes, strides, filled, settings)
        is_anchor = proposals.inside(shapes, strides, filled, per_place)
        boxes, is_box = proposals.propose(scores, coded, anchors, is_anchor, size, settings, train)
        self.sow("intermediates", "proposals", boxes)
        maps = maps[: len(self.strides)]
        if not train:
            score, box = self._judge(maps, boxes, filled, train)
            return self._detect(score, box, boxes, is_box, size)

        every, is_every = (jnp.concatenate(one, axis=1) for one in (anchors, is_anchor))
        objects, labels, draws = _objects(scenes, every.shape[1], boxes.shape[1])
        is_object = labels >= 0
        target = proposals.anchor_targets(every, is_every, objects, is_object, draws[0], settings)
        # Objects are proposals too, so that there are positives from the first step on.
        boxes = jnp.concatenate([boxes, objects], axis=1)
        is_box = jnp.concatenate([is_box, is_object], axis=1)
        boxes, label, code = self._sampled(boxes, is_box, objects, labels, draws[1])
        score, box = self._judge(maps, boxes, filled, train, label >= 0)
        return Answers(
            jnp.concatenate(scores, axis=1), jnp.concatenate(coded, axis=1), *target,
            score, box, label, code,
        )  # fmt: skip

    def _filled(self, scenes: Scenes) -> tuple[Array, Array, Array, Any]:
        """Return images, their sizes, those filled up to the stride, and the layers' context."""
        step = self.strides[-1]
        images = scenes.images
        rows, columns = (-side % step for side in images.shape[1:3])
        images = jnp.pad(images, ((0, 0), (0, rows), (0, columns), (0, 0)))
        height, width = images.shape[1:3]
        if scenes.size is None:
            own = jnp.asarray(scenes.images.shape[1:3], jnp.float32)
            filled = jnp.broadcast_to(jnp.asarray([height, width]), (len(images), 2))
            return images, jnp.broadcast_to(own, (len(images), 2)), filled, nullcontext()
        size = scenes.size.astype(jnp.float32)
        filled = jnp.ceil(size / step).astype(jnp.int32) * step
        context = valid_region.padded_to_multiples((height, width), filled, step)
        # Whatever lies beyond an image, between it and the stride's multiple are zeros.
        within = (jnp.arange(height)[None] < size[:, :1])[:, :, None] & (
            jnp.arange(width)[None] < size[:, 1:]
        )[:, None]
        return jnp.where(within[..., None], images, 0), size, filled, context

    def _judge(
        self,
        maps: Sequence[Maps],
        boxes: Array,
        filled: Array,
        train: bool,
        drawn: Array | None = None,
    ) -> tuple[Array, Array]:
        """Return class logits, background first, and coded boxes by class, of each region.

        In training BatchNorm's statistics are those of the regions that were ``drawn``.
        """
        if self.pooling == "align":
            pooled = regions.align(maps, boxes, filled, self.strides, self.side)
        else:
            pooled = regions.pool(maps[0], boxes, filled, self.strides[0], self.side)
        own = isinstance(self.head, ResNetHead)  # its BatchNorm is the backbone's
        pooled = pooled.reshape(-1, *pooled.shape[2:])
        counted: Any = nullcontext()
        normalises = not self.freeze_batch_norm if own else isinstance(self.head, PyramidHead)
        if drawn is not None and normalises:
            counted = valid_region.missing_maps(pooled.shape[1:3], drawn.reshape(-1))
        with counted:
            x = self.head(pooled, train and not (own and self.freeze_batch_norm))
        outputs = self.classes + 1
        rules = (None, None) if self.pyramid is not None else (Normal(0.01), Normal(0.001))
        score, box = (
            Dense(width, rule=rule, bias_rule=ZEROS if rule else None, dtype=self.dtype, name=name)(
                x
            ).astype(jnp.float32)
            for name, width, rule in zip(("class", "box"), (outputs, 4 * outputs), rules)
        )
        return score.reshape(*boxes.shape[:2], outputs), box.reshape(*boxes.shape[:2], outputs, 4)

    def _sampled(
        self, boxes: Array, is_box: Array, objects: Array, labels: Array, draws: Array
    ) -> tuple[Array, Array, Array]:
        """Return the proposals of the loss, their labels with background 0, and coded boxes."""
        positives = int(self.sampled * self.positive)

        def of_image(boxes: Any, is_box: Any, objects: Any, labels: Any, draws: Any) -> Any:
            overlaps = on.iou(objects, boxes)
            matches = on.match(
                overlaps, labels >= 0, is_box, low=self.overlap, high=self.overlap, also_best=False
            )
            negative = (matches == on.NOTHING) & is_box
            chosen = on.sample(
                matches >= 0, negative, draws, count=self.sampled, positives=positives
            )
            mine = jnp.maximum(matches[chosen.places], 0)
            box = jnp.where(chosen.drawn[:, None], boxes[chosen.places], 0)
            label = jnp.where(chosen.positive, labels[mine] + 1, 0)
            label = jnp.where(chosen.drawn, label, -1)
            unit = jnp.asarray([0.0, 0.0, 1.0, 1.0], boxes.dtype)[None]
            is_positive = chosen.positive[:, None]
            coded, anchor = (jnp.where(is_positive, one, unit) for one in (objects[mine], box))
            code = on.encode(coded, anchor, WEIGHTS)
            return box, label.astype(jnp.int32), code

        found = jax.vmap(of_image)(boxes, is_box, objects, labels, draws)
        return jax.lax.stop_gradient(found)

    def _detect(
        self, score: Array, box: Array, boxes: Array, is_box: Array, size: Array
    ) -> Detections:
        """Return the best boxes of each class after suppression."""

        def of_image(score: Any, box: Any, boxes: Any, is_box: Any, size: Any) -> Any:
            share = jax.nn.softmax(score)[:, 1:]
            decoded = _decoded(box, boxes, size)
            sides = decoded[..., 2:] - decoded[..., :2]
            is_there = (sides >= LEAST_SIDE).all(-1) & is_box[:, None]
            return best_by_class(
                decoded, jnp.where(is_there, share, -1), threshold=self.suppression,
                least=self.least_score, count=self.detections,
            )  # fmt: skip

        return Detections(*jax.vmap(of_image)(score, box, boxes, is_box, size))


def _decoded(box: Array, regions: Array, size: Array) -> Float[Array, "regions classes 4"]:
    """Return the boxes of an image's regions by class, without background, within the image."""
    return on.clip(on.decode(box[:, 1:], regions[:, None], WEIGHTS), size)


def _objects(scenes: Scenes, anchors: int, found: int) -> tuple[Array, Array, tuple[Array, Array]]:
    """Return the objects' boxes and labels, and the draws of anchors and of proposals."""
    batch = len(scenes.images)
    if scenes.boxes is None or scenes.labels is None:  # traced for its costs
        boxes, labels = jnp.zeros((batch, 1, 4)), jnp.full((batch, 1), -1, jnp.int32)
    else:
        boxes, labels = scenes.boxes, scenes.labels
    found += boxes.shape[1]
    if scenes.keys is None:
        return boxes, labels, (jnp.zeros((batch, anchors)), jnp.zeros((batch, found)))
    of_anchors, of_proposals = (
        jax.vmap(lambda key, n=n, count=count: draws_of(key, n, count))(scenes.keys)
        for n, count in enumerate((anchors, found))
    )
    return boxes, labels, (of_anchors, of_proposals)


def draws_of(key: Key[Array, ""], purpose: int, count: int) -> Float[Array, " count"]:
    """Return the numbers by which an image's anchors (purpose 0) or proposals (1) are drawn."""
    return jax.random.uniform(jax.random.fold_in(key, purpose), (count,))


def faster_rcnn(
    backbone: nn.Module,
    classes: int,
    *,
    form: str = "pyramid",
    version: int = 1,
    stages: Sequence[str] | None = None,
    channels: int = 256,
    hidden: int = 1024,
    pooling: str | None = None,
    frozen_stages: int = 0,
    freeze_batch_norm: bool = True,
    anchor_sizes: Sequence[Sequence[float]] | None = None,
    anchor_ratios: Sequence[float] = (0.5, 1.0, 2.0),
    proposals_before: Sequence[int] = (2000, 1000),
    proposals_after: Sequence[int] = (2000, 1000),
    sampled_anchors: int = 256,
    sampled: int = 512,
    least_score: float = 0.05,
    suppression: float = 0.5,
    detections: int = 100,
    dtype: str = "float32",
) -> FasterRCNN:
    """Return a detector on a net of images.

    Args:
        backbone: the net, whose layers behind the last of ``stages`` are left out.
        classes: of the objects, without background.
        form: pyramid (FPN); c4: one map, of a residual net's last stage but one, whose last stage
            is the head, or of a VGG net in front of its last pooling, whose dense layers are.
        version: of the pyramid: 2 has BatchNorm in the pyramid, two convolutions in the proposal
            head, and four convolutions with BatchNorm in the head (torchvision's ``_v2``).
        stages: of the backbone that the pyramid is built on; the last four by default.
        channels: of the pyramid.
        hidden: width of the head's dense layers; of a VGG net in the form c4 its own.
        pooling: align (RoIAlign) or pool (RoI pooling); by default align, of a VGG net in the form
            c4 pool, as its paper.
        frozen_stages: of the backbone, that do not train: 1 is what stands in front of the first
            stage's end, and so on. Torchvision freezes a pre-trained net's first one.
        freeze_batch_norm: keep the statistics and parameters of the backbone's BatchNorm, as the
            papers do with pre-trained weights.
        anchor_sizes: square roots of areas in pixels, of each map; by default 32 to 512 on the
            pyramid's five maps, and 128, 256 and 512 in the form c4.
        anchor_ratios: of height to width.
        proposals_before: of a map in front of suppression, in training and in evaluation.
        proposals_after: of an image behind it, in training and in evaluation.
        sampled_anchors: of an image in the loss.
        sampled: proposals of an image in the loss; 128 in the form of the papers.
        least_score: of a detection.
        suppression: overlap above which the lower of two detections of a class is dropped.
        detections: of an image, at most.
        dtype: of the computation, float32 or bfloat16.

    Raises:
        UserError: there is no such detector.
    """
    for name, value, known in (
        ("form", form, ("pyramid", "c4")),
        ("version", version, (1, 2)),
        ("pooling", pooling, (None, "align", "pool")),
    ):
        if value not in known:
            choices = ", ".join(str(k) for k in known if k is not None)
            raise UserError(f"model.{name}={value} is unknown; choose one of {choices}.")
    of_vgg = form == "c4" and isinstance(backbone, VGG)
    if of_vgg:
        backbone = backbone.clone(last_pool=False)
    elif form == "c4" and not isinstance(backbone, ResNet):
        raise UserError(
            "model.form=c4 is for residual nets and VGG nets: take model.form=pyramid for others."
        )
    known_stages = stage_names(backbone, (128, 128, CHANNELS))
    if form == "c4":
        stages = known_stages[-1:] if of_vgg else known_stages[-2:-1]
    stages = tuple(known_stages[-4:] if stages is None else stages)
    if not stages or not set(stages) <= set(known_stages):
        raise UserError(
            f"model.stages={list(stages)}: the backbone has {', '.join(known_stages) or 'none'}."
        )
    body = of_stages(backbone, stages)
    strides = _strides(body)
    sizes = anchor_sizes or (C4_SIZES if form == "c4" else _sizes(strides))
    maps = 1 if form == "c4" else len(stages) + 1
    if len(sizes) != maps or len({len(one) for one in sizes}) != 1:
        raise UserError(
            f"model.anchor_sizes has {len(sizes)} lists of sizes, and the detector has {maps} "
            "maps: give one a map, all of the same length."
        )
    kind = jnp.dtype(dtype)
    head: nn.Module
    if form == "pyramid":
        head = PyramidHead(hidden, 4 if version == 2 else 0, kind)
    elif isinstance(backbone, VGG):
        head = VGGHead(backbone.hidden, backbone.dropout, kind)
    else:
        assert isinstance(backbone, ResNet)
        head = ResNetHead(backbone)
    return FasterRCNN(
        backbone=body,
        pyramid=Pyramid(channels, version == 2, kind) if form == "pyramid" else None,
        head=head,
        strides=strides,
        proposal_settings=proposals.Settings(
            sizes=tuple(tuple(one) for one in sizes), ratios=tuple(anchor_ratios),
            before=tuple(proposals_before), after=tuple(proposals_after),  # type: ignore[arg-type]
            sampled=sampled_anchors,
        ),
        proposal_convolutions=2 if version == 2 else 1,
        classes=classes,
        side=14 if isinstance(head, ResNetHead) else 7,
        pooling=pooling or ("pool" if of_vgg else "align"),
        body=_layers_to(backbone, stages),
        frozen=_layers_to(backbone, known_stages[:frozen_stages]),
        freeze_batch_norm=freeze_batch_norm,
        sampled=sampled,
        positive=0.25,
        overlap=0.5,
        suppression=suppression,
        least_score=least_score,
        detections=detections,
        dtype=kind,
    )  # fmt: skip


def _strides(body: nn.Module) -> tuple[int, ...]:
    """Return the stride of each map of a backbone."""
    side = 256
    images = jax.ShapeDtypeStruct((1, side, side, CHANNELS), jnp.float32)

    def forward(images: Any) -> Any:
        return body.init_with_output({"params": jax.random.key(0)}, images, train=False)[0]

    maps = jax.eval_shape(forward, images)
    return tuple(side // values.shape[1] for values in maps)


def _sizes(strides: Sequence[int]) -> tuple[tuple[float, ...], ...]:
    """Return anchors of eight places a side: 32 pixels at stride 4, as torchvision has them."""
    return tuple((8 * stride,) for stride in (*strides, 2 * strides[-1]))


def _layers_to(backbone: nn.Module, stages: Sequence[str]) -> tuple[str, ...]:
    """Return the layers of a net up to the end of some stages."""
    if not stages:
        return ()
    body = of_stages(backbone, stages)
    images = jax.ShapeDtypeStruct((1, 128, 128, CHANNELS), jnp.float32)
    made = jax.eval_shape(
        lambda x: body.init({"params": jax.random.key(0)}, x, train=False), images
    )
    return tuple(made["params"])
