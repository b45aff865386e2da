"""Classes and functions of the user's own that a Keras file names, and the errors that name what is missing."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import re
from collections.abc import Iterator, Sequence
from importlib import util
from pathlib import Path
from typing import Any

import attrs

from tpu2gpu.errors import SourceError, Tpu2GpuError, UnsupportedError, UsageError, first_line
from tpu2gpu.user_code import find_in_current_folder

BUILD_HINT = "give --graph package.module:function that builds it"

_LIBRARIES = ("keras", "tf_keras", "keras_hub", "keras_cv", "keras_nlp", "tensorflow", "numpy", "builtins", "typing")
_INNER_ERROR = "Exception encountered: "
_FAILED_CLASS = re.compile(r"<class '[\w.]*?(\w+)'> could not be deserialized")


@attrs.frozen
class CustomObject:
    """A class or function in the description of a Keras model that is none of Keras' own.

    Attributes:
        name: What it is called.
        registered_name: What it is registered as, such as `package>Scale`.
        module: Where it was defined; empty where the file does not say.
        layer: The layer that is one, or that uses it.
    """

    name: str
    registered_name: str
    module: str
    layer: str

    def __str__(self) -> str:
        """Return `layer 'scale': Scale, of module my_layers`."""
        where = f", of module {self.module}" if self.module else ""
        return f"{f'layer {self.layer!r}: ' if self.layer else ''}{self.name}{where}"


def digest_modules(modules: Sequence[str]) -> dict[str, str]:
    """Check that modules are there, without importing them.

    Returns:
        The SHA-256 of each one's source, so that results of other code under the same name are told apart.

    Raises:
        UsageError: Some are not, all are listed; or the package around one fails.
    """
    digests: dict[str, str] = {}
    missing = []
    if modules:
        find_in_current_folder()
    for name in modules:
        try:
            found = util.find_spec(name)
        except (ImportError, ValueError):
            found = None
        except (Exception, SystemExit) as error:  # the packages around it are run, and may raise anything
            raise UsageError(f"--custom-objects {name}: {type(error).__name__}: {first_line(error)}") from error
        if found is None:
            missing.append(name)
        else:
            source = Path(found.origin or "")
            digests[name] = hashlib.sha256(source.read_bytes()).hexdigest() if source.is_file() else ""
    if missing:
        raise UsageError(
            f"--custom-objects {', '.join(missing)}: no such module",
            hint="give a module's name, such as my_layers or package.layers; it is looked for in this folder too",
        )
    return digests


def load_custom_objects(modules: Sequence[str]) -> dict[str, Any]:
    """Import modules, and return their classes and functions by name; what they register, Keras finds itself.

    Raises:
        UsageError: A module fails.
    """
    digest_modules(modules)
    found: dict[str, Any] = {}
    for name in modules:
        try:
            module = importlib.import_module(name)
        except (Exception, SystemExit) as error:  # the module is run, and may raise anything
            raise UsageError(f"--custom-objects {name}: {type(error).__name__}: {first_line(error)}") from error
        found |= {key: value for key, value in getattr(module, "__dict__", {}).items() if _is_own(value)}
    return found


def find_custom_objects(description: Any, layer: str = "") -> Iterator[CustomObject]:
    """Find what the description of a Keras model names that is none of Keras' own, as far as the description tells."""
    if isinstance(description, list):
        for item in description:
            yield from find_custom_objects(item, layer)
        return
    if not isinstance(description, dict):
        return
    name, module, config = description.get("class_name"), description.get("module"), description.get("config")
    if isinstance(name, str) and not name.startswith("__"):
        layer = _name_of(description) or layer
        own, registered = name, str(description.get("registered_name") or name)
        if name == "function":  # of which Keras says at most the name
            own = registered = config if isinstance(config, str) else ""
            module = "" if module == "builtins" else module
        if own and str(module or "").partition(".")[0] not in _LIBRARIES:
            yield CustomObject(own.rpartition(">")[2], registered, str(module or ""), layer)
    for value in description.values():
        yield from find_custom_objects(value, layer)


def check_custom_objects(path: object, description: Any, known: dict[str, Any], keras: Any) -> None:
    """Check that all that a description names is known: some versions of Keras would import whatever module it names.

    Args:
        path: The file.
        description: Its description of the model.
        known: What `load_custom_objects` found.
        keras: The Keras that would rebuild the model.

    Raises:
        UnsupportedError: Something is unknown; all of it is listed.
    """
    custom = list(dict.fromkeys(find_custom_objects(description)))
    lookup = getattr(keras.saving, "get_registered_object", keras.utils.get_registered_object)
    missing = [
        it
        for it in custom
        if not any(lookup(name, custom_objects=known) for name in (it.registered_name, it.name))
        and not (it.module == "" and _is_in_keras(keras, it.name))
    ]
    if missing:
        modules = sorted({it.module for it in missing if it.module and it.module != "__main__"}) or ["MODULE"]
        flags = " ".join(f"--custom-objects {module}" for module in modules)
        said = "" if modules != ["MODULE"] else ", the module that defines it"
        raise UnsupportedError(
            f"{path}: Keras does not know {', '.join(dict.fromkeys(it.name for it in missing))}",
            details=[str(it) for it in missing],
            hint=f"give {flags}{said}; or {BUILD_HINT.removeprefix('give ')}",
        )


def rebuilding_error(path: object, description: Any, error: Exception) -> Exception:
    """Return the error that says why Keras could not rebuild a model, and names the layer.

    Args:
        path: The file.
        description: Its description of the model.
        error: What it raised.
    """
    if isinstance(error, Tpu2GpuError):
        return error
    custom = list(dict.fromkeys(find_custom_objects(description)))
    text = str(error)
    failed = [name for name in _FAILED_CLASS.findall(text) if any(it.name == name for it in custom)][-1:]
    blamed = [it for it in custom if it.name in failed]
    reason = text.rpartition(_INNER_ERROR)[2].strip() if _INNER_ERROR in text else ""
    reason = reason.splitlines()[0] if reason else first_line(error)
    if not blamed:
        return SourceError(f"{path}: Keras cannot rebuild the model ({reason})", hint=BUILD_HINT)
    return UnsupportedError(
        f"{path}: Keras cannot rebuild {', '.join(map(str, blamed))} ({reason})",
        hint="let its get_config() return, beside what super().get_config() does, what its __init__() takes, and save "
        f"the model again; or {BUILD_HINT}",
    )


def _name_of(description: dict[str, Any]) -> str:
    """Return a layer's name; a `get_config` that does not call its parent's leaves it out of `config`."""
    config = description.get("config")
    named = description.get("name") or (config.get("name") if isinstance(config, dict) else "")
    # A description of a dtype or an initialiser may have a name too, but no place in the graph.
    is_layer = "inbound_nodes" in description or "build_config" in description
    return str(named) if isinstance(named, str) and is_layer else ""


def _is_own(item: Any) -> bool:
    library = str(getattr(item, "__module__", "")).partition(".")[0] in _LIBRARIES
    return (inspect.isclass(item) or inspect.isfunction(item)) and not library


def _is_in_keras(keras: Any, name: str) -> bool:
    """Tell whether a class is Keras' own, in files that name no module."""
    places = ("layers", "models", "initializers", "regularizers", "constraints", "activations", "mixed_precision")
    own = {"Functional", "InputLayer", "Policy", "DTypePolicy", "TFOpLambda", "SlicingOpLambda"}
    return name in own or any(hasattr(getattr(keras, place, None), name) for place in places)
