"""Topic filters of MQTT, plain and shared: ``port/#``, ``$share/{group}/port/#`` (MQTT 5, 4.7 and 4.8.2)."""

from typing import Final

SHARE: Final = "$share/"
MAX_BYTES: Final = 65_535


def is_shared(pattern: str) -> bool:
    """Tell whether a filter is one of a group whose members get each message once between them."""
    return pattern.startswith(SHARE)


def plain(pattern: str) -> str:
    """Return what a shared filter matches, without its group; any other filter as it is."""
    return pattern.split("/", 2)[2] if is_shared(pattern) else pattern


def matches(pattern: str, topic: str) -> bool:
    """Tell whether a filter, shared or not, takes in a topic."""
    wanted, levels = plain(pattern).split("/"), topic.split("/")
    if wanted[0] in {"+", "#"} and topic.startswith("$"):
        return False
    for nth, level in enumerate(wanted):
        if level == "#":
            return True
        if nth == len(levels) or level not in {"+", levels[nth]}:
            return False
    return len(wanted) == len(levels)


def fault_of(pattern: str) -> str:
    """Say in words what is wrong with a topic filter; "" if nothing is."""
    if is_shared(pattern):
        _, group, *rest = pattern.split("/", 2)
        if not group or not rest or any(sign in group for sign in "+#"):
            return f"{pattern[:80]!r}: expected $share/{{group}}/{{filter}}, such as $share/ingest/port/#"
        pattern = rest[0]
    if not pattern or "\0" in pattern or len(pattern.encode(errors="replace")) > MAX_BYTES:
        return f"{pattern[:80]!r}: expected 1 to {MAX_BYTES} bytes without NUL"
    levels = pattern.split("/")
    if any(sign in level and len(level) > 1 for level in levels for sign in "+#") or "#" in levels[:-1]:
        return f"{pattern[:80]!r}: + must be a whole level, # the whole last level"
    return ""
