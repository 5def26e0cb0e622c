"""A small certificate authority of an environment's own, for regions whose certificates no public one can sign.

Its key never leaves its directory. What it issued is kept, and issued anew when it is about to end or to be for others.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pipeline.certificate import Certificate
from pipeline.errors import ConfigurationInvalid
from pipeline.privatefile import write_private
from pipeline.secrets import Secret

__all__ = ["TEN_YEARS", "Authority", "read_certificate"]

TEN_YEARS = 3650
"""The days that an authority is good for; and what must not end by itself, for nobody would see it coming."""
_DAYS, _RENEWED = 90, 30  # of what it issues, and left when that is issued anew


class Authority:
    """The authority in `directory` (0700), made at `now` (UTC) where there is none; `name` is whose it is.

    Raises ConfigurationInvalid where what is there cannot be read, or its certificate is there without its key: another
    authority in its place would be one that nobody trusts.
    """

    def __init__(self, directory: Path, name: str, now: datetime) -> None:
        self._directory, self._now = directory, now
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        trusted = self.path.exists()  # asked first: who makes an authority beside us writes its key before it
        found = self._read("authority")
        if found is None and trusted:
            raise ConfigurationInvalid(
                f"{self.path}: its key, authority.key beside it, is gone or another's",
                hint=f"bring authority.key back from your backup; or remove {self.path}, and the next run makes "
                "another authority, which every customer must trust anew",
            )
        if found is None:
            key = ec.generate_private_key(ec.SECP256R1())
            subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name}: its own certificate authority")])
            made = _signed(subject, key, subject, key, now, TEN_YEARS, _of_an_authority(key.public_key()))
            found = self._keep("authority", made, key)
        self._certificate, self._key = found

    @property
    def path(self) -> Path:
        """The file of its certificate, for those who are to trust it."""
        return self._directory / "authority.pem"

    @property
    def certificate(self) -> str:
        """Its certificate in PEM."""
        return _pem(self._certificate)

    def issue(self, name: str, hosts: Sequence[str], *, days: int = _DAYS, renewing: bool = True) -> Certificate:
        """Return a server's certificate for `hosts` (addresses or names), kept under `name` while it is good.

        It is good for so many `days`, and issued anew when the hosts are others, or, for who is `renewing`, 30 days
        before its end.
        """
        found = self._read(name)
        if found is None or not self._is_for(found[0], hosts) or (renewing and self._ends_soon(found[0])):
            key = ec.generate_private_key(ec.SECP256R1())
            subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])])
            extensions = _of_a_server(hosts, self._key.public_key())
            found = self._keep(
                name, _signed(subject, key, self._certificate.subject, self._key, self._now, days, extensions), key
            )
        return Certificate(_pem(found[0]), Secret(_key_pem(found[1])))

    def _is_for(self, certificate: x509.Certificate, hosts: Sequence[str]) -> bool:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        ours = certificate.issuer == self._certificate.subject and _is_signed_by(certificate, self._certificate)
        return ours and names == _names(hosts)

    def _ends_soon(self, certificate: x509.Certificate) -> bool:
        return certificate.not_valid_after_utc - self._now <= timedelta(days=_RENEWED)

    def _read(self, name: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None:
        path = self._directory / f"{name}.pem"
        try:
            key = serialization.load_pem_private_key(path.with_suffix(".key").read_bytes(), password=None)
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ConfigurationInvalid(
                f"{path}: cannot be used: {error}", hint=f"remove {path}, then deploy"
            ) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            return None  # a run was killed between the two files
        return certificate, key

    def _keep(
        self, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
    ) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        for suffix, text in (("key", _key_pem(key)), ("pem", _pem(certificate))):
            write_private(self._directory / f"{name}.{suffix}", text)
        return certificate, key


def read_certificate(chain: Path, key: Path, host: str, now: datetime | None) -> Certificate:
    """Return the certificate in file `chain`, whose key is in file `key`, that a server at `host` is to show.

    Raises ConfigurationInvalid where they cannot be read, do not belong together, are for other hosts, or not good at
    `now` (None: whenever).
    """
    try:
        found = Certificate(chain.read_text("utf-8"), Secret(key.read_text("utf-8")))
        certificate = x509.load_pem_x509_certificate(found.chain.encode())
        private = serialization.load_pem_private_key(found.key.reveal().encode(), password=None)
        named = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, TypeError, x509.ExtensionNotFound) as error:
        raise ConfigurationInvalid(
            f"tls: {chain} with {key}: cannot be used: {error}", hint="both must be PEM, the key without a password"
        ) from error
    if private.public_key() != certificate.public_key():
        raise ConfigurationInvalid(f"tls: {key} is not the key of {chain}", hint="name the key that belongs to it")
    if now and not certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc:
        raise ConfigurationInvalid(
            f"tls: {chain} is good from {certificate.not_valid_before_utc:%Y-%m-%d} to "
            f"{certificate.not_valid_after_utc:%Y-%m-%d} only",
            hint="have it renewed",
        )
    if not set(_names([host])) & set(named):
        raise ConfigurationInvalid(
            f"tls: {chain} is not for {host}, which the catalog names", hint="have it issued for that address"
        )
    return found


def _signed(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    signer: ec.EllipticCurvePrivateKey,
    now: datetime,
    days: int,
    extensions: Sequence[tuple[x509.ExtensionType, bool]],
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # the clocks of hosts may be a little behind
        .not_valid_after(now + timedelta(days=days))
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(signer, hashes.SHA256())


def _of_an_authority(key: ec.EllipticCurvePublicKey) -> tuple[tuple[x509.ExtensionType, bool], ...]:
    return (
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (_usage(key_cert_sign=True, crl_sign=True), True),
        (x509.SubjectKeyIdentifier.from_public_key(key), False),
    )


def _of_a_server(
    hosts: Sequence[str], signer: ec.EllipticCurvePublicKey
) -> tuple[tuple[x509.ExtensionType, bool], ...]:
    return (
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_usage(digital_signature=True), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (_names(hosts), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), False),
    )


def _usage(**given: bool) -> x509.KeyUsage:
    every = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: given.get(name, False) for name in every})


def _names(hosts: Sequence[str]) -> x509.SubjectAlternativeName:
    names: list[x509.GeneralName] = []
    for host in hosts:
        try:
            names.append(x509.IPAddress(ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    return x509.SubjectAlternativeName(names)


def _is_signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):  # another authority's
        return False
    return True


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
