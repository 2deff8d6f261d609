"""UN/LOCODE and vehicle plates: whether a text has the form, and what the form tells."""

import re
from typing import Final

LOCODE: Final = re.compile(r"([A-Z]{2})([A-Z2-9]{3})", re.ASCII)
COUNTRIES: Final = frozenset(
    re.findall(
        r"\w+",
        """
        AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ
        CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO
        FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE
        JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO
        MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW
        PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM
        TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS XZ YE YT ZA ZM ZW
        """,
    )
)
"""ISO 3166-1 alpha-2, and XZ, which UN/LOCODE uses for installations in international waters."""
PROVINCES: Final = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"
PLATE_LETTERS: Final = "A-HJ-NP-Z"
"""Chinese plates have neither I nor O."""
START: Final = rf"[{PROVINCES}][{PLATE_LETTERS}]"
CHINESE_PLATES: Final = {
    "standard": re.compile(rf"{START}[{PLATE_LETTERS}0-9]{{5}}"),
    "new energy": re.compile(rf"{START}(?:[{PLATE_LETTERS}][{PLATE_LETTERS}0-9]\d{{4}}|\d{{5}}[{PLATE_LETTERS}])"),
    "trailer": re.compile(rf"{START}[{PLATE_LETTERS}0-9]{{4}}挂"),
    "special": re.compile(rf"{START}[{PLATE_LETTERS}0-9]{{4}}[学警港澳领试超]"),
}
OTHER_PLATE: Final = re.compile(r"(?=.*\d)[A-Z0-9]{3,10}", re.ASCII)
SEPARATORS: Final = re.compile(r"[\s.·•・-]+")


def is_locode(text: str) -> bool:
    """Tell whether a text has the form of a UN/LOCODE: a country and three letters or digits 2 to 9.

    Whether the place exists is not asked: the list changes twice a year, and a port may be called by a wrong code.
    """
    found = LOCODE.fullmatch(text)
    return found is not None and found[1] in COUNTRIES


def plain_plate(text: str) -> str:
    """Return a plate as it is compared: capitals without blanks, dots and hyphens."""
    return SEPARATORS.sub("", text.upper())


def plate_kind(text: str) -> str | None:
    """Return what kind of plate a text is: one of :data:`CHINESE_PLATES`, ``foreign``, or None if it is no plate."""
    plate = plain_plate(text)
    for kind, form in CHINESE_PLATES.items():
        if form.fullmatch(plate):
            return kind
    return "foreign" if OTHER_PLATE.fullmatch(plate) else None
