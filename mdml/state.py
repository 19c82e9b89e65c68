"""What an object keeps, as plain data, and putting it back into another one that was made alike.

Plain data are None, bools, numbers, text, tensors, arrays, and lists, tuples and dicts of these. Of an object, its attributes are kept:

- plain data as they are;
- a torch.Generator by its state, and what has a `state_dict` (networks, optimisers) by that;
- other objects by their own attributes, whatever is found there.

What cannot change is left to whoever makes the object: frozen dataclasses, functions, and named tuples, such as the training set. So is
anything else, such as a list of generators: an object that keeps such things needs a `state` and a `restore` of its own.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

_LEAVES = (type(None), bool, int, float, str, Tensor, np.ndarray)


def taken(owner: object) -> dict[str, Any]:
    """The state of an object: it is live, and changes when the object does."""
    return _taken(owner, set())


def put_back(owner: object, state: dict[str, Any]) -> None:
    """Give an object a `taken` state.

    Raises:
        TypeError: where an attribute was an object of its own, and is none yet: it was made after the owner was.

    """
    for name, value in state["data"].items():
        setattr(owner, name, value)
    for name, value in state["objects"].items():
        held: Any = vars(owner).get(name)
        if isinstance(held, torch.Generator):
            held.set_state(value)
        elif hasattr(held, "load_state_dict"):
            held.load_state_dict(value)
        elif held is None or _plain(held):
            raise TypeError(
                f"Expected {type(owner).__name__} to have its {name} once it is made, found none: make it in __init__, or give "
                f"{type(owner).__name__} a `state` and a `restore` of its own."
            )
        else:
            put_back(held, value)


def _taken(owner: object, seen: set[int]) -> dict[str, Any]:
    seen.add(id(owner))
    data, objects = dict[str, Any](), dict[str, Any]()
    for name, value in vars(owner).items():
        if _plain(value):
            data[name] = value
        elif isinstance(value, torch.Generator):
            objects[name] = value.get_state()
        elif hasattr(value, "load_state_dict"):
            objects[name] = value.state_dict()
        elif _holds(value) and id(value) not in seen:
            objects[name] = _taken(value, seen)
    return {"data": data, "objects": objects}


def _plain(value: object) -> bool:
    if type(value) in (list, tuple):
        return all(map(_plain, value))  # type: ignore[call-overload]
    if type(value) is dict:
        return all(isinstance(key, (str, int)) and _plain(item) for key, item in value.items())
    return isinstance(value, _LEAVES)


def _holds(value: object) -> bool:
    """Whether it is an object whose attributes may change."""
    parameters = getattr(value, "__dataclass_params__", None)
    frozen = parameters is not None and parameters.frozen
    return hasattr(value, "__dict__") and not (frozen or isinstance(value, (tuple, type, ModuleType)))
