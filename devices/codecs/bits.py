"""A bit string read from its most significant end, as tags and other radio formats are laid out."""

from typing import Final

DIGITS: Final = 10


class OutOfBitsError(ValueError):
    """More bits were asked for than there are."""


class Bits:
    """Reads unsigned fields of any width from bytes; ``left`` says how many bits are still unread."""

    __slots__ = ("_value", "left")

    def __init__(self, data: bytes) -> None:
        """Start before the first bit of ``data``."""
        self._value = int.from_bytes(data, "big")
        self.left = 8 * len(data)

    def take(self, width: int) -> int:
        """Return the next ``width`` bits as an unsigned number; :class:`OutOfBitsError` where there are fewer."""
        if width > self.left:
            raise OutOfBitsError(f"{width} bits wanted, {self.left} left")
        self.left -= width
        return (self._value >> self.left) & ((1 << width) - 1)

    def decimal(self, width: int, digits: int) -> str:
        """Return ``width`` bits as a number of exactly ``digits`` digits; ValueError where it needs more."""
        number = self.take(width)
        if number >= DIGITS**digits:
            raise ValueError(f"{number} has more than {digits} digits")
        # Zero digits are possible: a company prefix may leave no room for a reference.
        return str(number).zfill(digits) if digits else ""
