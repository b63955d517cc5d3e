"""Classes without a public constructor: an `open_*` function makes their objects, which live as long as its block."""

from __future__ import annotations

from abc import ABCMeta
from typing import Any, NoReturn, TypeVar

__all__ = ["NoPublicConstructor"]

T = TypeVar("T")


class NoPublicConstructor(ABCMeta):
    """Metaclass: calling the class raises `TypeError`, which names what opens one; `cls._create(...)` constructs it.

    class ChannelReader(..., metaclass=NoPublicConstructor, opened_by="host.open_reader(channel)"):
    """

    _opened_by: str

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], *, opened_by: str = "") -> Any:
        cls = super().__new__(mcs, name, bases, namespace)
        if opened_by:  # else it is inherited
            cls._opened_by = opened_by
        return cls

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], *, opened_by: str = "") -> None:
        super().__init__(name, bases, namespace)

    def __call__(cls, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(f"{cls.__name__} has no public constructor: use `async with {cls._opened_by}`")

    def _create(cls: type[T], *args: Any, **kwargs: Any) -> T:
        created: T = super().__call__(*args, **kwargs)  # type: ignore[misc]
        return created
