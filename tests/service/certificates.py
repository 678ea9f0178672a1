"""Certificates and keys for tests, made when they are needed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class Credentials:
    """PEM files: the signer's certificate and its issuer's below it, the signer's key; the issuer's alone."""

    certificate: Path
    key: Path
    issuer: Path

    def settings(self) -> dict[str, Any]:
        return {"c2pa_certificate": self.certificate, "c2pa_key": self.key}


def make(folder: Path, key: Key | None = None, ended: bool = False, purpose: bool = True) -> Credentials:
    """With `ended` it has expired; without `purpose` it is not for signing documents or mail."""
    folder.mkdir(parents=True, exist_ok=True)
    issuer_key, own = ec.generate_private_key(ec.SECP256R1()), key or ec.generate_private_key(ec.SECP256R1())
    issuer = _certificate("issuer", issuer_key, issuer_key, "issuer", _issuing())
    signing = _signing() if purpose else _signing()[:2]
    signer = _certificate("signer", own, issuer_key, "issuer", signing, ended)
    files = Credentials(folder / "certificate.pem", folder / "key.pem", folder / "issuer.pem")
    files.issuer.write_bytes(issuer.public_bytes(Encoding.PEM))
    files.certificate.write_bytes(signer.public_bytes(Encoding.PEM) + files.issuer.read_bytes())
    files.key.write_bytes(own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files


def _issuing() -> list[tuple[x509.ExtensionType, bool]]:
    return [(x509.BasicConstraints(True, None), True), (_usage(signs=False), True)]


def _signing() -> list[tuple[x509.ExtensionType, bool]]:
    return [
        (x509.BasicConstraints(False, None), True),
        (_usage(signs=True), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False),
    ]


def _usage(signs: bool) -> x509.KeyUsage:
    others: dict[str, Any] = dict.fromkeys(
        ["content_commitment", "key_encipherment", "data_encipherment", "key_agreement"], False
    )
    return x509.KeyUsage(
        signs, **others, key_cert_sign=not signs, crl_sign=not signs, encipher_only=False, decipher_only=False
    )


def _certificate(
    name: str,
    key: Key,
    issuer_key: ec.EllipticCurvePrivateKey,
    issuer: str,
    extensions: list[tuple[x509.ExtensionType, bool]],
    ended: bool = False,
) -> x509.Certificate:
    now = datetime.now(UTC)
    extensions = [
        *extensions,
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), False),
    ]
    builder = x509.CertificateBuilder(_name(issuer), _name(name), key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=9))
    builder = builder.not_valid_after(now + timedelta(days=-1 if ended else 9))
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(issuer_key, hashes.SHA256())


def _name(name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "tests"),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )
