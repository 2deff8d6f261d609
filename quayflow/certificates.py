"""The site's own certificate authority: certificates for the broker and for devices, and the list of revoked ones."""

import datetime as dt
import ipaddress
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from devices.times import NS

CA_DAYS: Final = 3_650
SERVER_DAYS: Final = 825
DEVICE_DAYS: Final = 825
LONGEST_NAME: Final = 64
"""Characters of a common name (RFC 5280, ub-common-name)."""
PRIVATE: Final = 0o600
LOOPBACK: Final = "127.0.0.1"


class CertificateError(Exception):
    """A certificate cannot be made or read; the message says why."""


class Issued(NamedTuple):
    """A certificate with its key, PEM, and what the registry keeps of it; ``expires_ns`` ns UTC."""

    certificate: bytes
    key: bytes
    serial: str
    expires_ns: int


class Authority:
    """The authority in a folder: ``ca.pem``, ``ca.key``, and for the broker ``server.pem``, ``server.key``."""

    def __init__(self, folder: Path, now_ns: int) -> None:
        """Open the authority, or make it. CertificateError where it cannot be read."""
        self.folder = folder
        self.certificate_file, self._key_file = folder / "ca.pem", folder / "ca.key"
        try:
            if not self.certificate_file.exists():
                self._make(now_ns)
            self._certificate = x509.load_pem_x509_certificate(self.certificate_file.read_bytes())
            key = serialization.load_pem_private_key(self._key_file.read_bytes(), None)
        except (OSError, ValueError, TypeError) as error:
            raise CertificateError(f"the certificate authority in {folder} cannot be used: {error}") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise CertificateError(f"{self._key_file}: expected a key on an elliptic curve")
        self._key = key

    def serve(self, now_ns: int, address: str = LOOPBACK) -> tuple[Path, Path]:
        """Return certificate and key of the broker on this machine, for its names and the address that it listens on.

        They are made where they are missing, near their end or without one of these.
        """
        certificate, key = self.folder / "server.pem", self.folder / "server.key"
        names = _own_names(address)
        if not certificate.exists() or self._ends_soon(certificate, now_ns) or not _names_in(certificate, names):
            issued = self._issue("quayflow broker", SERVER_DAYS, now_ns, ExtendedKeyUsageOID.SERVER_AUTH, names)
            certificate.write_bytes(issued.certificate)
            write_private(key, issued.key)
        return certificate, key

    def device(self, name: str, now_ns: int, days: int = DEVICE_DAYS) -> Issued:
        """Return a new client certificate whose common name is ``name``, a device's user name."""
        if len(name) > LONGEST_NAME:
            raise CertificateError(
                f"{name}: a certificate's name has at most {LONGEST_NAME} characters; use a password"
            )
        return self._issue(name, days, now_ns, ExtendedKeyUsageOID.CLIENT_AUTH, [])

    def revocations(self, revoked: Mapping[str, int], now_ns: int) -> bytes:
        """Return the list of revoked certificates, PEM: serial number (hexadecimal) → since when, ns UTC."""
        now = _moment(now_ns)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._certificate.subject)
        begin, end = now - dt.timedelta(hours=1), now + dt.timedelta(days=CA_DAYS)
        builder = builder.last_update(begin).next_update(end)
        for serial, since_ns in sorted(revoked.items()):
            entry = x509.RevokedCertificateBuilder(int(serial, 16), _moment(since_ns))
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def _make(self, now_ns: int) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "quayflow site CA")])
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        builder = _builder(name, name, CA_DAYS, now_ns).public_key(key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(usage, critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        # The key first: a certificate without its key would be taken for a whole authority.
        write_private(self._key_file, _pem(key))
        self.certificate_file.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def _issue(
        self, name: str, days: int, now_ns: int, usage: x509.ObjectIdentifier, names: list[x509.GeneralName]
    ) -> Issued:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _builder(subject, self._certificate.subject, days, now_ns).public_key(key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(authority, critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        expires_ns = round(certificate.not_valid_after_utc.timestamp()) * NS
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        return Issued(pem, _pem(key), f"{certificate.serial_number:x}", expires_ns)

    def _ends_soon(self, path: Path, now_ns: int) -> bool:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        return certificate.not_valid_after_utc < _moment(now_ns) + dt.timedelta(days=30)


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read, replacing it as a whole."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    new.replace(path)


def _builder(subject: x509.Name, issuer: x509.Name, days: int, now_ns: int) -> x509.CertificateBuilder:
    now = _moment(now_ns)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer)
    builder = builder.serial_number(x509.random_serial_number())
    # An hour back: clocks of devices are what they are.
    return builder.not_valid_before(now - dt.timedelta(hours=1)).not_valid_after(now + dt.timedelta(days=days))


def _own_names(address: str) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in dict.fromkeys(("localhost", socket.gethostname()))]
    addresses = dict.fromkeys(map(ipaddress.ip_address, (LOOPBACK, "::1", address)))
    return [*names, *(x509.IPAddress(each) for each in addresses if not each.is_unspecified)]


def _names_in(path: Path, names: list[x509.GeneralName]) -> bool:
    """Tell whether a certificate holds all of the names."""
    extensions = x509.load_pem_x509_certificate(path.read_bytes()).extensions
    return set(names) <= set(extensions.get_extension_for_class(x509.SubjectAlternativeName).value)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _moment(ns: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(ns / NS, dt.UTC).replace(microsecond=0)
