"""What is in a program that XLA has optimised: kernels, memory traffic, convolutions, collectives.

Read from the text of the program (HLO), which is the same for every kind of device.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

# What computes nothing by itself, or is counted where it leads to.
_FREE = {
    *("parameter", "constant", "iota", "bitcast", "tuple", "get-tuple-element", "after-all"),
    *("while", "conditional", "call", "partition-id", "replica-id", "opt-barrier"),
}
# The second half of an operation that was counted at its first.
_SECOND_HALVES = ("-done", "-update")
_COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")
_HEAD = re.compile(r"(?:ENTRY )?%?([\w.-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"  (?:ROOT )?%?([\w.-]+) = (.+)")
_SHAPE = re.compile(r"\b([a-z]+\d*[a-z\d]*)\[([\d,]*)\](?:\{([\d,]*))?")
_BITS = {"pred": 8, "token": 0}
# What exchanges with the host, besides calls of a function there.
_HOST = {"infeed", "outfeed", "send", "recv"}


@dataclass(frozen=True)
class Array:
    """Type, shape and order of the axes in memory, the fastest first."""

    dtype: str
    shape: tuple[int, ...]
    order: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """How many values it has."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes in memory, without padding."""
        if self.dtype in _BITS:
            return self.size * _BITS[self.dtype] // 8
        bits = re.search(r"\d+", self.dtype)
        return self.size * int(bits[0]) // 8 if bits else 0


@dataclass(frozen=True)
class Instruction:
    """A line of a program.

    Attributes:
        name: unique in it.
        operation: such as fusion, or custom-call.
        results: its results, flat.
        operands: names of instructions.
        attributes: the rest of the line.
    """

    name: str
    operation: str
    results: tuple[Array, ...]
    operands: tuple[str, ...]
    attributes: str


@dataclass(frozen=True)
class Program:
    """The instructions of the part of a program that is repeated: a step of training.

    Attributes:
        step: instructions of the loop's body, or of the whole program where there is no loop.
        inner: instructions of all computations that they call.
        loops: of each loop within the step, what one of its passes does; how many there are may
            depend on the data, so that they are not in the step's kernels and traffic.
    """

    step: tuple[Instruction, ...]
    inner: tuple[Instruction, ...]
    loops: tuple["Program", ...] = ()

    @property
    def kernels(self) -> int:
        """How many kernels, library calls and copies a step starts."""
        return len(self._kernels)

    @property
    def traffic(self) -> int:
        """Bytes that they read and write, if nothing stays in a cache between two of them.

        Of an array that a fusion only takes a slice of, the whole counts.
        """
        return sum(self.traffic_of.values())

    @property
    def traffic_of(self) -> dict[str, int]:
        """Bytes that each kernel reads and writes, by its name."""
        results = {one.name: sum(a.nbytes for a in one.results) for one in self.step}
        return {
            one.name: results[one.name] + sum(results.get(name, 0) for name in one.operands)
            for one in self._kernels
        }

    @property
    def sorts(self) -> list[int]:
        """Of each sort, how many elements it puts in order; a choice of the largest k is none."""
        return sorted(one.results[0].size for one in self._all("sort") if not _selects(one))

    @property
    def selections(self) -> list[int]:
        """Of each choice of the largest k that is made by sorting, from how many elements."""
        return sorted(one.results[0].size for one in self._all("sort") if _selects(one))

    @property
    def host_calls(self) -> int:
        """How often the host is asked for something."""
        calls = (one for one in self._all("custom-call") if "callback" in one.attributes)
        return len([*calls, *(one for name in _HOST for one in self._all(name))])

    @property
    def convolutions(self) -> list[Instruction]:
        """Convolutions, and calls of a library's."""
        calls = [one for one in self._all("custom-call") if "$conv" in one.attributes]
        return [*self._all("convolution"), *calls]

    @property
    def collectives(self) -> list[int]:
        """Of each exchange between devices, the bytes of its result."""
        return [
            sum(array.nbytes for array in one.results)
            for one in (*self.step, *self.inner)
            if one.operation.removesuffix("-start") in _COLLECTIVES
        ]

    @property
    def beside_collectives(self) -> int:
        """How many kernels are started while an exchange between devices is under way."""
        kernels = {one.name for one in self._kernels}
        under_way = count = 0
        for one in self.step:  # in the order in which they are started
            name, _, half = one.operation.rpartition("-")
            if name in _COLLECTIVES and half in ("start", "done"):
                under_way += 1 if half == "start" else -1
            elif under_way and one.name in kernels:
                count += 1
        return count

    @property
    def _kernels(self) -> list[Instruction]:
        return [
            one
            for one in self.step
            if one.operation not in _FREE and not one.operation.endswith(_SECOND_HALVES)
        ]

    def _all(self, operation: str) -> Iterator[Instruction]:
        return (one for one in (*self.step, *self.inner) if one.operation == operation)


