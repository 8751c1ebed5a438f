"""Times tf.data: TFRecord files, decode_and_crop_jpeg, bilinear without antialiasing, as usual.

Argument: the directory of the TFRecord files. The pipeline is that of Flax's and TensorFlow's own
ImageNet examples, with the cheaper bilinear filter in place of the bicubic one.
"""

import os
import sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf
from data_serve import BATCH, SIZE, serve

CORES = len(os.sched_getaffinity(0))
FEATURES = {
    "image": tf.io.FixedLenFeature((), tf.string),
    "label": tf.io.FixedLenFeature((), tf.int64),
}


def crop(record):
    """Return a random crop of 8 to 100 % of the area, mirrored with probability 0.5, and the
    label.
    """
    example = tf.io.parse_single_example(record, FEATURES)
    shape = tf.image.extract_jpeg_shape(example["image"])
    begin, size, _ = tf.image.sample_distorted_bounding_box(
        shape,
        bounding_boxes=tf.zeros((1, 0, 4)),
        min_object_covered=0.0,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(0.08, 1.0),
        max_attempts=10,
        use_image_if_no_bounding_boxes=True,
    )
    top, left, _ = tf.unstack(begin)
    height, width, _ = tf.unstack(size)
    box = tf.stack([top, left, height, width])
    image = tf.image.decode_and_crop_jpeg(example["image"], box, channels=3)
    image = tf.image.resize(image, (SIZE, SIZE), tf.image.ResizeMethod.BILINEAR)
    return tf.image.random_flip_left_right(tf.cast(image, tf.uint8)), example["label"]


def batches(directory: Path):
    """Open the TFRecord files, and yield batches."""
    names = tf.data.Dataset.from_tensor_slices(sorted(map(str, directory.glob("*.tfrecord"))))
    options = tf.data.Options()
    options.deterministic = False
    options.threading.private_threadpool_size = CORES
    options.threading.max_intra_op_parallelism = 1
    records = names.shuffle(64).interleave(
        tf.data.TFRecordDataset, cycle_length=8, num_parallel_calls=tf.data.AUTOTUNE
    )
    data = records.shuffle(16 * BATCH).repeat().map(crop, num_parallel_calls=tf.data.AUTOTUNE)
    data = data.batch(BATCH, drop_remainder=True, num_parallel_calls=tf.data.AUTOTUNE)
    data = data.prefetch(tf.data.AUTOTUNE).with_options(options)
    for image, _ in data.as_numpy_iterator():
        yield image


serve(tf.__version__, lambda: batches(Path(sys.argv[1])))
