"""The published architectures, rebuilt from their contracts and saved as their authors saved them.

Runs in an environment with TensorFlow, never in the project's own:

``python -I architectures.py FOLDER ID...`` writes ``FOLDER/ID.h5`` (and ``ID-backbone.h5`` for two-stage models) with
random weights and ``FOLDER/ID.json`` with the number of parameters and, for a probe input, the output. Keras 2 is used,
as all authors did. ``--small`` divides the filters, where a test is about the way and not the size.
"""

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
import tf_keras as keras

K = keras.layers


# -- white matter hyperintensities --------------------------------------------------------------------------


def twice(x, filters):
    for _ in range(2):
        x = K.Conv2D(filters, 3, padding="same", activation="relu")(x)
    return x


def head(x, classes):
    return K.Conv2D(classes, 1, activation="sigmoid" if classes == 1 else "softmax")(x)


def wmh_unet(classes, width, gate=None):
    """Five levels from 64 filters, two convolutions each, dropout, transposed convolutions; ``gate``: attention."""
    filters = [width * 2**n for n in range(5)]
    image = K.Input((256, 256, 1))
    x, skips = image, []
    for n, rate in zip(filters[:4], (0.1, 0.1, 0.2, 0.2), strict=True):
        x = twice(x, n)
        skips.append(x)
        x = K.Dropout(rate)(K.MaxPooling2D(2)(x))
    x = K.Dropout(0.3)(twice(x, filters[4]))
    for n, skip in zip(filters[3::-1], skips[::-1], strict=True):
        x = K.Conv2DTranspose(n, 2, strides=2, padding="same")(x)
        x = K.Concatenate()([x, gate(x, skip, n // 2) if gate else skip])
        x = twice(K.Dropout(0.1)(x), n)
    return keras.Model(image, head(x, classes))


def attention_gate(signal, skip, filters):
    both = K.Add()([K.Conv2D(filters, 1)(signal), K.Conv2D(filters, 1)(skip)])
    weight = K.Conv2D(1, 1)(K.Activation("relu")(both))
    return K.Multiply()([skip, K.Activation("sigmoid")(weight)])


def normal(x, filters, kernel=1, name=None, **more):
    x = K.Conv2D(filters, kernel, padding="same", use_bias=False, name=name, **more)(x)
    return K.BatchNormalization()(x)


def relu(x):
    return K.Activation("relu")(x)


def wmh_deeplab(classes, width):
    """ResNet-50 with output stride 8 by dilation, pyramid at rates 6, 12, 18 and image average, two Lambdas."""

    def block(x, filters, stride=1, dilation=1, project=False):
        short = normal(x, filters * 4, strides=stride) if project else x
        x = relu(normal(x, filters))
        x = relu(normal(x, filters, 3, strides=stride, dilation_rate=dilation))
        return relu(K.Add()([short, normal(x, filters * 4)]))

    image = K.Input((256, 256, 1))
    x = relu(normal(image, width, 7, strides=2))
    x = K.MaxPooling2D(3, strides=2, padding="same")(x)
    low = None
    for level, (count, stride, dilation) in enumerate(((3, 1, 1), (4, 2, 1), (6, 1, 2), (3, 1, 4))):
        for n in range(count):
            first = n == 0
            x = block(x, width * 2**level, stride if first else 1, dilation, project=first)
        low = x if level == 0 else low
    wide = width * 4
    shape = tf.shape(x)
    rows, columns = shape[1], shape[2]
    branches = [relu(normal(x, wide))] + [relu(normal(x, wide, 3, dilation_rate=r)) for r in (6, 12, 18)]
    pooled = K.Reshape((1, 1, -1))(K.GlobalAveragePooling2D()(x))
    pooled = relu(normal(pooled, wide))
    branches.append(
        K.Lambda(lambda pair: tf.image.resize(pair[0], pair[1], method="bilinear"), name="aspp_gap_resize")(
            [pooled, [rows, columns]]
        )
    )
    x = K.Dropout(0.1)(relu(normal(K.Concatenate()(branches), wide)))
    x = K.UpSampling2D(4, interpolation="bilinear")(x)
    low = relu(normal(low, width * 3 // 4))
    large, small = K.Lambda(
        lambda pair: (pair[0][:, : tf.shape(pair[1])[1], : tf.shape(pair[1])[2], :], pair[1]), name="match_dims"
    )([x, low])
    x = K.Concatenate()([large, small])
    for _ in range(2):
        x = K.Dropout(0.1)(relu(normal(x, wide, 3)))
    return keras.Model(image, head(K.UpSampling2D(4, interpolation="bilinear")(x), classes))


def wmh_transunet(classes, width):
    """Convolutional encoder, four transformer layers of 8 heads on 16x16 tokens, positions as a fixed tensor."""
    filters, size = [width * 2**n for n in range(4)], width * 12
    image = K.Input((256, 256, 1))
    x, skips = image, []
    for n, rate in zip(filters, (0.1, 0.1, 0.2, 0.2), strict=True):
        x = K.Dropout(rate)(twice(x, n))
        skips.append(x)
        x = K.MaxPooling2D(2)(x)
    x = K.Dropout(0.3)(K.Conv2D(size, 3, padding="same", activation="relu")(x))
    tokens = K.Reshape((256, size))(x)
    # Applied to a plain tensor, the embedding leaves no layer behind: its values become part of the description.
    tokens = tokens + K.Embedding(256, size)(tf.range(256))
    for _ in range(4):
        seen = K.MultiHeadAttention(num_heads=8, key_dim=size // 8, dropout=0.1)(tokens, tokens)
        tokens = K.LayerNormalization()(tokens + K.Dropout(0.1)(seen))
        wide = K.Dropout(0.1)(K.Dense(size * 2, activation="relu")(tokens))
        tokens = K.LayerNormalization()(tokens + K.Dropout(0.1)(K.Dense(size)(wide)))
    x = K.Reshape((16, 16, size))(tokens)
    x = K.Dropout(0.3)(K.Conv2D(filters[3], 1, activation="relu")(x))
    for n, skip in zip(filters[::-1], skips[::-1], strict=True):
        x = K.Concatenate()([K.Conv2DTranspose(n, 2, strides=2, padding="same")(x), skip])
        x = twice(K.Dropout(0.1)(x), n)
    return keras.Model(image, head(x, classes))


# -- chest X-ray --------------------------------------------------------------------------------------------


def lungs_unet(width):
    filters = [width * 2**n for n in range(5)]
    image = K.Input((256, 256, 1))
    x, skips = image, []
    for n in filters[:4]:
        x = twice(x, n)
        skips.append(x)
        x = K.MaxPooling2D(2)(x)
    x = twice(x, filters[4])
    for n, skip in zip(filters[3::-1], skips[::-1], strict=True):
        x = K.Concatenate()([K.Conv2DTranspose(n, 2, strides=2, padding="same")(x), skip])
        x = twice(x, n)
    return keras.Model(image, head(x, 1))


def lungs_resunet(width):
    filters = [width * 2**n for n in range(5)]

    def before(x, n, stride=1):
        x = relu(K.BatchNormalization()(x))
        return K.Conv2D(n, 3, padding="same", strides=stride)(x)

    def short(x, n, stride=1):
        return K.BatchNormalization()(K.Conv2D(n, 1, padding="same", strides=stride)(x))

    def residual(x, n, stride=1):
        return K.Add()([short(x, n, stride), before(before(x, n, stride), n)])

    image = K.Input((256, 256, 1))
    first = K.Conv2D(filters[0], 3, padding="same")(image)
    x = K.Add()([before(first, filters[0]), short(image, filters[0])])
    skips = [x]
    for n in filters[1:]:
        x = residual(x, n, 2)
        skips.append(x)
    x = before(before(x, filters[4]), filters[4])
    for n, skip in zip(filters[4:0:-1], skips[3::-1], strict=True):
        x = residual(K.Concatenate()([K.UpSampling2D(2)(x), skip]), n)
    return keras.Model(image, head(x, 1))


def tb(application, features, pooling):
    backbone = application_model(application, 224, pooling)
    values = K.Input((features,))
    x = values
    for n in (200, 120, 80, 50, 20, 5):
        x = K.Dense(n, activation="relu")(x)
    return keras.Model(values, K.Dense(2, activation="softmax")(x)), backbone


# -- haemorrhage --------------------------------------------------------------------------------------------


def application_model(name, size, pooling):
    """A network of keras.applications; EfficientNets as the package efficientnet.keras has them: without rescaling."""
    model = getattr(keras.applications, name)(
        include_top=False, weights=None, input_shape=(size, size, 3), pooling=pooling
    )
    if not name.startswith("EfficientNet"):
        return model
    config = model.get_config()
    dropped = {layer["name"] for layer in config["layers"] if layer["class_name"] in ("Rescaling", "Normalization")}
    config["layers"] = [layer for layer in config["layers"] if layer["name"] not in dropped]
    first = config["input_layers"][0][0]
    for layer in config["layers"]:
        for call in layer["inbound_nodes"]:
            for source in call:
                source[0] = first if source[0] in dropped else source[0]
    return keras.Model.from_config(config)


class FixedDropout(K.Dropout):
    """As the package efficientnet.keras calls its dropout: a class that Keras does not know."""


def haemorrhage(name, size):
    base = application_model(name, size, "avg")
    if name.startswith("EfficientNet"):
        base = keras.models.clone_model(
            base, clone_function=lambda layer: (FixedDropout if type(layer) is K.Dropout else type(layer)).from_config(
                layer.get_config()
            ),
        )  # fmt: skip
    return keras.Model(base.input, K.Dense(6, activation="sigmoid")(base.output))


# -- microbleeds --------------------------------------------------------------------------------------------


class InstanceNormalization(K.GroupNormalization):
    """As TensorFlow Addons calls it: a class that Keras does not know."""

    def __init__(self, **more):
        more.pop("groups", None)
        super().__init__(groups=-1, **more)


def microbleeds(filters):
    """Three convolutions a level (the first strided down), LeakyReLU .01, instance norm, transposed convolutions up."""

    def level(x, n, stride=1):
        for first in (True, False, False):
            x = K.Conv3D(n, 3, strides=stride if first else 1, padding="same")(x)
            x = K.LeakyReLU(0.01)(InstanceNormalization(epsilon=1e-5)(x))
        return x

    image = K.Input((96, 96, 96, 1))
    x, skips = image, []
    for depth, n in enumerate(filters):
        x = level(x, n, 2 if depth else 1)
        skips.append(x)
    for n, skip in zip(filters[-2::-1], skips[-2::-1], strict=True):
        x = K.Concatenate()([K.Conv3DTranspose(n, 2, strides=2, padding="same")(x), skip])
        x = level(x, n)
    return keras.Model(image, K.Conv3D(2, 1, activation="softmax")(x))


BACKBONES = {
    "vgg16": "VGG16", "resnet50": "ResNet50", "inceptionv3": "InceptionV3", "mobilenetv2": "MobileNetV2",
    "xception": "Xception", "efficientnetb0": "EfficientNetB0", "efficientnetb2": "EfficientNetB2",
    "efficientnetb3": "EfficientNetB3", "efficientnetb4": "EfficientNetB4", "inceptionresnetv2": "InceptionResNetV2",
}  # fmt: skip


def build(id, small):
    """(model, backbone or None) of a recipe id."""
    system, _, rest = id.partition("-")
    if system == "wmh":
        arch, _, scenario = rest.rpartition("-")
        classes, width = (1 if scenario == "binary" else 3), (8 if small else 64)
        if arch == "deeplabv3plus":
            return wmh_deeplab(classes, width), None
        if arch == "transunet":
            return wmh_transunet(classes, width), None
        return wmh_unet(classes, width, attention_gate if arch == "attention-unet" else None), None
    if system == "lungs":
        return (lungs_resunet(4 if small else 16) if rest == "resunet" else lungs_unet(4 if small else 32)), None
    if system == "tb":
        features = {"vgg16": 25088, "resnet50": 2048, "inceptionresnetv2": 1536}[rest]
        return tb(BACKBONES[rest], features, None if rest == "vgg16" else "avg")
    if system == "cmb":
        return microbleeds((4, 8, 16, 20, 24) if small else (32, 64, 128, 256, 320)), None
    name, _, size = rest.partition("-")
    return haemorrhage(BACKBONES[name], int(size or 256)), None


def shake(model, seed=1):
    """Random statistics and shifts too, so that a wrong or missing one shows."""
    random = np.random.default_rng(seed)
    values = []
    normalised = any("normalization" in layer.name for layer in model.layers)
    for variable, value in zip(model.weights, model.get_weights(), strict=True):
        kind = variable.name.split("/")[-1].split(":")[0]
        if kind == "moving_variance":
            value = random.uniform(0.8, 1.2, value.shape)
        elif kind == "bias" and not normalised:
            value = random.uniform(0, 0.2, value.shape)  # above 0, so that no layer of few ReLUs is dead
        elif kind in ("moving_mean", "beta", "bias"):
            value = random.normal(0, 0.05, value.shape)
        elif kind == "gamma":
            value = random.uniform(0.9, 1.1, value.shape)
        elif kind == "kernel" and value.ndim == 2 and not normalised:
            value = random.normal(0, np.sqrt(2 / value.shape[0]), value.shape)
        elif kind == "kernel" and not normalised:
            value = value * np.sqrt(2)  # signals stay alive through many ReLUs, so that the outputs differ
        values.append(value)
    model.set_weights(values)


def tame(model, images):
    """Raise the variances that normalisations divide by until deep residual sums stay small, as training would do."""
    for _ in range(8):
        values = model(images, training=False).numpy()
        if np.isfinite(values).all() and np.abs(values).max() < 100:
            return
        pairs = zip(model.weights, model.get_weights(), strict=True)
        model.set_weights([4 * value if "moving_variance" in weight.name else value for weight, value in pairs])
    raise RuntimeError("the random network explodes")


def calibrate(model, images):
    """Scale the last layer so that its scores neither saturate nor are all alike on ``images``."""
    last = model.layers[-1]
    before = keras.Model(model.input, last.input)(images, training=False).numpy()
    kernel, bias = last.get_weights()
    scores = before.reshape(-1, before.shape[-1]) @ kernel.reshape(before.shape[-1], -1)
    if before.ndim > 2:
        # Instance normalisation of random 3D features amplifies rounding; smaller scores keep it below the tolerance.
        spread = scores.std(axis=0) * (2 if before.ndim == 5 else 1)
        last.set_weights([kernel * 0.2 / spread, -0.2 * scores.mean(axis=0) / spread])
    else:  # few images give nearly the same features: only the classes differ
        last.set_weights([kernel * 0.5 / np.abs(scores).mean(), bias])


def main():
    options = argparse.ArgumentParser()
    options.add_argument("folder", type=Path)
    options.add_argument("ids", nargs="+")
    options.add_argument("--small", action="store_true")
    options.add_argument("--weights-only", action="store_true")
    given = options.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    for id in given.ids:
        keras.backend.clear_session()
        keras.utils.set_random_seed(0)
        model, backbone = build(id, given.small)
        for part in (model, backbone):
            if part is not None:
                shake(part)
        images = (backbone or model).input_shape[1:]
        feed = np.random.default_rng(0).standard_normal((2 if len(images) == 3 else 1, *images)).astype(np.float32)
        tame(backbone or keras.Model(model.input, model.layers[-1].input), feed)
        if backbone is not None:
            feed = backbone(feed, training=False).numpy().reshape(len(feed), -1)
            for seed in range(2, 50):  # few ReLUs in the last layers may all be dead
                if keras.Model(model.input, model.layers[-1].input)(feed, training=False).numpy().any():
                    break
                shake(model, seed)
        calibrate(model, feed)
        save = model.save_weights if given.weights_only else model.save
        save(str(given.folder / f"{id}.h5"))
        count = model.count_params()
        if backbone is not None:
            backbone.save_weights(str(given.folder / f"{id}-backbone.h5"))
            count += backbone.count_params()
        (given.folder / f"{id}.json").write_text(json.dumps({"parameters": int(count)}), encoding="utf-8")
        print(id, f"{count:,}", flush=True)


if __name__ == "__main__":
    main()
