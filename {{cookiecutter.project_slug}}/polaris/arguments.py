"""Arguments as they were at a call: Parsl looks at them a moment later."""

from __future__ import annotations

from .values import numpy_if_loaded

UNCHANGING = {int, float, complex, bool, str, bytes, type(None)}


def kept(value: object) -> object:
    """A copy of what a program may fill anew or change in place: lists, dicts, sets, numpy arrays.

    Futures in them stay what they are, and so does every other object.
    """
    kind = type(value)
    if kind in UNCHANGING:
        return value
    if kind is list or kind is tuple:
        return kind(map(kept, value))
    if kind is dict:
        return dict(zip(value, map(kept, value.values()), strict=True))
    if kind is set or kind is bytearray:
        return kind(value)
    numpy = numpy_if_loaded()
    if numpy is not None and kind is numpy.ndarray:
        return value.copy(order="K")
    return value
