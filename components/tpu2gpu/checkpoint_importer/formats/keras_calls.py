"""The functions that layers of Keras may call by their names: those that only compute.

Layers of Keras 2 call any function that TensorFlow exports, with texts and numbers that stand in the file:
`load_op_library` and `io.gfile.rmtree` too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_CALLERS = ("SlicingOpLambda", "TFOpLambda")
_CLASSES = ("RaggedTensor", "SparseTensor")
_SPACES = (
    r"""__operators__|audio|bitwise|dtypes|image|linalg|math|nn|quantization|ragged|random|sets|signal|sparse|strings"""
)
_TOP = r"""abs|acosh?|add(_n)?|arg(max|min|sort)|as_string|asinh?|atan[2h]?|batch_to_space|bitcast|boolean_mask
    |broadcast_(dynamic_shape|static_shape|to)|cast|clip_by_(global_norm|norm|value)|complex|concat|constant
    |convert_to_tensor|cosh?|cumsum|divide|dynamic_(partition|stitch)|edit_distance|eig|eigvals|einsum|ensure_shape
    |equal|exp|expand_dims|extract_volume_patches|eye|fill|fingerprint|floor|gather(_nd)?|greater(_equal)?
    |guarantee_const|histogram_fixed_width(_bins)?|identity(_n)?|less(_equal)?|linspace|logical_(and|not|or)|matmul
    |matrix_square_root|maximum|meshgrid|minimum|multiply|negative|norm|not_equal|one_hot|ones(_like)?|pad
    |parallel_stack|pow|range|rank|realdiv|reduce_(all|any|logsumexp|max|mean|min|prod|sum)|repeat|reshape
    |reverse(_sequence)?|roll|round|saturate_cast|scalar_mul|scatter_nd|searchsorted|sequence_mask|shape(_n)?|sigmoid
    |sign|sinh?|size|slice|sort|space_to_batch(_nd)?|split|sqrt|square|squeeze|stack|stop_gradient|strided_slice
    |subtract|tanh?|tensor_scatter_nd_(add|max|min|sub|update)|tensordot|tile|transpose|truediv|truncate(div|mod)|tuple
    |unique(_with_counts)?|unravel_index|unstack|where|zeros(_like)?"""
_COMPUTES = re.compile(rf"(compat\.v[12]\.)?(({_SPACES})\.\w+|({_TOP}))", re.VERBOSE)
# Modules that define Keras' own activations, initialisers and the like, and TensorFlow's functions that compute.
_MODULES = re.compile(
    r"builtins|(tf_)?keras\.([\w.]+\.)?(activations|backend|constraints|initializers|layers|losses|math|metrics|ops|random"
    r"|regularizers)(\.[\w.]+)?|tensorflow\.([\w.]+\.)?(array|clip|image|math|nn|special_math)(_\w+)?"
)


def foreign_calls(item: dict[str, Any]) -> Iterator[str]:
    """Yield what one object of a description would call that may do more than compute.

    Args:
        item: The object: its class, and its configuration.
    """
    name, config = str(item.get("class_name", "")).rpartition(">")[2], item.get("config")
    config = config if isinstance(config, dict) else {"": config}
    if name in _CALLERS and not _COMPUTES.fullmatch(str(config.get("function"))):
        yield f"{name}: the function {config.get('function')} of TensorFlow"
    elif name == "ClassMethod" and config.get("cls_ref") not in _CLASSES:
        yield f"{name}: the class {config.get('cls_ref')} of TensorFlow"
    elif name == "function" and item.get("module") and not _MODULES.fullmatch(str(item["module"])):
        yield f"{config.get('')} of {item['module']}"
