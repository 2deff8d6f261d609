"""EPC codes against published vectors, and what becomes of codes that follow no scheme."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.codecs import epc_plus
from devices.codecs.bits import Bits, OutOfBitsError
from devices.codecs.epc import MAX_BYTES, OTHERS, SCHEMES, EpcCodes, decode_epc, name_of
from devices.codecs.gs1 import check_digit
from devices.rejects import Reason, RejectError

LINK = "https://id.gs1.org"

# TDS 2.3, annex E.3: one example of every scheme, in that annex's order. Odd numbers of digits are padded with a zero,
# as on a tag. Two of its ++ examples carry the header of the + scheme and are left out.
STANDARD = """
sgtin-96   3066C4409047E140075BCD15                                 /01/09506000134352/21/123456789
sgtin-198  3666C4409047E159B2C2BF100000000000000000000000000000     /01/09506000134352/21/32a%2Fb
sgtin+     F73795211411234538566CB0AFC4                             /01/79521141123453/21/32a%2Fb
dsgtin+    FB342CDE795211411234538566CB0AFC4                        /01/79521141123453/21/32a%2Fb?17=220630
sgtin++    FD3795211411234538566CB0AFC525065F1876F0D996D800         /01/79521141123453/21/32a%2Fb
dsgtin++   FC342CDE795211411234538566CB0AFC525065F1876F0D996D80     /01/79521141123453/21/32a%2Fb?17=220630
sscc-96    311BA1B300CE0A6A83000000                                 /00/095201234567891235
sscc+      F90095201234567891235                                    /00/095201234567891235
sgln-96    3276451FD46072000000162E                                 /414/9521141123454/254/5678
sgln-195   3976451FD46072CD9615F8800000000000000000000000000000     /414/9521141123454/254/32a%2Fb
sgln+      F2395211411234548566CB0AFC4                              /414/9521141123454/254/32a%2Fb
sgln++     E9395211411234548566CB0AFC525065F1876F0D996D8000         /414/9521141123454/254/32a%2Fb
grai-96    3376451FD40C0E400000162E                                 /8003/095211411234545678
grai-170   3776451FD40C0E59B2C2BF1000000000000000000000             /8003/0952114112345432a%2Fb
grai+      F13095211411234548566CB0AFC4                             /8003/0952114112345432a%2Fb
grai++     EB3095211411234548566CB0AFC525065F1876F0D996D800         /8003/0952114112345432a%2Fb
giai-96    3476451FD40000000000162E                                 /8004/95211415678
giai-202   3876451FD59B2C2BF10000000000000000000000000000000000     /8004/952114132a%2Fb
giai+      FA3952114132E83C2BF10                                    /8004/952114132a%2Fb
giai++     EE3952114132E83C2BF1494197C61DBC3665B600                 /8004/952114132a%2Fb
gsrn-96    2D76451FD4499602D2000000                                 /8018/952114112345678906
gsrn+      F43952114112345678906                                    /8018/952114112345678906
gsrn++     E7395211411234567890692832F8C3B786CCB6C0                 /8018/952114112345678906
gsrnp-96   2E76451FD4499602D2000000                                 /8017/952114112345678906
gsrnp+     F53952114112345678906                                    /8017/952114112345678906
gsrnp++    E8395211411234567890692832F8C3B786CCB6C0                 /8017/952114112345678906
gdti-96    2C76451FD46072000000162E                                 /253/95211411234545678
gdti-174   3E76451FD7039B061438997367D0C18B266D1AB66EE0             /253/9521141987650ABCDefgh012345678
gdti+      F6395211411234540458B8                                   /253/95211411234545678
gdti++     EA395211411234540458BA4A0CBE30EDE1B32DB0                 /253/95211411234545678
cpi-96     3C76451FD400C0E680003039                                 /8010/952114198765/8011/12345
cpi-var    3D76451FD75411DEF6B4CC00000003039000                     /8010/95211415PQ7%2FZ43/8011/12345
cpi+       F0395211415E87A145BAFB4D19A8C0E4                         /8010/95211415PQ7%2FZ43/8011/12345
cpi++      E6395211415E87A145BAFB4D19A8C0E64A0CBE30EDE1B32DB000     /8010/95211415PQ7%2FZ43/8011/12345
sgcn-96    3F76451FD612640000019907                                 /255/952114167890904711
sgcn+      F839521141678909509338                                   /255/952114167890904711
sgcn++     EC3952114167890950933C94197C61DBC3665B60                 /255/952114167890904711
itip-110   4076451FD40C0E40820000000F54                             /8006/095211411234540102/21/981
itip-212   4176451FD40C0E4082DBDD8B36600000000000000000000000000000 /8006/095211411234540102/21/mw133
itip+      F3309521141123454010266AE27FDF35                         /8006/095211411234540102/21/rif981
"""
EXAMPLES = [tuple(line.split()) for line in STANDARD.strip().splitlines()]
WITHOUT_LINK = [
    ("3500E86F8000A9E000000586", "gid-96", "952056.2718.1414"),
    ("2F320434147455900000162E", "usdod-96", "3.CAGEY.5678"),
    ("3B0E0CF5E76C9047759AD00373DC7602E7200", "adi-var", "3.35962.PQ7VZ4.M37GXB92"),
]


def code_of(digits: str) -> bytes:
    return bytes.fromhex(digits + "0" * (len(digits) % 2))


def vectors_of_suites(recorded: Path) -> list[dict[str, str]]:
    folder = recorded / "rfid"
    short = json.loads((folder / "epc_vectors.json").read_text())
    full: list[dict[str, str]] = json.loads((folder / "epc_vectors_epc-coder.json").read_text())
    return [{"epc_hex": digits, "tag_uri": uri} for digits, uri in short] + full


@pytest.mark.parametrize(("scheme", "digits", "link"), EXAMPLES, ids=[example[0] for example in EXAMPLES])
def test_an_example_of_the_standard_identifies_what_it_says(scheme: str, digits: str, link: str) -> None:
    found = decode_epc(code_of(digits))
    assert (found.scheme, found.link, found.problem) == (scheme, LINK + link, "")


@pytest.mark.parametrize(("digits", "scheme", "body"), WITHOUT_LINK)
def test_schemes_that_are_no_keys_of_gs1_have_a_tag_uri(digits: str, scheme: str, body: str) -> None:
    found = decode_epc(code_of(digits))
    assert (found.scheme, found.tag_uri, found.link) == (scheme, f"urn:epc:tag:{scheme}:{body}", "")


def test_the_examples_cover_every_scheme_but_one_of_2014_and_one_of_2025() -> None:
    known = set(SCHEMES) | set(OTHERS) | set(epc_plus.SCHEMES)
    shown = {code_of(example[1])[0] for example in EXAMPLES} | {code_of(example[0])[0] for example in WITHOUT_LINK}
    assert {name_of(header) for header in known - shown} == {"gdti-113", "sscc++", "itip++"}


def test_published_suites_are_decoded_to_the_letter(recorded: Path) -> None:
    vectors = vectors_of_suites(recorded)
    assert len(vectors) == 11 + 29
    for vector in vectors:
        found = decode_epc(code_of(vector["epc_hex"]))
        assert found.tag_uri == vector["tag_uri"]
        assert found.identity == vector.get("pure_identity", found.identity)
        assert found.problem == ""


def test_two_tags_of_one_thing_have_one_link() -> None:
    numeric, text, plus = (decode_epc(code_of(digits)).link for _, digits, _ in EXAMPLES[:3])
    assert numeric != text != plus
    assert decode_epc(code_of("311BA1B300CE0A6A83000000")).link == decode_epc(code_of("F90095201234567891235")).link


@pytest.mark.parametrize(
    ("digits", "problem"),
    [
        ("307C257BF7194E4000001A85", "sgtin-96: partition 7: expected 0 to 6"),
        ("3074257BF7194E4000001A", "sgtin-96: 88 bits: expected 96"),
        ("300BFFFFFFFFFFFFC0000000", "sgtin-96: 17179869183 has more than 10 digits"),
        ("31AC16465751CCD0C2000001", "sscc-96: the last 24 bits: expected zeros"),
        ("3666C4409047E140000000000000000000000000000000000000", "sgtin-198: text: expected characters and then zeros"),
        ("3F76451FD612640000000007", "sgcn-96: serial 7: expected a 1 and digits after it"),
        ("F7379521141123453FA000", "sgtin+: encoding indicator 7: expected 0 to 5"),
        ("F737A5211411234538566CB0AFC4", "sgtin+: a digit above 9"),
        ("F737952114112345300", "sgtin+: 0 characters: expected 1 to 20"),
        ("FB3F2CDE795211411234538566CB0AFC4", "dsgtin+: date 220630 of type 15"),
        ("F9", "sscc+: 1 bits wanted, 0 left"),
    ],
)
def test_a_code_that_breaks_its_scheme_is_kept_raw_with_the_reason(digits: str, problem: str) -> None:
    code = code_of(digits)
    found = decode_epc(code)
    assert found.problem == problem
    assert (found.scheme, found.link) == ("raw", "")
    assert found.tag_uri == f"urn:epc:raw:{8 * len(code)}.x{code.hex().upper()}"


@pytest.mark.parametrize(
    ("digits", "scheme"), [("E2801191A5030065F26CCBFF", "tid"), ("8A450224", "raw"), ("00", "raw")]
)
def test_a_code_of_no_scheme_is_passed_through_without_complaint(digits: str, scheme: str) -> None:
    found = decode_epc(bytes.fromhex(digits))
    assert (found.scheme, found.problem, found.filter) == (scheme, "", None)
    assert found.tag_uri.endswith(f".x{digits}")


@given(st.binary(max_size=MAX_BYTES))
def test_no_code_is_too_strange_to_be_kept(code: bytes) -> None:
    found = decode_epc(code)
    assert found.tag_uri or found.link
    if found.scheme not in {"raw", "tid"}:
        assert found.problem == ""


@given(st.sampled_from([*SCHEMES, *OTHERS, *epc_plus.SCHEMES]), st.binary(max_size=MAX_BYTES - 1))
def test_whatever_follows_a_known_header_is_decoded_or_kept_raw(header: int, rest: bytes) -> None:
    found = decode_epc(bytes([header]) + rest)
    assert found.scheme == (name_of(header) if not found.problem else "raw")


@given(st.integers(0, 10**7 - 1), st.integers(0, 10**6 - 1), st.integers(0, 2**38 - 1), st.integers(0, 7))
def test_leading_zeros_of_prefix_and_reference_are_kept(prefix: int, item: int, serial: int, filter_value: int) -> None:
    bits = (0x30 << 88) | (filter_value << 85) | (5 << 82) | (prefix << 58) | (item << 38) | serial
    found = decode_epc(bits.to_bytes(12, "big"))
    assert found.tag_uri == f"urn:epc:tag:sgtin-96:{filter_value}.{prefix:07}.{item:06}.{serial}"


@given(st.text("0123456789", min_size=1, max_size=17))
def test_a_check_digit_makes_the_weighted_sum_a_multiple_of_ten(digits: str) -> None:
    whole = digits + check_digit(digits)
    assert sum(int(digit) * (1 if nth % 2 == 0 else 3) for nth, digit in enumerate(reversed(whole))) % 10 == 0


def test_bits_are_read_from_the_left_and_never_beyond_the_end() -> None:
    bits = Bits(b"\xa5\x0f")
    assert [bits.take(1), bits.take(3), bits.take(8), bits.left] == [1, 2, 0x50, 4]
    with pytest.raises(OutOfBitsError, match="5 bits wanted, 4 left"):
        bits.take(5)
    assert bits.decimal(4, 2) == "15"


def test_the_codec_takes_a_tag_as_it_is_and_several_as_digits() -> None:
    def tags(payload: bytes) -> list[dict[str, Any]]:
        return [reading.happenings[0].data for reading in EpcCodes().decode(payload)]

    one = {
        "tag": "3074257BF7194E4000001A85", "scheme": "sgtin-96", "filter": 3.0,
        "tag_uri": "urn:epc:tag:sgtin-96:3.0614141.812345.6789", "identity": "urn:epc:id:sgtin:0614141.812345.6789",
        "link": f"{LINK}/01/80614141123458/21/6789",
    }  # fmt: skip
    assert tags(bytes.fromhex("3074257BF7194E4000001A85")) == [one]
    assert tags(b"3074257bf7194e4000001a85") == [one]
    assert [tag["scheme"] for tag in tags(b"3074257BF7194E4000001A85\r\nE2801191A5030065F26CCBFF\n")] == [
        "sgtin-96",
        "tid",
    ]
    broken = EpcCodes().decode(bytes.fromhex("307C257BF7194E4000001A85"))[0]
    assert broken.flags == ("epc",)
    assert broken.happenings[0].data["problem"] == "sgtin-96: partition 7: expected 0 to 6"


@pytest.mark.parametrize("payload", [b"", bytes(MAX_BYTES + 1), b"3074257BF7194E4000001A8"])
def test_what_can_be_no_tag_is_refused(payload: bytes) -> None:
    with pytest.raises(RejectError) as caught:
        EpcCodes().decode(payload)
    assert caught.value.reject.reason is Reason.WRONG_TYPE
