"""What a graph takes and gives, declared by the manifest and proved by a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from faceswap.errors import BundleError

DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output of a graph: numpy dtype and the shape of one item, without the batch."""

    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.dtype} ({', '.join(['N', *map(str, self.shape)])})"


@dataclass(frozen=True, slots=True)
class Signature:
    """What a graph takes and gives; where it may give one of several things, `or_gives` has the others."""

    takes: Tensor
    gives: Tensor
    or_gives: tuple[Tensor, ...] = ()

    @property
    def answers(self) -> tuple[Tensor, ...]:
        """Everything that the graph may give."""
        return self.gives, *self.or_gives

    def __str__(self) -> str:
        return f"{self.takes} -> {' or '.join(map(str, self.answers))}"


def check_signature(session: Any, name: str, signature: Signature | None) -> None:
    """BundleError unless the onnxruntime session has one input and one output that fit `signature`.

    None asks for the one input and one output only. An error of onnxruntime comes out as it is.
    """
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1:
        raise BundleError(f"{name} has {len(inputs)} inputs and {len(outputs)} outputs instead of one each")
    if signature is not None:
        declared = f"{_declared(inputs[0])} -> {_declared(outputs[0])}"
        gives_one = any(_fits(outputs[0], answer) for answer in signature.answers)
        if not (_fits(inputs[0], signature.takes) and gives_one):
            raise BundleError(f"{name} is {declared} where the manifest needs {signature}")
        _try(session, name, signature)


def _declared(value: Any) -> str:
    return f"{DTYPES.get(value.type, value.type)} ({', '.join(str(side) for side in value.shape)})"


def _fits(value: Any, tensor: Tensor) -> bool:
    """Does the graph's input or output allow `tensor` in any batch size? Sides may be left open."""
    if DTYPES.get(value.type) != tensor.dtype or len(value.shape) != len(tensor.shape) + 1:
        return False
    batch, *sides = value.shape
    pairs = zip(sides, tensor.shape, strict=True)
    return not isinstance(batch, int) and all(s == t or not isinstance(s, int) for s, t in pairs)


def _try(session: Any, name: str, signature: Signature) -> None:
    """Two items through the graph: declared shapes are a promise, this is the proof."""
    batch = np.zeros((2, *signature.takes.shape), signature.takes.dtype)
    answer = session.run(None, {session.get_inputs()[0].name: batch})[0]
    allowed = [((2, *tensor.shape), np.dtype(tensor.dtype)) for tensor in signature.answers]
    if (answer.shape, answer.dtype) not in allowed:
        raise BundleError(
            f"{name} gives {answer.dtype} {answer.shape[1:]} an item where the manifest needs {signature}"
        )


def first_line(error: BaseException) -> str:
    """Of the message; onnxruntime likes to append a stack."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
