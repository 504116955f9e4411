"""Converts a Keras model to ONNX. Runs alone, in an environment with TensorFlow; imports nothing of MedSeg.

``python -I keras_convert.py request.json answer.json``

Nothing stored in the file is executed. The model's description (JSON) is read, every layer in it must be one of Keras'
own that are listed here, each Lambda is replaced by the operation that the request names for it, and only then is the
model built from the description, with the weights read as plain arrays. Fixed arrays inside the description (such as a
positional code) stay as they are.
"""

import json
import os
import sys
import tempfile
import zipfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

LAYERS = """
InputLayer Conv1D Conv2D Conv3D Conv2DTranspose Conv3DTranspose DepthwiseConv2D SeparableConv2D Dense Embedding
BatchNormalization LayerNormalization GroupNormalization MultiHeadAttention Attention
Activation ReLU LeakyReLU PReLU ELU Softmax ThresholdedReLU
MaxPooling1D MaxPooling2D MaxPooling3D AveragePooling2D AveragePooling3D
GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D GlobalMaxPooling2D GlobalMaxPooling3D
UpSampling2D UpSampling3D ZeroPadding2D ZeroPadding3D Cropping2D Cropping3D
Add Subtract Multiply Average Maximum Minimum Concatenate Dot
Flatten Reshape Permute RepeatVector Rescaling Normalization Resizing
Dropout SpatialDropout2D SpatialDropout3D GaussianNoise GaussianDropout AlphaDropout
Functional Model Sequential TFOpLambda SlicingOpLambda
""".split()

# Functions that a TFOpLambda may name: arithmetic on tensors, nothing that reads, writes or calls.
FUNCTIONS = """
__operators__.add __operators__.sub __operators__.mul __operators__.truediv __operators__.getitem __operators__.neg
math.add math.subtract math.multiply math.divide math.truediv math.maximum math.minimum math.pow math.sqrt math.rsqrt
math.square math.exp math.log math.tanh math.sigmoid math.negative math.reduce_mean math.reduce_sum math.reduce_max
add subtract multiply divide maximum minimum nn.relu nn.relu6 nn.elu nn.gelu nn.leaky_relu nn.silu nn.sigmoid nn.softmax
nn.bias_add linalg.matmul matmul reshape transpose concat stack expand_dims squeeze tile repeat cast shape
compat.v1.shape compat.v1.transpose image.resize compat.v1.image.resize_images slice strided_slice clip_by_value
identity broadcast_to convert_to_tensor split unstack
""".split()

# What Keras 3 writes for arithmetic on tensors.
OPERATIONS_3 = """
Add Subtract Multiply Divide TrueDivide Negative Power GetItem Reshape Transpose Concatenate Stack ExpandDims Squeeze
Mean Sum Max Maximum Minimum Sqrt Square Exp Relu Sigmoid Softmax Tanh Gelu Silu Matmul Resize Cast Shape BroadcastTo
""".split()

# Layers of other libraries that are the same as one of Keras'. value: its name there and the settings that it keeps.
SAME = {
    "FixedDropout": ("Dropout", {"rate", "noise_shape", "seed"}),
    "InstanceNormalization": ("GroupNormalization", {"axis", "epsilon", "center", "scale"}),
}
TENSOR = {"__keras_tensor__", "__tensor__", "__numpy__", "DTypePolicy", "Policy"}
MODULES = ("keras.", "tf_keras.", "tensorflow.keras.", "tensorflow.python.keras.", "builtins")


class Refused(Exception):
    """A sentence for the user."""


def say(text):
    print("progress: " + text, flush=True)


# -- reading ------------------------------------------------------------------------------------------------


def read_file(path, folder):
    """(description or None, Keras generation, path of the weights) of a .h5 or .keras file."""
    import h5py

    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
            weights = os.path.join(folder, "model.weights.h5")
            info = archive.getinfo("model.weights.h5")
            with archive.open(info) as source, open(weights, "wb") as target:
                left = info.file_size
                while block := source.read(1 << 20):
                    left -= len(block)
                    if left < 0:
                        raise Refused("an entry of the archive is larger than it declares; get the file again")
                    target.write(block)
        check_links(weights)
        return config, 3, weights
    check_links(path)
    with h5py.File(path, "r") as file:
        text = file.attrs.get("model_config")
        version = file.attrs.get("keras_version", file.get("model_weights", file).attrs.get("keras_version", "2"))
    if text is None:
        return None, 2, path
    return json.loads(text), 3 if str(version).startswith("3") else 2, path


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


# -- making the description safe ----------------------------------------------------------------------------


def bare(name):
    """``Package>Class`` without its package."""
    return str(name).split(">")[-1]


