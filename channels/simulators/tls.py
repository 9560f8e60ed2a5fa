"""A certificate for the loopback, made on the spot and trusted by nobody who was not told to."""

from __future__ import annotations

import ipaddress
import os
import ssl
import tempfile
from dataclasses import dataclass, field
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Certificate:
    """A self-signed certificate and its key, both as PEM."""

    certificate_pem: str
    key_pem: str = field(repr=False)

    def server_context(self) -> ssl.SSLContext:
        """What a server presents itself with."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        handle, path = tempfile.mkstemp()  # the standard library loads a key from a file only
        try:
            os.write(handle, (self.key_pem + self.certificate_pem).encode())
            context.load_cert_chain(path)
        finally:
            os.close(handle)
            os.unlink(path)
        return context

    def client_context(self) -> ssl.SSLContext:
        """What a client trusts this server with, and no other."""
        return ssl.create_default_context(cadata=self.certificate_pem)


def make_certificate(now: datetime) -> Certificate:
    """A certificate for 127.0.0.1 and localhost that is valid around `now`, for ten years."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    hosts = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=3_650)).not_valid_after(now + timedelta(days=3_650))
    builder = builder.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    certificate = builder.sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    plain = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Certificate(certificate.public_bytes(pem).decode(), plain.decode())
