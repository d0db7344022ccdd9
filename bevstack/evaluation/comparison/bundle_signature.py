"""Who vouches for a bundle: an Ed25519 signature over the bytes of its manifest (RFC 8032).

A public-key signature, since a table is checked by people who share no secret with its authors: an HMAC could be made
by everyone who can check it. It needs the package `cryptography` (`pip install bevstack[signing]`). Without a key a
bundle has hashes only: damage is found, but whoever changes a file can write a new manifest as well, and `verify` says
that nobody signed it.

A signature says that the owner of a key made this bundle. Whose key it is must be known from elsewhere: the fingerprint
(first 16 hex digits of the SHA-256 of the public key) is what a table shows and people compare.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SIGNATURE_FILE = "signature.json"
ALGORITHM = "ed25519"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """A signature that fits."""

    public_key: str
    """Hexadecimal."""

    @property
    def fingerprint(self) -> str:
        """What people compare."""
        return hashlib.sha256(bytes.fromhex(self.public_key)).hexdigest()[:16]


def make_key(path: Path) -> Signature:
    """Write a new private key, readable by its owner only; returns its public side.

    Raises:
        ValueError: the file exists, or `cryptography` is not installed.
    """
    _, keys, serialization = _cryptography()
    if path.exists():
        raise ValueError(f"{path} exists: a key is never replaced, give another name")
    key = keys.Ed25519PrivateKey.generate()
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(text)
    return Signature(public_key=key.public_key().public_bytes_raw().hex())


def sign(text: bytes, key_file: Path) -> dict[str, str]:
    """The content of `signature.json` for the bytes of a manifest.

    Raises:
        ValueError: the file holds no Ed25519 key, or `cryptography` is not installed.
        FileNotFoundError: there is no such file.
    """
    _, keys, serialization = _cryptography()
    if not key_file.is_file():
        raise FileNotFoundError(f"there is no key {key_file}; 'bevstack leaderboard key {key_file}' makes one")
    try:
        key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{key_file} is no private key without a password ({error})") from error
    if not isinstance(key, keys.Ed25519PrivateKey):
        raise ValueError(f"{key_file} is no Ed25519 key; 'bevstack leaderboard key OTHER' makes one")
    public = key.public_key().public_bytes_raw().hex()
    return {"algorithm": ALGORITHM, "public_key": public, "signature": key.sign(text).hex()}


def check_signature(bundle: Path, text: bytes, content: Mapping[str, Any]) -> Signature:
    """Hold a signature against the bytes of a manifest.

    Raises:
        ValueError: it does not fit, is of another kind, or `cryptography` is not installed.
    """
    invalid, keys, _ = _cryptography()
    if content.get("algorithm") != ALGORITHM:
        raise ValueError(f"{bundle}: signature of kind '{content.get('algorithm')}', only {ALGORITHM} is known")
    try:
        public, signature = (bytes.fromhex(content[name]) for name in ("public_key", "signature"))
        keys.Ed25519PublicKey.from_public_bytes(public).verify(signature, text)
    except (invalid, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{bundle}: the signature does not fit manifest.json; one of the two was changed after signing"
        ) from error
    return Signature(public_key=public.hex())


def _cryptography() -> tuple[type[Exception], Any, Any]:
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise ValueError("signatures need the package cryptography: pip install 'bevstack[signing]'") from error
    return InvalidSignature, ed25519, serialization
