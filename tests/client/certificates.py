"""Authorities and certificates for tests of TLS: good ones, and ones with one fault each."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Certificate:
    """A certificate and its private key, as PEM files."""

    path: Path
    key: Path


class Authority:
    """An authority that signs certificates into a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, _name(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        extension = x509.BasicConstraints(ca=True, path_length=0)
        certificate = self._builder(name, self._key, DAY).add_extension(extension, critical=True)
        self.path = _write(folder, name, certificate.sign(self._key, hashes.SHA256()), self._key).path

    def sign(self, name: str, host: str = "localhost", lasts: timedelta = DAY) -> Certificate:
        """Make a certificate for a host name or address; one that `lasts` less than nothing has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        is_address = host.replace(".", "").isdigit()
        place = x509.IPAddress(ip_address(host)) if is_address else x509.DNSName(host)
        builder = self._builder(name, key, lasts).add_extension(x509.SubjectAlternativeName([place]), critical=False)
        return _write(self._folder, name, builder.sign(self._key, hashes.SHA256()), key)

    def _builder(self, name: str, key: ec.EllipticCurvePrivateKey, lasts: timedelta) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 30 * DAY)
            .not_valid_after(now + lasts)
        )


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _write(folder: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Certificate:
    written = Certificate(folder / f"{name}.crt", folder / f"{name}.key")
    written.path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form, no_password = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    written.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, no_password))
    return written
