"""What JT/T 808 terminals of every edition say of themselves and their drivers."""

from typing import Any

from devices.codecs.jt808 import Jt808
from devices.codecs.jt808_frames import frame_of
from devices.codecs.jt808_times import digits_of
from devices.codecs.readings import Reading
from devices.times import parse_rfc3339

PHONE = "13812345678"
T0 = parse_rfc3339("2026-11-23T08:00:00Z")


def decode(frame: bytes) -> list[Reading]:
    return Jt808().decode(frame)


def registered(model: int, *rest: bytes) -> dict[str, Any]:
    """Return what a registration says whose model has that many bytes, with what follows the terminal's id."""
    body = b"\0\x21\0\x02" + b"MAKER" + b"MODEL".ljust(model, b"\0") + b"ID00001" + b"".join(rest)
    return decode(frame_of(0x0100, PHONE, 1, body))[0].info


def test_a_registration_of_2011_that_is_as_long_as_one_of_2013_is_told_from_it() -> None:
    vin = registered(8, b"\0", b"LSVAU2180N2183294")
    assert (vin["edition"], vin["terminal"], vin["plate"]) == ("2011", "ID00001", "LSVAU2180N2183294")
    assert registered(20, b"\x02", "浙B12345".encode("gbk"))["edition"] == "2013"
    assert registered(20, b"\x5e", "浙BD12345".encode("gbk"))["plate_colour"] == 94


def test_a_driver_card_of_every_edition() -> None:
    def said(body: bytes, *, of_2019: bool = False) -> tuple[int | None, dict[str, Any]]:
        [reading] = decode(frame_of(0x0702, PHONE, 1, body, of_2019=of_2019))
        return reading.ts, dict(reading.happenings[0].data)

    name, place = "张三".encode("gbk"), "宁波运管".encode("gbk")
    licence, number = b"3302000012345", b"330203198001010011"
    for whose in ("张三", "李", "司马相如"):
        of_2011 = whose.encode("gbk")
        body = bytes([len(of_2011)]) + of_2011 + number.ljust(20, b"\0") + licence.ljust(40) + b"\x08" + place
        # It has no time: that of receipt counts.
        about = {"name": whose, "id_card": number.decode(), "licence": licence.decode(), "authority": "宁波运管"}
        assert said(body) == (None, {"card": "in", **about})
    since = b"\1" + digits_of(T0) + b"\0" + bytes([len(name)]) + name + licence.ljust(20, b"\0") + b"\x08" + place
    expected = {"card": "in", "result": 0, "name": "张三", "licence": licence.decode(), "authority": "宁波运管"}
    assert said(since + b"\x20\x30\x12\x31") == (T0, expected | {"valid_until": "20301231"})
    of_2019 = since + b"\x20\x30\x12\x31" + number.ljust(20, b"\0")
    assert said(of_2019, of_2019=True) == (T0, expected | {"valid_until": "20301231", "id_card": number.decode()})
    assert said(b"\2" + digits_of(T0)) == (T0, {"card": "out"})
    assert said(b"\1" + digits_of(T0) + b"\1") == (T0, {"card": "in", "result": 1})
