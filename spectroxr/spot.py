"""Where a value lies in the steps of a processing: what messages say of it, and that nothing contains itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["DEEP", "Spot", "kind_of", "short"]

#: Values may lie in one another so deep.
DEEP = 64


@dataclass(frozen=True)
class Spot:
    """A step, the way inside it to a value, and what lies around this.

    Attributes
    ----------
    step : str
    path : str
        Empty for the step itself.
    above : tuple of int
        The ids of what the value lies in.
    free : bool
        Whether the labels of steps are but labels here: nothing around asks for a step by its label.
    """

    step: str
    path: str = ""
    above: tuple[int, ...] = ()
    free: bool = True

    def __str__(self) -> str:
        return f"{self.step}: {self.path}" if self.path else self.step

    def named(self, name: str) -> Spot:
        """Return this spot with the name of the step, if it is not inside one."""
        return self if self.path else replace(self, step=f"{self.step} ({name})")

    def param(self, name: str) -> Spot:
        """Return the spot of a parameter or attribute."""
        return replace(self, path=f"{self.path}.{name}" if self.path else name)

    def item(self, key: object) -> Spot:
        """Return the spot of an item."""
        return replace(self, path=f"{self.path}[{short(key)}]")

    def inside(self, value: object, most: int = DEEP) -> Spot:
        """Return the spot of what the value here contains; `most` values may lie in one another.

        Raises
        ------
        ValueError
            If the value contains itself or lies too deep.
        """
        if id(value) in self.above:
            raise ValueError(f"{self}: {kind_of(value)} contains itself; give what ends")
        if len(self.above) >= most:
            raise ValueError(f"{self}: more than {most} values lie in one another; give flatter ones")
        return replace(self, above=(*self.above, id(value)))

    def refused(self, what: str, instead: str) -> TypeError:
        """Return the error for something that has no place in a recipe."""
        return TypeError(f"{self}: {what}; {instead}")


def kind_of(value: object) -> str:
    """Return the name of the class of a value, with its module if it is not built in."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def short(value: object) -> str:
    """Return what messages say of a value: its text, up to 40 characters, or its kind."""
    written = repr(value) if isinstance(value, str | int | float | bytes) else kind_of(value)
    return written if len(written) <= 40 else written[:39] + "…"