def read_program(text: str) -> Program:
    """Read the text of an optimised program.

    Args:
        text: as ``compiled.as_text()`` gives it.

    Raises:
        ValueError: there is no program in it.
    """
    computations: dict[str, list[Instruction]] = {}
    entry, current = "", ""
    for line in text.splitlines():
        if head := _HEAD.match(line):
            current = head[1]
            computations[current] = []
            entry = current if line.startswith("ENTRY") else entry
        elif current and (found := _INSTRUCTION.match(line)):
            computations[current].append(_instruction(found[1], found[2]))
    if not entry:
        raise ValueError("this is no text of an optimised program")
    # The steps' loop is the longest; short ones draw random numbers.
    loops = _loops(computations, entry)
    return _program(
        computations, max(loops, key=lambda name: len(computations[name]), default=entry)
    )


def _program(computations: dict[str, list[Instruction]], name: str) -> Program:
    """Return what a computation does, and one pass of each loop in it."""
    return Program(
        tuple(computations[name]),
        tuple(_called(computations, name)),
        tuple(_program(computations, body) for body in _loops(computations, name)),
    )


def _loops(computations: dict[str, list[Instruction]], name: str) -> list[str]:
    """Return the bodies of a computation's loops."""
    return [
        body[1]
        for one in computations[name]
        if one.operation == "while" and (body := re.search(r"body=%?([\w.-]+)", one.attributes))
    ]


def _selects(sort: Instruction) -> bool:
    """Whether only the largest k of what is sorted are wanted."""
    return 'top_k"' in sort.attributes


def _called(computations: dict[str, list[Instruction]], name: str) -> Iterator[Instruction]:
    """Yield the instructions of what a computation calls, and of what that calls."""
    for one in computations[name]:
        for inner in re.findall(r"(?:calls|to_apply|body|condition)=%?([\w.-]+)", one.attributes):
            yield from computations.get(inner, [])
            yield from _called(computations, inner) if inner in computations else ()


def _instruction(name: str, text: str) -> Instruction:
    """Read what stands right of the equals sign."""
    results, rest = _split(text) if text.startswith("(") else text.split(" ", 1)
    operation, _, rest = rest.strip().partition("(")
    operands, attributes = _split(f"({rest}")
    arrays = tuple(_arrays(results))
    if operation == "all-reduce-start" and len(arrays) > 1:  # in front: its operands once more
        arrays = arrays[len(arrays) // 2 :]
    return Instruction(
        name,
        operation,
        arrays,
        tuple(re.findall(r"%([\w.-]+)", operands)),
        attributes,
    )


def _split(text: str) -> tuple[str, str]:
    """Divide a text behind the parenthesis that closes its first one."""
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if not depth:
            return text[: place + 1], text[place + 1 :]
    return text, ""


def _arrays(text: str) -> Iterator[Array]:
    for dtype, shape, order in _SHAPE.findall(text):
        numbers = [tuple(int(n) for n in part.split(",") if n) for part in (shape, order)]
        yield Array(dtype, *numbers)
