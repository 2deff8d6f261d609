"""Passwords of devices and of quayflow's own parts: drawn at random, kept as hashes.

Two hashes of each: argon2id for whoever asks quayflow (the HTTP endpoint for brokers), and what Mosquitto's password
file holds, PBKDF2 with SHA-512, because Mosquitto knows no other. A password has 192 random bits: nobody guesses one.
"""

import base64
import hashlib
import secrets
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

PASSWORD_BYTES: Final = 24
SALT_BYTES: Final = 12
KEY_BYTES: Final = 64
ITERATIONS: Final = 101
"""As mosquitto_passwd has it: the strength lies in the password's length, and a broker restart hashes thousands."""
_HASHER: Final = PasswordHasher()


def new_password() -> str:
    """Return a random password of 32 characters that any shell, URL and file takes as it is."""
    return secrets.token_urlsafe(PASSWORD_BYTES)


def argon2_hash(password: str) -> str:
    """Return the argon2id hash of a password, in its own notation with salt and parameters."""
    return _HASHER.hash(password)


def fits(argon2: str, password: str) -> bool:
    """Tell whether a password is the one of a hash."""
    try:
        return _HASHER.verify(argon2, password)
    except (VerificationError, InvalidHashError):
        return False


def mosquitto_hash(password: str, salt: bytes | None = None) -> str:
    """Return the hash of a password as a line of Mosquitto 2's password file has it: ``$7$iterations$salt$key``."""
    salt = secrets.token_bytes(SALT_BYTES) if salt is None else salt
    key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS, KEY_BYTES)
    return f"$7${ITERATIONS}${base64.b64encode(salt).decode()}${base64.b64encode(key).decode()}"
