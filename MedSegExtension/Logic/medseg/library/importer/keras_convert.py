"""Converts a Keras model to ONNX. Runs alone, in an environment with TensorFlow; imports nothing of MedSeg.

``python -I keras_convert.py request.json answer.json``

Nothing stored in the file is executed. The model's description (JSON) is read, every layer in it must be one of Keras'
own that are listed here, each Lambda is replaced by the operation that the request names for it, and only then is the
model built from the description, with the weights read as plain arrays. Fixed arrays inside the description (such as a
positional code) stay as they are.
"""
# mypy: ignore-errors
# (its types live in the other environment)

import importlib.util
import json
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Isolated mode keeps this folder off the path, where its other modules could hide TensorFlow's; one file is fetched.
_spec = importlib.util.spec_from_file_location("keras_safe", Path(__file__).with_name("keras_safe.py"))
keras_safe = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(keras_safe)
Refused, safe_config, description = keras_safe.Refused, keras_safe.safe_config, keras_safe.description


def say(text):
    print("progress: " + text, flush=True)


# -- reading ------------------------------------------------------------------------------------------------


def read_file(path, folder):
    """(description or None, Keras generation, path of the weights) of a .h5 or .keras file."""
    import h5py

    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            config = description(archive.read("config.json"))
            weights = str(Path(folder) / "model.weights.h5")
            info = archive.getinfo("model.weights.h5")
            with archive.open(info) as source, Path(weights).open("wb") as target:
                left = info.file_size
                while block := source.read(1 << 20):
                    left -= len(block)
                    if left < 0:
                        raise Refused("an entry of the archive is larger than it declares; get the file again")
                    target.write(block)
        check_links(weights)
        return config, 3, weights
    if Path(path).suffix not in (".h5", ".hdf5") or path.endswith(".weights.h5"):
        # Keras chooses its reader by the name; the content is what counts.
        path = shutil.copyfile(path, str(Path(folder) / "model.h5"))
    check_links(path)
    with h5py.File(path, "r") as file:
        text = file.attrs.get("model_config")
        version = file.attrs.get("keras_version", file.get("model_weights", file).attrs.get("keras_version", "2"))
    if text is None:
        return None, 2, path
    return description(text), 3 if str(version).startswith("3") else 2, path


def check_links(path):
    """Refuse HDF5 files whose data lie in other files."""
    import h5py

    def walk(group, depth):
        if depth > 50:
            raise Refused("the HDF5 file is nested too deeply")
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise Refused("the HDF5 file links to other places or files, which is not followed")
            item = group[name]
            if isinstance(item, h5py.Group):
                walk(item, depth + 1)
            elif item.external or item.is_virtual:
                raise Refused("the HDF5 file keeps data in other files, which is not followed")

    try:
        with h5py.File(path, "r") as file:
            walk(file, 0)
    except OSError as error:
        raise Refused(f"the file is damaged or cut short ({error}); get it again") from error


# -- building the network -----------------------------------------------------------------------------------


def operation_layer(base):
    """The layer class that stands in for Lambdas. ``base``: the Layer class of the Keras generation in use."""
    import tensorflow as tf

    def resize_bilinear_to(inputs):
        features, size = inputs
        return tf.image.resize(features, size, method="bilinear")

    def crop_top_left_to(inputs):
        large, small = inputs
        shape = tf.shape(small)
        return large[:, : shape[1], : shape[2], :], small

    table = {
        "identity": lambda x: x,
        "resize_bilinear_to": resize_bilinear_to,
        "crop_top_left_to": crop_top_left_to,
        "repeat_channels": lambda x: tf.repeat(x, 3, axis=-1),
    }

    class MedSegOperation(base):
        def __init__(self, operation, **more):
            super().__init__(**more)
            self.operation = operation

        def call(self, inputs, mask=None, training=None):
            return table[self.operation](inputs)

        def get_config(self):
            return {**super().get_config(), "operation": self.operation}

    return MedSegOperation


def keras_of(generation):
    if generation == 2:
        import tf_keras

        return tf_keras
    import keras

    return keras


def load(path, operations, folder, application=None):
    """(model, keras module) from a file; ``application``: how to build it where the file holds weights only."""
    config, generation, weights = read_file(path, folder)
    if config is None:
        if application is None:
            raise Refused("the file holds weights only; save the whole model (model.save), or give an ONNX file")
        return build_application(application, weights)
    keras = keras_of(generation)
    safe = safe_config(config, operations, generation)
    kind = safe["class_name"]
    builder = keras.Sequential if kind == "Sequential" else keras.Model
    custom = {"MedSegOperation": operation_layer(keras.layers.Layer)}
    say("building the network")
    try:
        with keras.utils.custom_object_scope(custom):
            if generation == 3 and safe.get("module"):
                model = keras.models.model_from_json(json.dumps(safe), custom_objects=custom)
            elif generation == 3:
                model = legacy_model(safe, custom)
            else:
                model = builder.from_config(safe["config"], custom_objects=custom)
    except Refused:
        raise
    except Exception as error:
        raise Refused(f"the network's description cannot be built ({type(error).__name__}: {first(error)})") from error
    try:
        model.load_weights(weights)
    except Exception as error:
        raise Refused(f"the weights do not fit the description ({first(error)})") from error
    return model, keras


