"""The exceptions of tpu2gpu, and the exit code that each gives a command.

Tpu2GpuError
├── RefusedError             exit 1   a gate or a policy said no: final, a retry cannot help
│   ├── PrecisionRefusedError          values that the asked precision cannot hold
│   ├── ParityRefusedError             a conversion whose outputs differ from its source's
│   ├── CoverageRefusedError           a conversion that leaves too little for the accelerator
│   ├── PromotionRefusedError          a verdict does not let a model be promoted, or another promotion is under way
│   └── TrustRefusedError              a model that would do more than compute
├── UsageError               exit 2   an option is unknown, out of range or contradicts another
│   └── OutputExistsError              the target is there already and `force` was not given
├── InputError               exit 3   what was given is missing, damaged or not what it should be
│   ├── SourceError                    the source is no model or checkpoint that we know
│   ├── CheckpointError                a checkpoint's files disagree with themselves
│   ├── SignatureError                 a signature, input or output is missing or has the wrong form
│   ├── GraphError                     a graph holds nodes that the step cannot take
│   ├── ConversionError                a back end does not take the model
│   ├── ExamplesError                  examples do not fit the model
│   ├── ManifestError                  files differ from what their manifest says
│   ├── ProofError                     a signature is missing, expired, of other files or by another key
│   └── UnsupportedError               sound input, but a case that this version does not do
├── EnvironmentLacksError    exit 4   a library, a device or memory is not there
│   └── WorkerError                    a child process died, hung or outgrew its limit
│       └── WorkerDiedError            it died
└── RemoteRunError           exit 5   a run on a cluster failed
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


class Tpu2GpuError(Exception):
    """Base of every error that tpu2gpu raises on purpose.

    Attributes:
        message: What was found and where, without a full stop.
        details: Every single finding, when there are several.
        hint: What the user can do about it.
    """

    exit_code = 3

    def __init__(self, message: str, *, details: Sequence[str] = (), hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.details = tuple(details)
        self.hint = hint

    def __str__(self) -> str:
        """Return one line, and one more for each detail."""
        head = f"{self.message}; {self.hint}" if self.hint else self.message
        lines = [head, *(f"  - {detail}" for detail in self.details)]
        return "\n".join(map(one_line, lines))

    def to_json(self) -> dict[str, Any]:
        """Return the error as plain data, to cross a process boundary or stand in a report.

        A kind of its own of some room is named by the kind of this tree that it derives from.
        """
        return {
            "error": next(kind.__name__ for kind in type(self).__mro__ if kind.__module__ == __name__),
            "message": self.message,
            "details": list(self.details),
            "hint": self.hint,
        }


class RefusedError(Tpu2GpuError):
    """A gate or a policy said no."""

    exit_code = 1


class PrecisionRefusedError(RefusedError):
    """Values that the asked precision cannot hold."""


class ParityRefusedError(RefusedError):
    """A conversion whose outputs differ from its source's by more than the tolerance."""


class CoverageRefusedError(RefusedError):
    """A conversion of whose compute less than asked for lies in the accelerator's part."""


class PromotionRefusedError(RefusedError):
    """A verdict does not let a model be promoted, or another promotion is under way."""


class TrustRefusedError(RefusedError):
    """A model that would do more than compute: read or write files, talk to others, run code of its own."""


class UsageError(Tpu2GpuError):
    """An option is unknown, out of range or contradicts another."""

    exit_code = 2


class OutputExistsError(UsageError):
    """The target is there already."""


class InputError(Tpu2GpuError):
    """What was given is missing, damaged or not what it should be."""


class SourceError(InputError):
    """The source is no model or checkpoint that we know."""


class CheckpointError(InputError):
    """A checkpoint's files disagree with themselves."""


class SignatureError(InputError):
    """A signature, input or output is missing or has the wrong form."""


class GraphError(InputError):
    """A graph holds nodes that the step cannot take."""


class ConversionError(InputError):
    """A back end does not take the model."""


class ExamplesError(InputError):
    """Examples do not fit the model."""


class ManifestError(InputError):
    """Files differ from what their manifest says."""


class ProofError(InputError):
    """A signature is missing, expired, of other files or by another key."""


