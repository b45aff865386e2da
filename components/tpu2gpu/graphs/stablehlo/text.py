"""Read the text form of a StableHLO module, as TensorFlow prints it: pretty and generic operations alike."""

from __future__ import annotations

import re
from typing import Any

from tpu2gpu.errors import GraphError, UnsupportedError
from tpu2gpu.graphs.stablehlo.elements import array_attribute, dense_elements
from tpu2gpu.graphs.stablehlo.program import Block, Function, Operation, Program, TensorType

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<type>(?:tensor|memref|vector|tuple|complex)<(?:[^<>]|<(?:[^<>]|<[^<>]*>)*>)*>|![\w.]+)
    | (?P<dense>dense(?:_resource)?<(?:"[^"]*"|[^>"]*)>)
    | (?P<array>array<[^>]*>)
    | (?P<opaque>\#[\w.]+(?:<(?:[^<>]|<[^<>]*>)*>)?)
    | (?P<string>"(?:[^"\\]|\\.)*")
    | (?P<value>%[\w$.-]+(?:\#\d+)?)
    | (?P<symbol>@(?:[\w$.-]+|"(?:[^"\\]|\\.)*"))
    | (?P<block>\^\w+)
    | (?P<number>-?(?:0x[0-9A-Fa-f]+|\d+(?:\.\d*)?(?:[eE][+-]?\d+)?))
    | (?P<word>[A-Za-z_][\w$]*(?:\.[\w$]+)*)
    | (?P<mark>->|<\{|\}>|[-=:,(){}\[\]<>*?/])
    )""",
    re.VERBOSE,
)
_Token = tuple[str, str]
_END: _Token = ("end", "")
_TENSOR = re.compile(r"tensor<((?:(?:\d+|\?)x)*)([^,]+?)(?:,.*)?>")


def parse_module(text: str) -> Program:
    """Read a module.

    Raises:
        GraphError: The text is no such module.
    """
    return _Parser(text).module()


def parse_type(text: str) -> TensorType:
    """Read a tensor's type.

    Raises:
        UnsupportedError: It is no tensor.
    """
    found = _TENSOR.fullmatch(text)
    if found is None:
        raise UnsupportedError(f"StableHLO's type {text} is no tensor")
    sizes = tuple(None if size == "?" else int(size) for size in found[1].split("x")[:-1])
    return TensorType(sizes, found[2].strip())


class _Parser:
    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self._next = self._read()

    def _read(self) -> _Token:
        found = _TOKEN.match(self._text, self._at)
        if found is None:
            rest = self._text[self._at : self._at + 200].lstrip()
            if rest:
                self._at = self._text.index(rest, self._at)
                raise self._error(rest.splitlines()[0][:40])
            return _END
        self._at = found.end()
        return str(found.lastgroup), found[str(found.lastgroup)]

    def _error(self, found: str) -> GraphError:
        line = self._text.count("\n", 0, self._at) + 1
        return GraphError(f"the StableHLO module cannot be read: line {line}: unexpected {found!r}")

    def _take(self) -> str:
        if self._next is _END:
            raise self._error("end")
        token = self._next[1]
        self._next = self._read()
        return token

    def _is(self, text: str) -> bool:
        return self._next[1] == text and self._next[0] != "string"

    def _try(self, text: str) -> bool:
        if self._is(text):
            self._take()
            return True
        return False

    def _expect(self, text: str) -> None:
        if not self._try(text):
            raise self._error(self._next[1])

    def module(self) -> Program:
        functions: dict[str, Function] = {}
        self._expect("module")
        if self._next[0] == "symbol":
            self._take()
        if self._try("attributes"):
            self._dictionary()
        self._expect("{")
        while not self._try("}"):
            if self._is("func.func"):
                function = self._function()
                functions[function.name] = function
            else:
                self._take()  # meshes of sharding and the like
        return functions

    def _function(self) -> Function:
        self._take()
        while self._next[0] == "word":
            self._take()
        name = self._take().lstrip("@").strip('"')
        arguments, types, attributes = [], [], []
        self._expect("(")
        while not self._try(")"):
            arguments.append(self._take())
            self._expect(":")
            types.append(self._type())
            attributes.append(self._dictionary() if self._is("{") else {})
            self._try(",")
        if self._try("->"):
            self._result_types()
        if self._try("attributes"):
            self._dictionary()
        return Function(name, Block(arguments, self._operations()), types, attributes)

    def _result_types(self) -> None:
        if not self._try("("):
            self._take()
            return
        while not self._try(")"):
            self._take()
            if self._is("{"):
                self._dictionary()
            self._try(",")

    def _operations(self) -> list[Operation]:
        self._expect("{")
        found = []
        while not self._try("}"):
            found.append(self._operation())
        return found

    def _block(self) -> Block:
        """Read a region in braces, with its arguments where it names some."""
        self._expect("{")
        arguments = []
        if self._next[0] == "block":
            self._take()
            if self._is("("):
                arguments = self._typed_names()
            self._expect(":")
        found = []
        while not self._try("}"):
            found.append(self._operation())
        return Block(arguments, found)

    def _typed_names(self) -> list[str]:
        names = []
        self._expect("(")
        while not self._try(")"):
            names.append(self._take())
            self._expect(":")
            self._take()
            self._try(",")
        return names

    def _operation(self) -> Operation:
        results: list[str] = []
        while self._next[0] == "value":
            name = self._take()
            count = int(self._take()) if self._try(":") else 0
            results += [f"{name}#{place}" for place in range(count)] if count else [name]
            self._try(",")
        if results:
            self._expect("=")
        if self._next[0] not in ("word", "string"):
            raise self._error(self._next[1])
        operation = Operation(self._take().strip('"'), results=results)
        special = {"stablehlo.while": self._while, "stablehlo.reduce": self._reduce}.get(operation.name)
        if special is not None and self._is("("):
            special(operation)
        else:
            self._rest(operation)
        if operation.name == "stablehlo.reduce" and self._is("reducer"):
            self._reducer(operation)
        return operation

    def _rest(self, operation: Operation) -> None:
        """Read what follows an operation's name: operands, words, attributes and regions in any order, and types."""
        attributes = operation.attributes
        while not self._is(":"):
            kind, text = self._next
            if kind == "value":
                operation.operands.append(self._take())
            elif text == "<{" and kind == "mark":
                self._take()
                attributes.update(self._entries("}>"))
            elif text == "{" and kind == "mark":
                attributes.update(self._dictionary())
            elif text == "[" and kind == "mark":
                attributes["ranges"] = self._ranges()
            elif text == "(" and kind == "mark":
                self._take()
                if self._is("{"):
                    while not self._try(")"):
                        operation.regions.append(self._block())
                        self._try(",")
            elif kind == "mark" and text in "),":
                self._take()
            elif kind == "symbol":
                attributes["symbol"] = self._take()[1:].strip('"')
            elif kind == "word":
                self._word(operation)
                if operation.name.endswith("return") and self._is("}"):
                    return
            elif kind in ("dense", "string", "opaque", "array", "number"):
                attributes["value"] = self._value()
            elif text == "}" and kind == "mark":  # a return of nothing, or an operation without types
                return
            else:
                raise self._error(text)
            if self._is("}") and operation.name.endswith("return"):
                return
            if operation.name == "stablehlo.constant" and "value" in attributes:
                operation.types = [TensorType(attributes["value"].shape, "")]
                return
        self._take()
        operation.types = self._types(len(operation.results), operation.name)

    def _word(self, operation: Operation) -> None:
        word = self._take()
        if not self._try("="):
            operation.attributes.setdefault("words", []).append(word)
            return
        values = [self._value(typed=False)]
        while self._is("x") or self._is("->"):
            self._take()
            values.append(self._value(typed=False))
        operation.attributes[word] = values if len(values) > 1 else values[0]

    def _while(self, operation: Operation) -> None:
        names = []
        self._expect("(")
        while not self._try(")"):
            names.append(self._take())
            self._expect("=")
            operation.operands.append(self._take())
            self._try(",")
        self._expect(":")
        operation.types = [self._type()] if names else []
        while self._try(","):
            operation.types.append(self._type())
        if self._try("attributes"):
            self._dictionary()
        for word in ("cond", "do"):
            self._expect(word)
            operation.regions.append(Block(list(names), self._block().operations))

    def _reduce(self, operation: Operation) -> None:
        initial = []
        while self._try("("):
            operation.operands.append(self._take())
            self._expect("init")
            self._expect(":")
            initial.append(self._take())
            self._expect(")")
            self._try(",")
        operation.operands += initial
        if self._try("applies"):
            operation.attributes["applies"] = self._take()
        self._expect("across")
        self._rest(operation)

    def _reducer(self, operation: Operation) -> None:
        """Read the arguments, pair by pair, and the body: the block takes all left ones, then all right ones."""
        self._take()
        pairs = []
        while self._is("("):
            pairs.append(self._typed_names())
        arguments = [pair[0] for pair in pairs] + [pair[1] for pair in pairs]
        operation.regions = [Block(arguments, self._block().operations)]

    def _types(self, count: int, name: str) -> list[TensorType]:
        """Read `(types) -> types`, or types; of these the last ones are the results'."""
        if self._try("("):
            while not self._try(")"):
                self._take()
            self._expect("->")
            if not self._try("("):
                return [self._type()]
            found = []
            while not self._try(")"):
                found.append(self._type())
                self._try(",")
            return found
        found = [self._type()]
        while self._try(","):
            found.append(self._type())
        return found[len(found) - count :] if count else found

    def _type(self) -> TensorType:
        kind, text = self._next
        if kind != "type":
            raise self._error(text)
        self._take()
        return parse_type(text) if text.startswith("tensor") else TensorType((), text)

    def _dictionary(self) -> dict[str, Any]:
        self._expect("{")
        return self._entries("}")

    def _entries(self, end: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not self._try(end):
            key = self._take().strip('"')
            found[key] = self._value() if self._try("=") else True
            self._try(",")
        return found

    def _value(self, *, typed: bool = True) -> Any:
        kind, text = self._next
        if kind == "mark" and text == "[":
            return self._list()
        if kind == "mark" and text == "{":
            return self._dictionary()
        if kind == "mark" and text == "<":
            return self._angled()
        self._take()
        if kind == "dense":
            self._expect(":")
            return dense_elements(text, self._type())
        if kind == "array":
            return array_attribute(text)
        if kind == "string":
            return text[1:-1]
        if kind == "symbol":
            return text[1:].strip('"')
        if kind == "number":
            value: Any = int(text, 0) if re.fullmatch(r"-?(0x[0-9A-Fa-f]+|\d+)", text) else float(text)
            if typed and self._try(":"):
                self._take()
            return value
        if kind == "opaque" and "<" in text:
            return _opaque(text)
        return {"true": True, "false": False}.get(text, text)

    def _list(self) -> list[Any]:
        found = []
        self._expect("[")
        while not self._try("]"):
            found.append(self._value())
            self._try(",")
        return found

    def _angled(self) -> str:
        """Read what stands between `<` and its `>` as it is."""
        words, depth = [], 0
        while True:
            depth += {"<": 1, ">": -1}.get(self._next[1], 0)
            words.append(self._take())
            if depth == 0:
                return " ".join(words[1:-1])

    def _ranges(self) -> list[tuple[int, int, int]]:
        """Read `[0:1, 2:8:2]`."""
        found = []
        self._expect("[")
        while not self._try("]"):
            numbers = [int(self._take())]
            while self._try(":"):
                numbers.append(int(self._take()))
            found.append((numbers[0], numbers[1], numbers[2] if len(numbers) > 2 else 1))
            self._try(",")
        return found


def _opaque(text: str) -> Any:
    """Read `#stablehlo.gather<offset_dims = [2], index_vector_dim = 2>` as a mapping, `#stablehlo<x GT>` as `GT`."""
    inner = text[text.index("<") + 1 : -1]
    if "=" not in inner:
        return inner.split()[-1] if inner.split() else ""
    pairs = re.findall(r"(\w+)\s*=\s*(\[[^\]]*\]|[^,\s]+)", inner)
    return {
        key: [int(it) for it in re.findall(r"-?\d+", value)] if value[0] == "[" else _plain(value)
        for key, value in pairs
    }


def _plain(value: str) -> Any:
    return int(value) if re.fullmatch(r"-?\d+", value) else value
