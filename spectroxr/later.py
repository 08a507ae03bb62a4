"""Values that are read when they are first asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

__all__ = ["Late", "Later", "value_of"]

T = TypeVar("T")
S = TypeVar("S")


class Later(Generic[T]):
    """A value that is read once, when it is asked for; if that fails, it is tried again the next time.

    Parameters
    ----------
    read : callable
        Returns the value.
    stored : object, optional
        Where it lies unchanged, for who can do without reading it.

    Examples
    --------
    >>> number = Later(lambda: print("read") or 7)
    >>> number.value
    read
    7
    >>> number.value
    7
    """

    def __init__(self, read: Callable[[], T], stored: Any = None) -> None:
        self._read: Callable[[], T] | None = read
        self._found: list[T] = []
        self._lock = threading.RLock()
        self.stored = stored
        #: What `then` was called on, or this.
        self.base: Later[Any] = self

    @property
    def value(self) -> T:
        """The value."""
        if not self._found:
            with self._lock:
                if not self._found:
                    assert self._read is not None
                    self._found.append(self._read())
                    self._read = None
        return self._found[0]

    def then(self, call: Callable[[T], S]) -> Later[S]:
        """Return what a function makes of the value, later."""
        made = Later(lambda: call(self.value))
        made.base = self.base
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the value."""
        return Later.of, (self.value,)

    @classmethod
    def of(cls, value: T) -> Later[T]:
        """Return a value that is known already."""
        return cls(lambda: value)


def value_of(given: T | Later[T]) -> T:
    """Return a value that may have to be read."""
    return given.value if isinstance(given, Later) else given


class Late(Generic[T]):
    """An attribute that may be given a `Later`, and is its value when it is first read."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._key = f"late {name}"

    @overload
    def __get__(self, instance: None, owner: type) -> Late[T]: ...

    @overload
    def __get__(self, instance: Any, owner: type) -> T: ...

    def __get__(self, instance: Any, owner: type) -> T | Late[T]:
        if instance is None:
            return self
        held = instance.__dict__[self._key]
        if not isinstance(held, Later):
            return held  # type: ignore[no-any-return]
        value: T = held.value
        # another thread may have set the attribute since
        if instance.__dict__[self._key] is held:
            instance.__dict__[self._key] = value
        return value

    def __set__(self, instance: Any, value: T | Later[T]) -> None:
        instance.__dict__[self._key] = value

    def unread(self, instance: Any) -> Later[Any] | None:
        """Return what the attribute will be read from, None if it has been read or set."""
        held = instance.__dict__[self._key]
        return held.base if isinstance(held, Later) else None
