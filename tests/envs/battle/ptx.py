"""Code for a GPU, run on the CPU: PTX as C, instruction by instruction as NVIDIA's manual of PTX describes them.

Only what our kernels are made of is known: one entry without calls, barriers or memory of its own. ``.rn`` rounds to
the nearest number, as C's operators do when its compiler may not fuse them. A product and a sum without ``.rn``, which
the assembler may fuse, are not known; ``rcp.approx``, the start of an arc tangent, is the exact quotient here.
"""

import ctypes
import re
import shutil
import struct
import subprocess

import numpy as np

C_COMPILER = shutil.which("cc")

_HEAD = """
#include <math.h>
#include <stdint.h>
#include <string.h>

static double double_of(uint64_t bits) { double x; memcpy(&x, &bits, 8); return x; }
static float float_of(uint32_t bits) { float x; memcpy(&x, &bits, 4); return x; }

/* Of two zeros, that with the sign is the lesser; of a number and none, the number is both. */
static double fmax_(double a, double b) {
    return isnan(a) ? b : isnan(b) ? a : a > b ? a : b > a ? b : signbit(a) ? b : a;
}
static double fmin_(double a, double b) {
    return isnan(a) ? b : isnan(b) ? a : a < b ? a : b < a ? b : signbit(a) ? a : b;
}

static int64_t whole(double x) {
    return isnan(x) ? INT64_MIN : x >= 0x1p63 ? INT64_MAX : x < -0x1p63 ? INT64_MIN : (int64_t)x;
}

static uint64_t shl(uint64_t a, uint32_t by) { return by > 63 ? 0 : a << by; }
static uint64_t shr(uint64_t a, uint32_t by) { return by > 63 ? 0 : a >> by; }
static uint64_t sar(int64_t a, uint32_t by) { return a >> (by > 63 ? 63 : by); }

static uint64_t bfi(uint64_t field, uint64_t into, uint32_t at, uint32_t length) {
    uint64_t mask = shl(length > 63 ? ~0ull : (1ull << length) - 1, at);
    return (into & ~mask) | (shl(field, at) & mask);
}

void run(const uint64_t *parameter, uint32_t ctaid_x, uint32_t nctaid_x) {
const uint32_t tid_x = 0, ntid_x = 1;
"""

_TYPES = {kind + bits: f"{'' if kind == 's' else 'u'}int{bits}_t" for bits in ("8", "16", "32", "64") for kind in "sub"}
_TYPES |= {"f32": "float", "f64": "double", "pred": "_Bool"}

_OPERATORS = {"add": "+", "sub": "-", "mul": "*", "div": "/", "rem": "%", "and": "&", "or": "|", "xor": "^"}
_COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_UNORDERED = {"equ": "!=", "neu": "==", "ltu": ">=", "leu": ">", "gtu": "<=", "geu": "<"}
"""Comparisons that hold where these do not, so also with what is no number."""


class Program:
    """A kernel's code, ready to run thread after thread.

    Args:
        code: PTX with one entry.
        folder: Where it is compiled.
    """

    def __init__(self, code, folder):
        source, library = folder / "kernel.c", folder / "kernel.so"
        source.write_text(as_c(code))
        options = ("-O1", "-ffp-contract=off", "-fwrapv", "-fno-strict-aliasing", "-shared", "-fPIC", "-w")
        subprocess.run([C_COMPILER, *options, source, "-o", library, "-lm"], check=True)
        self._run = ctypes.CDLL(str(library)).run
        self._run.argtypes = (ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32)

    def run(self, threads, arguments):
        """Run all threads on arguments as numba passes them."""
        parameters = np.array(list(_words(arguments)), dtype=np.uint64)
        for thread in range(threads):
            self._run(parameters.ctypes.data, thread, threads)


def _words(argument):
    """What numba makes of an argument: 64 bits for each number, seven and more for an array."""
    if isinstance(argument, np.ndarray):
        yield from (0, 0, argument.size, argument.itemsize, argument.ctypes.data)
        yield from (*argument.shape, *argument.strides)
    elif isinstance(argument, tuple):
        for part in argument:
            yield from _words(part)
    elif isinstance(argument, float):
        yield struct.unpack("Q", struct.pack("d", argument))[0]
    else:
        yield int(argument) % 2**64


def as_c(code):
    """A kernel's PTX as the C function ``run``."""
    code = re.sub(r"//.*", "", code)
    (body,) = re.findall(r"\.visible \.entry [^{]*\{(.*?)\n\}", code, re.DOTALL)
    return _HEAD + "\n".join(_statement(line.strip()) for line in body.splitlines() if line.strip()) + "\n}\n"


def _statement(line):
    """A line of PTX in C."""
    if declared := re.fullmatch(r"\.reg \.(\w+)\s+%(\w+)<(\d+)>;", line):
        kind, name, number = declared.groups()
        return f"{_TYPES[kind]} " + ", ".join(f"{name}{i}" for i in range(int(number))) + ";"
    if line.endswith(":"):
        return _label(line[:-1]) + ":;"
    parts = re.fullmatch(r"(?:@(!?)%(\w+)\s+)?([\w.]+)\s*(.*);", line)
    if parts is None:
        raise ValueError(f"Expected an instruction of PTX, got {line!r}.")
    unless, condition, name, operands = parts.groups()
    operation, *modes, kind = name.split(".") if "." in name else (name, "")
    does = _instruction(operation, modes, kind, re.split(r",\s*", operands) if operands else [])
    if does is None:
        raise ValueError(f"The instruction {name} is not known here. Add it to ptx.py, after the manual of PTX.")
    return f"if ({unless}{condition}) {does}" if condition else does


