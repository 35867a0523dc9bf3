"""Run on the CPU what Triton has compiled for an NVIDIA GPU: the PTX of a kernel.

Triton's interpreter runs a kernel's Python. This shows the rest: layouts in registers and shared
memory, masked vector loads, loads that are started early, barriers. The threads of a warp run in
step, each register is an array of 32 numbers, and warps take turns in any order between barriers.
Not shown: what `ptxas` makes of the PTX, and a GPU's approximations of exponentials and quotients.
"""

from __future__ import annotations

import ctypes
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import Tensor

Numbers = NDArray[Any]
Grid = tuple[int, ...]
LANES = np.arange(32)
GROUP, PLACE = LANES >> 2, LANES & 3
"""Of a lane in a product of matrices."""
TF32 = np.uint32(0xFFFFE000)
"""The bits of a float32 that a product in TF32 uses."""
COMPARISONS: Mapping[str, Any] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "neu": np.not_equal,
    "num": lambda one, other: ~np.isnan(one) & ~np.isnan(other),
    "nan": lambda one, other: np.isnan(one) | np.isnan(other),
}
ARITHMETIC: Mapping[str, Any] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "max": np.fmax,
    "min": np.fmin,
    "neg": np.negative,
    "abs": np.abs,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "not": np.invert,
    "shl": np.left_shift,
    "shr": np.right_shift,
    "mad": lambda one, other, third: one * other + third,
    "fma": lambda one, other, third: (one.astype(np.float64) * other + third).astype(np.float32),
    "ex2": lambda one: np.exp2(one.astype(np.float64)).astype(np.float32),
}


