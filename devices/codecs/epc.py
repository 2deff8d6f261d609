"""What an RFID tag says: EPC schemes of the GS1 EPC Tag Data Standard (TDS 2.3, sections 14.2 to 14.4 and 14.6).

A tag's code begins with a header of 8 bits that names the scheme; a partition of 3 bits says how many of the bits that
follow are the company's prefix. A code that follows no scheme, or breaks the one that its header names, is kept as it
is: most gate tags carry a plain TID (header E2), and never is a read lost because of what a tag holds.
"""

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from devices.codecs import epc_plus
from devices.codecs.bits import Bits
from devices.codecs.gs1 import Element, check_digit, digital_link, escaped
from devices.codecs.readings import Happening, Reading
from devices.rejects import Reason, RejectError
from devices.scalars import Scalar

PREFIX: Final = ((40, 12), (37, 11), (34, 10), (30, 9), (27, 8), (24, 7), (20, 6))
"""Partition → bits and digits of the company prefix; partition 7 means nothing."""
TID_HEADER: Final = 0xE2
UNPROGRAMMED: Final = 0x00
MAX_BYTES: Final = 62
"""The EPC memory bank holds 496 bits at most (31 words)."""
MAX_PAYLOAD: Final = 1_048_576
HEX_TEXT: Final = re.compile(rb"[0-9A-Fa-f]{8,}(?:[\s,]+[0-9A-Fa-f]{8,})*\s*")
SIX_BIT: Final = "".join(chr(code + 64 if code < 0x20 else code) for code in range(64))  # noqa: PLR2004 - TDS, annex G
SIX_BIT_USED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789#-/")
ESCAPED_IN_URN: Final = frozenset('"%&/<>?#')


class Epc(NamedTuple):
    """What a tag's code means."""

    scheme: str
    """Name of the binary scheme such as ``sgtin-96`` or ``sscc+``; ``tid`` or ``raw`` where it follows none."""
    tag_uri: str
    """EPC Tag URI, or EPC Raw URI; the + schemes have no Tag URI."""
    identity: str
    """Pure identity URI; of the + schemes, and where there is none, empty."""
    link: str
    """Canonical GS1 Digital Link URI: equal for two tags of the same thing, whatever their schemes."""
    filter: int | None
    """Filter value 0 to 7, which says what the tag is fixed to; None where the scheme has none."""
    problem: str
    """Why a code is not what its header promises; empty where all is well."""


class _Scheme(NamedTuple):
    name: str
    bits: int
    """Length of the whole code; 0 where it varies."""
    reference_bits: int
    """Bits of prefix and reference together."""
    reference_digits: int
    """Digits of prefix and reference together; 0 where the reference keeps no leading zeros."""
    serial: Callable[[Bits], str] | None
    pieces: bool = False


def _integer(width: int) -> Callable[[Bits], str]:
    return lambda bits: str(bits.take(width))


def _text(width: int) -> Callable[[Bits], str]:
    return lambda bits: _characters(bits, width)


def _numeric_string(width: int) -> Callable[[Bits], str]:
    """Digits with leading zeros, kept by a 1 before them (TDS 14.4.6)."""

    def read(bits: Bits) -> str:
        digits = str(bits.take(width))
        if digits[0] != "1" or len(digits) == 1:
            raise ValueError(f"serial {digits}: expected a 1 and digits after it")
        return digits[1:]

    return read


SCHEMES: Final = {
    0x2C: _Scheme("gdti-96", 96, 41, 12, _integer(41)),
    0x2D: _Scheme("gsrn-96", 96, 58, 17, None),
    0x2E: _Scheme("gsrnp-96", 96, 58, 17, None),
    0x30: _Scheme("sgtin-96", 96, 44, 13, _integer(38)),
    0x31: _Scheme("sscc-96", 96, 58, 17, None),
    0x32: _Scheme("sgln-96", 96, 41, 12, _integer(41)),
    0x33: _Scheme("grai-96", 96, 44, 12, _integer(38)),
    0x34: _Scheme("giai-96", 96, 82, 0, None),
    0x36: _Scheme("sgtin-198", 198, 44, 13, _text(140)),
    0x37: _Scheme("grai-170", 170, 44, 12, _text(112)),
    0x39: _Scheme("sgln-195", 195, 41, 12, _text(140)),
    0x3A: _Scheme("gdti-113", 113, 41, 12, _numeric_string(58)),
    0x3C: _Scheme("cpi-96", 96, 51, 0, _integer(31)),
    0x3E: _Scheme("gdti-174", 174, 41, 12, _text(119)),
    0x3F: _Scheme("sgcn-96", 96, 41, 12, _numeric_string(41)),
    0x40: _Scheme("itip-110", 110, 44, 13, _integer(38), pieces=True),
    0x41: _Scheme("itip-212", 212, 44, 13, _text(140), pieces=True),
}
"""Schemes that are laid out alike; the others have functions of their own."""


