"""Putting right a single flipped bit: CRC-32C tells not only that one is wrong, but which."""

from typing import Final

import google_crc32c

POLYNOMIAL: Final = 0x82F6_3B78
"""Castagnoli's, reflected."""
TOP: Final = 0x8000_0000
LOW: Final = 0xFFFF_FFFF


def with_bit_put_right(data: bytes, checksum: int) -> bytes | None:
    """Return ``data`` with the one bit flipped back that makes its CRC-32C ``checksum``; None where there is none.

    Two messages that differ in one bit differ in their checksums by a value that depends on the place of the bit alone.
    The polynomial detects every error of two bits up to 2**31 bits (P. Koopman, 32-Bit Cyclic Redundancy Codes for
    Internet Applications, 2002), so these values are all different, and the register run backwards from the difference
    comes to 1 after as many steps as there are bits behind the wrong one. Errors of more bits may be taken for one of a
    single bit: what is returned must still be checked by other means.
    """
    register = google_crc32c.value(data) ^ checksum
    for behind in range(8 * len(data)):
        register = ((register ^ POLYNOMIAL) << 1 & LOW) | 1 if register & TOP else register << 1
        if register == 1:
            byte, bit = divmod(8 * len(data) - 1 - behind, 8)
            return data[:byte] + bytes([data[byte] ^ 1 << bit]) + data[byte + 1 :]
    return None