def safe_config(config, operations, generation):
    """The description with Lambdas replaced; `Refused` for anything that is not known to be harmless."""
    used = set()

    def layer(node):
        kind, own = node.get("class_name"), node.get("config")
        module = node.get("module") or "builtins"
        name = own.get("name") if isinstance(own, dict) else None
        if kind == "Lambda":
            operation = operations.get(name)
            if operation is None:
                raise Refused(
                    f"the Lambda layer {name!r} holds code, which is not run, and the recipe does not say what it does"
                )
            used.add(name)
            return {
                "class_name": "MedSegOperation", "name": name,
                "config": {"name": name, "operation": operation},
                **({"inbound_nodes": walk(node["inbound_nodes"])} if "inbound_nodes" in node else {}),
                **({"module": None, "registered_name": "MedSegOperation"} if generation == 3 else {}),
            }  # fmt: skip
        short = bare(kind)
        if short in SAME and isinstance(own, dict):
            new, kept = SAME[short]
            own = {k: v for k, v in own.items() if k in kept | {"name", "trainable", "dtype"}}
            if short == "InstanceNormalization":
                own["groups"] = -1
            node = {k: v for k, v in node.items() if k not in ("module", "registered_name")}
            node = {**node, "class_name": new, "config": own}
            if generation == 3:
                node["module"] = "keras.layers"
            return {k: walk(v) for k, v in node.items()}
        known = short in LAYERS or short in TENSOR or (generation == 3 and short in OPERATIONS_3)
        if not known or short != kind or not str(module).startswith(MODULES):
            raise Refused(f"the layer {name!r} is of the kind {kind!r}, which is not one of Keras' own that are known")
        if node.get("registered_name") not in (None, kind):
            raise Refused(f"the layer {name!r} asks for the registered class {node['registered_name']!r}")
        if kind == "TFOpLambda" and own.get("function") not in FUNCTIONS:
            raise Refused(f"the layer {name!r} calls the function {own.get('function')!r}, which is not allowed")
        if kind == "SlicingOpLambda" and own.get("function") != "__operators__.getitem":
            raise Refused(f"the layer {name!r} calls the function {own.get('function')!r}, which is not allowed")
        return {k: walk(v) for k, v in node.items()}

    def walk(value):
        if isinstance(value, dict):
            if value.get("class_name") is not None and ("config" in value or "module" in value):
                return layer(value)
            # What weights were started from and held to matters in training only, and may name code.
            dropped = ("_initializer", "_regularizer", "_constraint")
            return {k: walk(v) for k, v in value.items() if not str(k).endswith(dropped)}
        if isinstance(value, list):
            if len(value) > 64 and all(isinstance(v, (int, float)) for v in value):
                return value
            return [walk(v) for v in value]
        return value

    safe = walk(config)
    for key in ("compile_config", "build_config"):
        safe.pop(key, None)
    left = sorted(set(operations) - used)
    if left and any_lambda(config):
        print(f"the recipe's operation for {left[0]!r} was not needed", flush=True)
    return safe


def any_lambda(value):
    """Whether a Lambda is anywhere in ``value``."""
    if isinstance(value, dict):
        return value.get("class_name") == "Lambda" or any(any_lambda(v) for v in value.values())
    return isinstance(value, list) and any(any_lambda(v) for v in value)


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

        def call(self, inputs):
            return table[self.operation](inputs)

        def get_config(self):
            return {**super().get_config(), "operation": self.operation}

    return MedSegOperation


# -- building -----------------------------------------------------------------------------------------------


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
            if generation == 3:
                model = keras.models.model_from_json(json.dumps(safe), custom_objects=custom)
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


def build_application(facts, weights):
    """(model, keras module) of keras.applications with its weights; with a dense layer behind it where ``facts`` say so."""
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
        raise Refused(f"the ImageNet weights of {name} cannot be downloaded ({first(error)}); give their file") from error
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
    if any(g not in (None, w) for g, w in zip(given[1:], wanted[1:])):
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
    with open(sys.argv[1], encoding="utf-8") as file:
        request = json.load(file)
    say("loading TensorFlow")
    import numpy as np
    import tensorflow as tf
    import tf2onnx

    with tempfile.TemporaryDirectory(dir=os.path.dirname(os.path.abspath(sys.argv[1]))) as folder:
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
        function = tf.function(lambda x: tf.identity(forward(x), name=request["output_name"]), input_signature=signature)
        tf2onnx.convert.from_function(function, input_signature=signature, opset=17, output_path=request["output"])
        np.savez(request["probe"], feed=feed, output=np.asarray(result))
        answer = {
            "parameters": int(parameters),
            "framework": f"Keras {keras.__version__}, TensorFlow {tf.__version__}, tf2onnx {tf2onnx.__version__}",
        }
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        json.dump(answer, file)


if __name__ == "__main__":
    try:
        main()
    except Refused as error:
        print(f"refused: {error}", flush=True)
        sys.exit(1)
    except MemoryError:
        print("refused: the computer's memory does not suffice for the conversion", flush=True)
        sys.exit(1)
