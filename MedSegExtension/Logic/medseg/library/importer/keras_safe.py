"""Which Keras descriptions are harmless, and how Lambdas in them are replaced. Standard library only.

Used by ``keras_convert.py`` in the environment that has TensorFlow, before anything is built from a description.
"""
# mypy: ignore-errors

import json

LAYERS = """
InputLayer Conv1D Conv2D Conv3D Conv2DTranspose Conv3DTranspose DepthwiseConv2D SeparableConv2D Dense Embedding
BatchNormalization LayerNormalization GroupNormalization MultiHeadAttention Attention Activation ReLU LeakyReLU
PReLU ELU Softmax ThresholdedReLU MaxPooling1D MaxPooling2D MaxPooling3D AveragePooling2D AveragePooling3D
GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D GlobalMaxPooling2D GlobalMaxPooling3D
UpSampling2D UpSampling3D ZeroPadding2D ZeroPadding3D Cropping2D Cropping3D Add Subtract Multiply Average Maximum
Minimum Concatenate Dot Flatten Reshape Permute RepeatVector Rescaling Normalization Resizing Dropout
SpatialDropout2D SpatialDropout3D GaussianNoise GaussianDropout AlphaDropout Functional Model Sequential TFOpLambda
SlicingOpLambda
""".split()  # noqa: SIM905

# Functions that a TFOpLambda may name: arithmetic on tensors, nothing that reads, writes or calls.
FUNCTIONS = """
__operators__.add __operators__.sub __operators__.mul __operators__.truediv __operators__.getitem __operators__.neg
math.add math.subtract math.multiply math.divide math.truediv math.maximum math.minimum math.pow math.sqrt
math.rsqrt math.square math.exp math.log math.tanh math.sigmoid math.negative math.reduce_mean math.reduce_sum
math.reduce_max add subtract multiply divide maximum minimum nn.relu nn.relu6 nn.elu nn.gelu nn.leaky_relu nn.silu
nn.sigmoid nn.softmax nn.bias_add linalg.matmul matmul reshape transpose concat stack expand_dims squeeze tile
repeat cast shape compat.v1.shape compat.v1.transpose image.resize compat.v1.image.resize_images slice strided_slice
clip_by_value identity broadcast_to convert_to_tensor split unstack
""".split()  # noqa: SIM905

# What Keras 3 writes for arithmetic on tensors.
OPERATIONS_3 = """
Add Subtract Multiply Divide TrueDivide Negative Power GetItem Reshape Transpose Concatenate Stack ExpandDims
Squeeze Mean Sum Max Maximum Minimum Sqrt Square Exp Relu Sigmoid Softmax Tanh Gelu Silu Matmul Resize Cast Shape
BroadcastTo
""".split()  # noqa: SIM905

# Layers of other libraries that are the same as one of Keras'. value: its name there and the settings that it keeps.
SAME = {
    "FixedDropout": ("Dropout", {"rate", "noise_shape", "seed"}),
    "InstanceNormalization": ("GroupNormalization", {"axis", "epsilon", "center", "scale"}),
}
TENSOR = {"__keras_tensor__", "__tensor__", "__numpy__", "DTypePolicy", "Policy"}
MODULES = ("keras.", "tf_keras.", "tensorflow.keras.", "tensorflow.python.keras.", "builtins.")


class Refused(Exception):
    """A sentence for the user."""


def bare(name):
    """``Package>Class`` without its package."""
    return str(name).split(">")[-1]


def description(text):
    """The model's description from its JSON text (str or bytes); `Refused` where it is none."""
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refused(f"its description is not valid JSON ({type(error).__name__}); get the file again") from error
    if not isinstance(config, dict):
        raise Refused("its description is not that of a model; get the file again")
    return config


def safe_config(config, operations, generation):
    """The description with Lambdas replaced; `Refused` for anything that is not known to be harmless."""
    try:
        return _safe_config(config, operations, generation)
    except (AttributeError, KeyError, TypeError, RecursionError) as error:
        raise Refused(f"its description is damaged ({type(error).__name__}: {error}); get the file again") from error


def _safe_config(config, operations, generation):
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
        if not known or short != kind or not f"{module}.".startswith(MODULES):
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

    safe = walk({k: v for k, v in config.items() if k not in ("compile_config", "build_config")})
    left = sorted(set(operations) - used)
    if left and any_lambda(config):
        print(f"the recipe's operation for {left[0]!r} was not needed", flush=True)
    return safe


def any_lambda(value):
    """Whether a Lambda is anywhere in ``value``."""
    if isinstance(value, dict):
        return value.get("class_name") == "Lambda" or any(any_lambda(v) for v in value.values())
    return isinstance(value, list) and any(any_lambda(v) for v in value)