def decode_epc(code: bytes) -> Epc:
    """Return what the EPC memory of a tag says, from its first bit after the protocol control word on; never raises."""
    header = code[0] if code else UNPROGRAMMED
    raw = f"urn:epc:raw:{8 * len(code)}.x{code.hex().upper()}"
    if header == TID_HEADER:
        return Epc("tid", raw, "", "", None, "")
    bits = Bits(code[1:])
    try:
        if header in SCHEMES:
            return _decode_scheme(SCHEMES[header], bits)
        if header in OTHERS:
            return OTHERS[header](bits)
        if header in epc_plus.SCHEMES:
            found = epc_plus.decode(header, bits)
            return Epc(found.scheme, "", "", digital_link(found.elements), found.filter, "")
    except ValueError as error:
        return Epc("raw", raw, "", "", None, f"{name_of(header)}: {error}")
    return Epc("raw", raw, "", "", None, "")


def name_of(header: int) -> str:
    """Return the name of the scheme that a header announces, "" where it announces none."""
    if header in SCHEMES:
        return SCHEMES[header].name
    return OTHER_NAMES.get(header) or epc_plus.SCHEMES.get(header, ("",))[0]


def _decode_scheme(scheme: _Scheme, bits: Bits) -> Epc:
    if bits.left + 8 < scheme.bits:
        raise ValueError(f"{bits.left + 8} bits: expected {scheme.bits}")
    filter_value = bits.take(3)
    prefix_bits, prefix_digits = _partition(bits)
    prefix = bits.decimal(prefix_bits, prefix_digits)
    rest = scheme.reference_bits - prefix_bits
    if scheme.reference_digits:
        reference = bits.decimal(rest, scheme.reference_digits - prefix_digits)
    else:
        reference = str(bits.take(rest))
    parts = [prefix, reference]
    if scheme.pieces:
        parts += [bits.decimal(7, 2), bits.decimal(7, 2)]
    if scheme.serial is not None:
        parts.append(scheme.serial(bits))
    elif scheme.bits - 8 - 6 > scheme.reference_bits and bits.take(24):
        raise ValueError("the last 24 bits: expected zeros")
    return _described(scheme.name, filter_value, parts)


def _decode_giai_202(bits: Bits) -> Epc:
    filter_value = bits.take(3)
    prefix_bits, prefix_digits = _partition(bits)
    prefix = bits.decimal(prefix_bits, prefix_digits)
    return _described("giai-202", filter_value, [prefix, _characters(bits, 188 - prefix_bits)])


def _decode_cpi_var(bits: Bits) -> Epc:
    filter_value = bits.take(3)
    prefix_bits, prefix_digits = _partition(bits)
    prefix = bits.decimal(prefix_bits, prefix_digits)
    reference = _six_bit_string(bits)
    return _described("cpi-var", filter_value, [prefix, reference, str(bits.take(40))])


def _decode_gid(bits: Bits) -> Epc:
    manager, object_class, serial = (str(bits.take(width)) for width in (28, 24, 36))
    body = f"{manager}.{object_class}.{serial}"
    return Epc("gid-96", f"urn:epc:tag:gid-96:{body}", f"urn:epc:id:gid:{body}", "", None, "")


def _decode_adi(bits: Bits) -> Epc:
    filter_value = bits.take(6)
    company = "".join(SIX_BIT[bits.take(6)] for _ in range(6)).strip()
    body = f"{company}.{_urn(_six_bit_string(bits))}.{_urn(_six_bit_string(bits))}"
    return Epc("adi-var", f"urn:epc:tag:adi-var:{filter_value}.{body}", f"urn:epc:id:adi:{body}", "", filter_value, "")


def _decode_usdod(bits: Bits) -> Epc:
    filter_value = bits.take(4)
    agency = bits.take(48).to_bytes(6, "big").decode("ascii", "strict").strip()
    body = f"{agency}.{bits.take(36)}"
    tag_uri = f"urn:epc:tag:usdod-96:{filter_value}.{body}"
    return Epc("usdod-96", tag_uri, f"urn:epc:id:usdod:{body}", "", filter_value, "")


OTHERS: Final[dict[int, Callable[[Bits], Epc]]] = {
    0x2F: _decode_usdod,
    0x35: _decode_gid,
    0x38: _decode_giai_202,
    0x3B: _decode_adi,
    0x3D: _decode_cpi_var,
}
KEYS: Final = {
    "sgtin": ("01", True, "21"),
    "itip": ("8006", True, "21"),
    "sscc": ("00", True, ""),
    "sgln": ("414", False, "254"),
    "grai": ("8003", False, ""),
    "gdti": ("253", False, ""),
    "sgcn": ("255", False, ""),
    "gsrn": ("8018", False, ""),
    "gsrnp": ("8017", False, ""),
}
"""Kind → application identifier of the key, whether a digit moves, and the serial's own identifier if it has one."""
UNCHECKED: Final = {"giai": "8004", "cpi": "8010"}
"""Keys without a check digit."""
OTHER_NAMES: Final = {0x2F: "usdod-96", 0x35: "gid-96", 0x38: "giai-202", 0x3B: "adi-var", 0x3D: "cpi-var"}


