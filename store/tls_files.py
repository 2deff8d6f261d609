"""The certificates with which our parts speak TLS to the broker, and what is wrong with those that cannot be used."""

import ssl
from pathlib import Path
from typing import Final

from store.system_words import of_file

CA: Final = "broker_ca_file"
CERTIFICATE: Final = "broker_cert_file"
KEY: Final = "broker_key_file"


class TlsFileError(OSError):
    """A file that cannot be used; the words name setting and file."""


def tls_context(
    ca: Path | str | None = None, certificate: Path | str | None = None, key: Path | str | None = None
) -> ssl.SSLContext:
    """Return a context that trusts the authorities of ``ca``, the system's where it is None, for TLS 1.2 or later.

    ``certificate`` and ``key`` are our own, the key by default in the same file. :class:`TlsFileError` names what is
    wrong.
    """
    _check(CA, ca)
    _check(CERTIFICATE, certificate)
    _check(KEY, key)
    if key and not certificate:
        raise TlsFileError(f"{KEY} {key}: means nothing without {CERTIFICATE}")
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError:
        raise TlsFileError(f"{CA} {ca}: it holds no certificate in PEM") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate:
        _load(context, certificate, key)
    return context


def _check(setting: str, path: Path | str | None) -> None:
    if not path:
        return
    try:
        with Path(path).open("rb") as file:
            file.read(1)
    except OSError as error:
        raise TlsFileError(f"{setting} {path}: {of_file(error, path)}") from None


def _load(context: ssl.SSLContext, certificate: Path | str, key: Path | str | None) -> None:
    asked = False

    def no_password() -> str:
        nonlocal asked
        asked = True
        return ""

    try:
        context.load_cert_chain(certificate, key, no_password)
    except OSError as error:
        words = f"{KEY} {key}" if key else f"{CERTIFICATE} {certificate}"
        if asked:
            raise TlsFileError(f"{words}: the key is encrypted; quayflow needs one without a password") from None
        if getattr(error, "reason", "") == "KEY_VALUES_MISMATCH":
            raise TlsFileError(f"{words}: it is not the key of {CERTIFICATE} {certificate}") from None
        raise TlsFileError(
            f"{CERTIFICATE} {certificate}: certificate and key are not both there in PEM"
            f"{'' if key else f'; name the file of the key as {KEY}'}"
        ) from None