def _label(name):
    return name.replace("$", "_")


def _value(operand):
    """A register or a number."""
    if constant := re.fullmatch(r"0([df])([0-9A-F]+)", operand):
        return f"double_of(0x{constant[2]}ull)" if constant[1] == "d" else f"float_of(0x{constant[2]}u)"
    if operand.startswith("%"):
        return operand[1:].replace(".", "_")
    return "INT64_MIN" if int(operand) == -(2**63) else f"{operand}ll"


def _place(operand, kind):
    """Where a load or a store goes."""
    register, offset = re.fullmatch(r"\[%(\w+)(?:\+(-?\d+))?\]", operand).groups()
    return f"*({_TYPES[kind]} *)({register} + {offset or 0}ll)"


def _instruction(operation, modes, kind, operands):
    """An instruction in C, None where it is not known."""
    if operation in ("bra", "ret"):
        return f"goto {_label(operands[0])};" if operation == "bra" else "return;"
    if operation == "ld" and modes == ["param"]:
        word = "parameter[" + re.search(r"_param_(\d+)]", operands[1])[1] + "]"
        return f"{_value(operands[0])} = {f'double_of({word})' if kind == 'f64' else word};"
    if operation == "ld" and modes in ([], ["global"]):
        return f"{_value(operands[0])} = {_place(operands[1], kind)};"
    if operation == "st" and modes in ([], ["global"]):
        return f"{_place(operands[0], kind)} = {_value(operands[1])};"
    result, *values = map(_value, operands)
    does = _expression(operation, modes, kind, values, [f"({_TYPES.get(kind)})({value})" for value in values])
    return None if does is None else f"{result} = {does};"


def _expression(operation, modes, kind, values, typed):
    """What an instruction computes; ``typed`` are its operands as numbers of its kind."""
    is_float = kind in ("f32", "f64")
    if operation in ("mov", "cvta"):
        return values[0]
    if operation == "selp":
        return f"{values[2]} ? {values[0]} : {values[1]}"
    if operation == "setp" and len(modes) == 1:
        unordered = modes[0] in _UNORDERED
        sign = _UNORDERED[modes[0]] if unordered else _COMPARISONS[modes[0]]
        both = f" && {typed[0]} == {typed[0]} && {typed[1]} == {typed[1]}" if modes == ["ne"] and is_float else ""
        return f"{'!' if unordered else ''}({typed[0]} {sign} {typed[1]}{both})"
    if operation == "cvt":
        return _conversion(modes, kind, values[0])
    if is_float:
        return _rounded(operation, modes, kind, values)
    if operation == "mul" and modes == ["wide"]:
        wide = _TYPES[kind[0] + str(2 * int(kind[1:]))]
        return f"({wide})({typed[0]}) * ({wide})({typed[1]})"
    if operation in _OPERATORS and modes in ([], ["lo"]):
        return f"{typed[0]} {_OPERATORS[operation]} {typed[1]}"
    if operation in ("max", "min"):
        return f"{typed[0]} {'>' if operation == 'max' else '<'} {typed[1]} ? {values[0]} : {values[1]}"
    if operation == "not":
        return f"!{values[0]}" if kind == "pred" else f"~{values[0]}"
    if operation == "neg":
        return f"-{typed[0]}"
    if operation in ("shl", "shr", "bfi") and kind[1:] == "64":
        return f"{'sar' if operation + kind == 'shrs64' else operation}({', '.join(values)})"
    return None


def _rounded(operation, modes, kind, values):
    """Arithmetic, each operation of which rounds once."""
    single = "f" if kind == "f32" else ""
    if operation in ("add", "sub", "mul", "div") and modes == ["rn"]:
        return f"{values[0]} {_OPERATORS[operation]} {values[1]}"
    if operation in ("sqrt", "fma") and modes == ["rn"]:
        return f"{operation}{single}({', '.join(values)})"
    if operation == "rcp" and modes in (["rn"], ["approx", "ftz"]):
        return f"1 / {values[0]}"
    if operation == "neg":
        return f"-{values[0]}"
    if operation == "abs":
        return f"fabs{single}({values[0]})"
    if operation == "copysign" and not single:
        return f"copysign({values[1]}, {values[0]})"
    if operation in ("max", "min") and not single:
        return f"f{operation}_({values[0]}, {values[1]})"
    return None


def _conversion(modes, kind, value):
    """A number as one of another kind; ``kind`` is the one that it has."""
    *rounding, goal = modes
    typed = f"({_TYPES[kind]})({value})"
    if rounding == ["rzi"] and goal == "s64":
        return f"whole({typed})"
    if rounding in (["rmi"], ["rpi"]):
        return f"{'floor' if rounding == ['rmi'] else 'ceil'}({typed})"
    return f"({_TYPES[goal]}){typed}" if rounding in ([], ["rn"]) else None
