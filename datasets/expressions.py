"""The eight expressions of the field under one name each, so that data sets with other words and orders can be compared."""

from __future__ import annotations

# The canonical ids: the order of FER+.
CANONICAL = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")

_ALSO = {
    "happy": "happiness",
    "surprised": "surprise",
    "sad": "sadness",
    "angry": "anger",
    "disgusted": "disgust",
    "fearful": "fear",
    "afraid": "fear",
    "smiling": "happiness",
}


def canonical(name: str) -> str:
    """The canonical word for an expression, whatever its case; a name that is none of the eight is given back in lower case."""
    word = name.casefold()
    return _ALSO.get(word, word)