def legacy_model(config, custom):
    """The model of a description that Keras 3 wrote in Keras 2's form, as it does into .h5 files."""
    from keras.src.legacy.saving import saving_options, saving_utils

    with saving_options.keras_option_scope(use_legacy_config=True):
        return saving_utils.model_from_config(config, custom_objects=custom)


def build_application(facts, weights):
    """(model, keras module) of keras.applications with its weights; a dense layer behind it where ``facts`` say so."""
    import tf_keras

    name, dense = facts["application"], facts.get("units")
    builder = getattr(tf_keras.applications, name)
    plain = weights is not None or dense
    try:
        model = builder(
            include_top=False, weights=None if plain else "imagenet", input_shape=tuple(facts["size"]),
            pooling=facts["pooling"],
        )  # fmt: skip
    except Exception as error:
        raise Refused(
            f"the ImageNet weights of {name} cannot be downloaded ({first(error)}); give their file"
        ) from error
    if name.startswith("EfficientNet"):
        model = without_rescaling(model, tf_keras)
    if dense:
        last = tf_keras.layers.Dense(dense, activation=facts["activation"])(model.output)
        model = tf_keras.Model(model.input, last)
    if weights is not None:
        try:
            model.load_weights(weights)
        except Exception as error:
            raise Refused(f"the weights are not those of {name} with this head ({first(error)})") from error
    return model, tf_keras


def without_rescaling(model, keras):
    """The network without the layers that scale its input (authors used a package whose networks have none)."""
    config = model.get_config()
    dropped = {layer["name"] for layer in config["layers"] if layer["class_name"] in ("Rescaling", "Normalization")}
    config["layers"] = [layer for layer in config["layers"] if layer["name"] not in dropped]
    start = config["input_layers"][0][0]
    for layer in config["layers"]:
        for call in layer["inbound_nodes"]:
            for source in call:
                source[0] = start if source[0] in dropped else source[0]
    return keras.Model.from_config(config)


def first(error):
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]


def join(model, request, folder):
    """``model`` behind its backbone, where it takes features; (forward function, input shape, parameters)."""
    shape = input_shape(model)
    application = request.get("backbone")
    if application is None or len(shape) > 2:
        return (lambda x: model(x, training=False)), shape, model.count_params()
    if shape[-1] not in (None, application["features"]):
        raise Refused(
            f"the file takes {shape[-1]} features, but {application['application']} gives {application['features']}"
        )
    say("building the backbone")
    path = request.get("backbone_file")
    if path:
        backbone, _ = load(path, request["operations"], folder, application)
    else:
        backbone, _ = build_application(application, None)
    import tensorflow as tf

    def forward(x):
        features = backbone(x, training=False)
        if len(features.shape) > 2:
            if application["pooling"] == "avg":
                features = tf.reduce_mean(features, axis=[1, 2])
            elif application["pooling"] == "max":
                features = tf.reduce_max(features, axis=[1, 2])
            else:
                features = tf.reshape(features, [-1, application["features"]])
        return model(features, training=False)

    wanted = [None, *application["size"]]
    given = input_shape(backbone)
    if any(g not in (None, w) for g, w in zip(given[1:], wanted[1:], strict=False)):
        raise Refused(f"the backbone takes images of {given[1:]}, but the recipe feeds {wanted[1:]}")
    return forward, wanted, model.count_params() + backbone.count_params()


def input_shape(model):
    shape = model.input_shape
    if isinstance(shape, dict):
        shape = list(shape.values())
    if isinstance(shape, list):
        if len(shape) != 1:
            raise Refused("the model has several inputs")
        shape = shape[0]
    return [None if n is None else int(n) for n in shape]


def main():
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    say("loading TensorFlow")
    import numpy as np
    import tensorflow as tf
    import tf2onnx

    with tempfile.TemporaryDirectory(dir=Path(sys.argv[1]).resolve().parent) as folder:
        model, keras = load(request["model"], request["operations"], folder, request.get("classifier"))
        forward, shape, parameters = join(model, request, folder)
        free = request.get("free_size", 64)
        feed_shape = [2 if len(shape) < 5 else 1, *(n or free for n in shape[1:])]
        feed = np.random.default_rng(0).standard_normal(feed_shape).astype(np.float32)
        say("running the original network")
        result = forward(tf.constant(feed))
        if isinstance(result, (list, tuple, dict)):
            raise Refused("the model has several outputs")
        say("converting to ONNX")
        signature = [tf.TensorSpec([None, *shape[1:]], tf.float32, name=request["input_name"])]
        function = tf.function(
            lambda x: tf.identity(forward(x), name=request["output_name"]), input_signature=signature
        )
        tf2onnx.convert.from_function(function, input_signature=signature, opset=17, output_path=request["output"])
        np.savez(request["probe"], feed=feed, output=np.asarray(result))
        answer = {
            "parameters": int(parameters),
            "framework": f"Keras {keras.__version__}, TensorFlow {tf.__version__}, tf2onnx {tf2onnx.__version__}",
        }
    Path(sys.argv[2]).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    try:
        main()
    except Refused as error:
        print(f"refused: {error}", flush=True)
        sys.exit(1)
    except MemoryError:
        print("refused: the computer's memory does not suffice for the conversion", flush=True)
        sys.exit(1)