def _partition(bits: Bits) -> tuple[int, int]:
    partition = bits.take(3)
    if partition == len(PREFIX):
        raise ValueError("partition 7: expected 0 to 6")
    return PREFIX[partition]


def _characters(bits: Bits, width: int) -> str:
    """Read 7-bit characters up to the first zero, after which all must be zero (TDS 14.4.2)."""
    codes = [bits.take(7) for _ in range(width // 7)]
    bits.take(width % 7)
    length = next((nth for nth, code in enumerate(codes) if not code), len(codes))
    if not length or any(codes[length:]):
        raise ValueError("text: expected characters and then zeros")
    return epc_plus.gs1_text("".join(map(chr, codes[:length])))


def _six_bit_string(bits: Bits) -> str:
    """Read 6-bit characters up to a zero (TDS 14.4.8)."""
    text = ""
    while code := bits.take(6):
        text += SIX_BIT[code]
    if not SIX_BIT_USED.issuperset(text):
        raise ValueError(f"text {text!r}: a character that part numbers do not have")
    return text


def _urn(text: str) -> str:
    return escaped(text, ESCAPED_IN_URN)


def _described(scheme: str, filter_value: int, parts: list[str]) -> Epc:
    body = ".".join(map(_urn, parts))
    kind = scheme.partition("-")[0]
    return Epc(
        scheme,
        f"urn:epc:tag:{scheme}:{filter_value}.{body}",
        f"urn:epc:id:{kind}:{body}",
        digital_link(_elements(kind, parts)),
        filter_value,
        "",
    )


def _elements(kind: str, parts: list[str]) -> tuple[Element, ...]:
    """Return the GS1 element string of a key: the parts in its own order, and the check digit (TDS 7.3 to 7.16)."""
    prefix, reference, *rest = parts
    serial = rest[-1] if rest else ""
    if kind in UNCHECKED:
        key, serial_in = UNCHECKED[kind], "8011"
        digits = prefix + reference
    else:
        key, moved, serial_in = KEYS[kind]
        # In keys of trade items and of logistic units the first digit of the reference stands before the prefix.
        digits = f"{reference[:1]}{prefix}{reference[1:]}" if moved else prefix + reference
        digits += check_digit(digits) + "".join(rest[:-1])
    if kind == "grai":
        digits = "0" + digits
    # A location's extension of 0 stands for none.
    if not serial or (kind == "sgln" and serial == "0"):
        return (Element(key, digits),)
    return (Element(key, digits), Element(serial_in, serial)) if serial_in else (Element(key, digits + serial),)


class EpcCodes:
    """Decodes the codes of tags, given as they are or as text of hexadecimal digits, several apart by spaces."""

    name: Final = "epc"

    def decode(self, payload: bytes, topic: str = "") -> list[Reading]:
        """Return one reading per tag, with a happening ``tag``; a code that breaks its scheme is flagged ``epc``."""
        del topic
        if len(payload) > MAX_PAYLOAD:
            raise RejectError(Reason.TOO_LARGE, "", f"{len(payload)} bytes: at most {MAX_PAYLOAD}")
        if HEX_TEXT.fullmatch(payload):
            words = payload.replace(b",", b" ").split()
            odd = next((word for word in words if len(word) % 2), None)
            if odd is not None:
                raise RejectError(Reason.WRONG_TYPE, "", f"{odd[:64].decode()!r}: expected pairs of hexadecimal digits")
            codes = [bytes.fromhex(word.decode()) for word in words]
        else:
            codes = [payload]
        return [_reading_of(code) for code in codes]


def _reading_of(code: bytes) -> Reading:
    if not 0 < len(code) <= MAX_BYTES:
        raise RejectError(Reason.WRONG_TYPE, "", f"{len(code)} bytes: expected 1 to {MAX_BYTES}")
    found = decode_epc(code)
    data = {"tag": code.hex().upper(), "scheme": found.scheme, "tag_uri": found.tag_uri, "identity": found.identity}
    data |= {"link": found.link, "problem": found.problem}
    said: dict[str, Scalar] = {name: text for name, text in data.items() if text}
    if found.filter is not None:
        said["filter"] = found.filter
    return Reading(happenings=(Happening("tag", said),), flags=("epc",) if found.problem else ())