class UnsupportedError(InputError):
    """Sound input, but a case that this version does not do."""


class EnvironmentLacksError(Tpu2GpuError):
    """A library, a device or memory is not there."""

    exit_code = 4


class WorkerError(EnvironmentLacksError):
    """A child process died, hung or outgrew its limit."""


class WorkerDiedError(WorkerError):
    """A child process died: a library ended it."""


class RemoteRunError(Tpu2GpuError):
    """A run on a cluster failed."""

    exit_code = 5


def from_json(data: dict[str, Any]) -> Tpu2GpuError:
    """Rebuild an error from `Tpu2GpuError.to_json`."""
    kind = globals().get(data["error"], Tpu2GpuError)
    error: Tpu2GpuError = kind(data["message"], details=data["details"], hint=data["hint"])
    return error


# Lines of TensorFlow's errors that frame the reason: where the node was defined, and what follows the message.
_FRAME = re.compile(
    r"Graph execution error:|Detected at node |\d+ root error|Traceback \(most recent|Original stack trace|"
    r"<stack traces? unavailable>|File \"|\[\[|Node: '[^']*'$"
)
_NODE = re.compile(r"\{\{node ([^}]+)\}\}|Detected at node '?([^\s']+)")
_ONNX_RUNTIME = re.compile(r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")
_ONNX_NODE = re.compile(r"Non-zero status code returned while running (\S+) node\. Name:'([^']*)' Status Message: ")
_FUNCTION = re.compile(r"\s*\[Op:\w+\]( name:.*)?$|^\(\d+\) [A-Z_]+:\s*")
_MOST_TEXT, _MOST_LINE = 20_000, 2_000  # characters
_FOREIGN_FLAG = re.compile(r"[^.;]*(?<![\w-])--[a-z][\w-]*[^.;]*[.;]?\s*")


def one_line(text: str) -> str:
    """Return a line as one: a foreign name in it may hold an end of line."""
    return text.replace("\n", "\\n")


def first_line(error: BaseException) -> str:
    """Return the reason that a foreign error gives: its first line that says one, and the node that it names.

    What other tools' flags would do is left out: they are none of ours.
    """
    try:
        text = str(error).strip()[:_MOST_TEXT]  # which may quote a whole file
    except Exception:  # of code that is not ours
        text = ""
    if isinstance(error, Tpu2GpuError) or not text:
        return (text or type(error).__name__).splitlines()[0]
    lines = text.splitlines()
    if _FRAME.match(lines[0]):  # what is indented is code, but for the list of several errors
        lines = [line for line in lines if not line.startswith("  ") or line.lstrip().startswith("(")]
    reasons = [line.strip() for line in lines if line.strip() and not _FRAME.match(line.strip())]
    reason = _ONNX_NODE.sub(r"\1 \2: ", _ONNX_RUNTIME.sub("", (reasons or lines)[0][:_MOST_LINE]))
    reason = _FUNCTION.sub("", reason).strip()
    reason = _FOREIGN_FLAG.sub("", reason).strip() or reason
    node = _NODE.search(text)
    name = (node[1] or node[2]) if node else ""
    return f"{name}: {reason}" if name and name not in reason else reason


@contextmanager
def foreign_errors(
    kind: type[Tpu2GpuError],
    message: str,
    *,
    details: Sequence[str] = (),
    hint: str = "",
    catch: type[Exception] | tuple[type[Exception], ...] = Exception,
    let_pass: type[Exception] | tuple[type[Exception], ...] = (),
) -> Iterator[None]:
    """Turn errors that a library raises in the block into one of ours; ours pass as they are.

    Args:
        kind: The error to raise instead.
        message: What failed; the reason that the library gave follows it in brackets.
        details: Further findings, read when the error is raised.
        hint: What the user can do about it.
        catch: The library's errors; any where it has no common base for them.
        let_pass: Errors that stay as they are.

    Raises:
        Tpu2GpuError: The block raised an error that is caught; of the type `kind`.
    """
    try:
        yield
    except Tpu2GpuError:
        raise
    except let_pass:
        raise
    except catch as error:
        raise kind(f"{message} ({first_line(error)})", details=details, hint=hint) from error