class Memory:
    """Numbers at addresses; an access elsewhere is an error."""

    def __init__(self, parts: Sequence[tuple[int, int]] = (), *, shared: int = 0) -> None:
        """
        Args:
            parts: addresses of the first byte and after the last of what is there in this process.
            shared: bytes of new memory at 0 instead.
        """
        self._parts: list[tuple[int, int, Numbers]] = []
        for begin, end in parts:
            base, size = begin // 8 * 8, -(-end // 8) * 8 - begin // 8 * 8
            there = (ctypes.c_uint8 * size).from_address(base)
            self._parts.append((begin, end, np.ctypeslib.as_array(there)))
        if shared:
            self._parts.append((0, shared, np.full(-(-shared // 8) * 8, 0xFF, np.uint8)))

    def read(self, places: Numbers, bits: int) -> Numbers:
        found = np.zeros(len(places), f"u{bits // 8}")
        for chosen, numbers, index in self._found(places, bits):
            found[chosen] = numbers[index]
        return found

    def write(self, places: Numbers, bits: int, values: Numbers) -> None:
        for chosen, numbers, index in self._found(places, bits):
            numbers[index] = values[chosen]

    def _found(self, places: Numbers, bits: int) -> Iterator[tuple[Numbers, Numbers, Numbers]]:
        size = bits // 8
        assert not (places % size).any(), "misaligned access"
        left = len(places)
        for begin, end, numbers in self._parts:
            if not left:
                break
            (chosen,) = np.nonzero((places >= begin) & (places + size <= end))
            if len(chosen):
                left -= len(chosen)
                yield chosen, numbers.view(f"u{size}"), (places[chosen] - begin // 8 * 8) // size
        assert not left, "access outside of the kernel's memory"


@dataclass(frozen=True, slots=True)
class Instruction:
    """One line of PTX."""

    name: tuple[str, ...]
    """Parts of the name between dots."""
    operands: tuple[str, ...]
    predicate: str
    """Register of the lanes that do it; empty: all."""
    unless: bool
    """The other lanes do it."""


@dataclass(frozen=True, slots=True)
class Program:
    """The PTX of a kernel."""

    parameters: tuple[str, ...]
    threads: int
    instructions: tuple[Instruction, ...]
    labels: Mapping[str, int]

    @classmethod
    def parsed(cls, ptx: str) -> Program:
        threads = re.search(r"\.reqntid (\d+)", ptx)
        assert threads is not None
        body = ptx[ptx.index("$L__func_begin0:") : ptx.index("$L__func_end0")]
        instructions: list[Instruction] = []
        labels: dict[str, int] = {}
        for line in re.sub(r"//.*", "", body).splitlines():
            if label := re.fullmatch(r"(\$?\w+):", line.strip()):
                labels[label[1]] = len(instructions)
                continue
            for part in line.split(";"):
                found = re.fullmatch(r"(?:@(!?)(%p\d+)\s+)?([a-z][\w.]*)\s*(.*)", part.strip())
                if found:
                    operands = re.findall(r"\{[^}]*\}|\[[^\]]*\]|[^,\s]+", found[4])
                    name = tuple(found[3].split("."))
                    instructions.append(
                        Instruction(name, tuple(operands), found[2] or "", found[1] == "!")
                    )
        parameters = re.findall(r"\.param \.u\d+[^,\n]*?(\w+_param_\d+)", ptx)
        return cls(tuple(parameters), int(threads[1]), tuple(instructions), labels)


def run(ptx: str, shared: int, grid: Grid, arguments: Sequence[Tensor | int]) -> None:
    """Run a kernel on tensors in main memory.

    Args:
        shared: bytes of a program's shared memory.
        arguments: what isn't a constant, in the kernel's order.
    """
    program = Program.parsed(ptx)
    bounds = [bounds_of(one) for one in arguments if isinstance(one, Tensor) and one.numel()]
    values = [one.data_ptr() if isinstance(one, Tensor) else one for one in arguments]
    values += [0] * (len(program.parameters) - len(values))  # pointers to memory of no size
    parameters = dict(zip(program.parameters, values, strict=True))
    order = random.Random(1)
    with np.errstate(all="ignore"):
        for place in np.ndindex(*grid):
            memory = {"global": Memory(bounds), "shared": Memory(shared=shared)}
            warps = [
                Warp(program, memory, parameters, place, 32 * number).run()
                for number in range(program.threads // 32)
            ]
            while warps:  # each to its next barrier, or to its end
                order.shuffle(warps)
                going = [warp for warp in warps if next(warp, None) is not None]
                assert len(going) in (0, len(warps)), "some warps ended before a barrier"
                warps = going


def bounds_of(tensor: Tensor) -> tuple[int, int]:
    """Addresses of a tensor's first byte and of the one after its last."""
    last = sum((n - 1) * by for n, by in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + (1 + last) * tensor.element_size()


class Warp:
    """32 threads."""

    def __init__(
        self,
        program: Program,
        memory: Mapping[str, Memory],
        parameters: Mapping[str, int],
        place: Grid,
        first: int,
    ) -> None:
        """
        Args:
            place: of its program in the grid.
            first: number of its first thread.
        """
        self._program, self._memory, self._parameters = program, memory, parameters
        self._registers: dict[str, Numbers] = {"%tid.x": (first + LANES).astype(np.uint32)}
        for axis, index in zip("xyz", (*place, 0, 0), strict=False):
            self._registers[f"%ctaid.{axis}"] = np.full(32, index, np.uint32)
        self._copies: list[list[tuple[Numbers, Numbers]]] = [[]]
        """Groups of copies to shared memory that haven't arrived: addresses and values."""

    def run(self) -> Iterator[bool]:
        """Yields at each barrier."""
        at = 0
        while True:
            it = self._program.instructions[at]
            at += 1
            lanes = np.ones(32, np.bool_)
            if it.predicate:
                lanes = self._registers[it.predicate] != it.unless
            match it.name[0]:
                case "ret":
                    return
                case "bar":
                    yield True
                case "bra":
                    assert lanes.all() or not lanes.any(), "the threads of a warp part"
                    at = self._program.labels[it.operands[0]] if lanes.all() else at
                case "ld" | "st" | "cp" | "ldmatrix" | "stmatrix":
                    self._move(it, lanes)
                case "mov" if it.operands[0][0] == "{":  # into two registers of half the size
                    low, high = re.findall(r"%\w+", it.operands[0])
                    value = self._value(it.operands[1])
                    self._set(low, value.astype(np.uint16), lanes)
                    self._set(high, (value >> np.uint32(16)).astype(np.uint16), lanes)
                case "mma":
                    self._multiply(*(re.findall(r"%\w+", one) for one in it.operands))
                case _:
                    self._set(it.operands[0], self._result(it), lanes)

    def _value(self, token: str, kind: str = "b32") -> Numbers:
        """A register or number, seen as a type such as s32."""
        letter, bits = {"s": "i", "f": "f"}.get(kind[0], "u"), int(kind[1:]) // 8
        if token == "global_smem":
            found = np.zeros(32, np.uint32)
        elif token[0] == "%":
            found = self._registers[token]
        else:
            number = int(token[2:], 16) if token.startswith("0f") else int(token, 0)
            found = np.full(32, number & (2 ** (8 * bits) - 1), f"u{bits}")
        return found.view(f"{letter}{bits}")

    def _set(self, register: str, value: Numbers, lanes: Numbers) -> None:
        if value.dtype != np.bool_:
            value = value.view(f"u{value.itemsize}")
        if not lanes.all():
            value = np.where(lanes, value, self._registers[register])
        self._registers[register] = value

    def _places(self, operand: str) -> Numbers:
        base, _, offset = operand.strip("[] ").replace(" ", "").partition("+")
        kind = "b64" if base.startswith("%rd") else "b32"
        return self._value(base, kind).astype(np.int64) + int(offset or "0", 0)

    def _move(self, it: Instruction, lanes: Numbers) -> None:
        everywhere = np.ones(32, np.bool_)
        if it.name[:2] == ("ld", "param"):
            number = self._parameters[it.operands[1].strip("[]")]
            bits = int(it.name[2][1:])
            value = np.full(32, number & (2**bits - 1), f"u{bits // 8}")
            self._set(it.operands[0], value, everywhere)
        elif it.name[0] in ("ldmatrix", "stmatrix"):  # 8 rows of 16 bytes for each register
            assert "trans" not in it.name
            loads, shared = it.name[0] == "ldmatrix", self._memory["shared"]
            numbers, address = it.operands if loads else it.operands[::-1]
            places = self._places(address)
            for number, register in enumerate(re.findall(r"%\w+", numbers)):
                there = places[8 * number + GROUP] + 4 * PLACE
                if loads:
                    self._set(register, shared.read(there, 32), everywhere)
                else:
                    shared.write(there, 32, self._value(register))
        elif it.name[0] == "cp":
            self._copy(it, lanes)
        else:
            loads, memory, bits = it.name[0] == "ld", self._memory[it.name[1]], int(it.name[-1][1:])
            numbers, address = it.operands if loads else it.operands[::-1]
            tokens = re.findall(r"[%\w-]+", numbers)
            places = self._places(address)[lanes]
            assert not (places % (len(tokens) * bits // 8)).any(), "misaligned access"
            for number, token in enumerate(tokens):
                there = places + number * bits // 8
                if loads:
                    value = np.zeros(32, f"u{bits // 8}")
                    value[lanes] = memory.read(there, bits)
                    self._set(token, value, lanes)
                else:
                    memory.write(there, bits, self._value(token, f"b{bits}")[lanes])

    def _copy(self, it: Instruction, lanes: Numbers) -> None:
        """Copies to shared memory arrive as late as they may."""
        if it.name[2] == "commit_group":
            self._copies.append([])
        elif it.name[2] == "wait_group":
            kept = 1 + int(it.operands[0])
            for group in self._copies[:-kept]:
                for places, values in group:
                    self._memory["shared"].write(places, 32, values)
            self._copies = self._copies[-kept:]
        else:
            to, source, size, given = it.operands
            for offset in range(0, int(size, 0), 4):
                values = np.zeros(32, np.uint32)
                real = lanes & (self._value(given) > offset)  # zeros behind what is given
                values[real] = self._memory["global"].read(self._places(source)[real] + offset, 32)
                self._copies[-1].append((self._places(to)[lanes] + offset, values[lanes]))

    def _multiply(
        self, result: list[str], left: list[str], right: list[str], addend: list[str]
    ) -> None:
        """16 x 8 numbers times 8 x 8, in TF32."""

        def matrix(rows: int, tokens: list[str], places: list[tuple[Any, Any]]) -> Numbers:
            found = np.zeros((rows, 8), np.float32)
            for token, (row, column) in zip(tokens, places, strict=True):
                found[row, column] = self._value(token, "f32")
            return found

        def rounded(given: Numbers) -> Numbers:
            return (given.view(np.uint32) & TF32).view(np.float32).astype(np.float64)

        lefts = [(GROUP + r, PLACE + c) for c in (0, 4) for r in (0, 8)]
        rights = [(PLACE + r, GROUP) for r in (0, 4)]
        sums = [(GROUP + r, 2 * PLACE + c) for r in (0, 8) for c in (0, 1)]
        product = rounded(matrix(16, left, lefts)) @ rounded(matrix(8, right, rights))
        total = (product + matrix(16, addend, sums)).astype(np.float32)
        for token, (row, column) in zip(result, sums, strict=True):
            self._registers[token] = total[row, column].view(np.uint32)

    def _result(self, it: Instruction) -> Numbers:
        """Of an instruction that changes one register."""
        name, kind, operands = it.name[0], it.name[-1], it.operands[1:]
        if kind == "pred":
            given = [
                self._registers[one] if one[0] == "%" else np.full(32, one != "0")
                for one in operands
            ]
            return given[0] if name == "mov" else np.asarray(ARITHMETIC[name](*given))
        if name == "mov" and operands[0][0] == "{":
            low, high = (self._registers[one] for one in re.findall(r"%\w+", operands[0]))
            return low.astype(np.uint32) | high.astype(np.uint32) << np.uint32(16)
        if name == "mov":
            return self._value(operands[0], kind)
        if name == "setp":
            one, other = (self._value(operand, kind) for operand in operands[:2])
            return np.asarray(COMPARISONS[it.name[1]](one, other))
        if name == "selp":
            one, other = (self._value(operand, kind) for operand in operands[:2])
            return np.where(self._registers[operands[2]], one, other)
        if name == "shfl":
            lane = self._value(operands[1]).astype(np.int64)
            return self._value(operands[0])[LANES ^ lane if it.name[2] == "bfly" else lane]
        if name == "cvt":
            return self._converted(it)
        if name == "bfe":
            first, size = (int(operand, 0) for operand in operands[1:])
            shifted = self._value(operands[0], kind) << (32 - first - size)
            return np.asarray(shifted >> (32 - size))
        if name not in ARITHMETIC:
            pytest.skip(f"this version of Triton uses {'.'.join(it.name)}, which isn't known here")
        given = [self._value(operand, kind) for operand in operands]
        if "wide" in it.name:
            given[:2] = [one.astype(f"{one.dtype.kind}8") for one in given[:2]]
            given[2:] = [self._value(one, f"{kind[0]}64") for one in operands[2:]]
        elif name in ("shl", "shr"):
            given[1] = self._value(operands[1]).astype(given[0].dtype)
        elif name == "div" and kind[0] != "f":
            return np.trunc(given[0] / given[1]).astype(given[0].dtype)
        return np.asarray(ARITHMETIC[name](*given))

    def _converted(self, it: Instruction) -> Numbers:
        to, of = it.name[-2:]
        if to == "bf16x2":
            high, low = (_to_bf16(self._value(operand)) for operand in it.operands[1:])
            return high << np.uint32(16) | low
        if of == "bf16":
            return self._registers[it.operands[1]].astype(np.uint32) << np.uint32(16)
        if to == "tf32":  # to the nearest
            return (self._value(it.operands[1]) + np.uint32(0x1000)) & TF32
        letter = {"s": "i", "f": "f", "u": "u"}[to[0]]
        return self._value(it.operands[1], of).astype(f"{letter}{int(to[1:]) // 8}")


def _to_bf16(bits: Numbers) -> Numbers:
    """Upper half of float32 numbers, rounded to the nearest, ties to even."""
    wide = bits.astype(np.uint64)
    rounded = (wide + 0x7FFF + ((wide >> 16) & 1)) >> 16
    return np.where(np.isnan(bits.view(np.float32)), 0x7FFF, rounded).astype(np.uint32)
