"""Certificates made by openssl, for servers and clients of tests."""

import subprocess
from pathlib import Path

from testing.requirements import require

EC = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


class Authority:
    """A certificate authority in a folder; `certificate` is the file to trust."""

    def __init__(self, folder: Path, name: str = "authority"):
        require("openssl")
        self._folder = folder
        self.certificate = folder / f"{name}.pem"
        self._key = folder / f"{name}.key"
        self._openssl("req", "-x509", *EC, "-days", "2", "-subj", f"/CN={name}", "-keyout", self._key, "-out", self.certificate)

    def issue(self, name: str, *, host: str | None = None, days: int = 2) -> tuple[Path, Path]:
        """Return certificate and key, of a server where a host is given, else of a client; negative days give an expired one."""
        certificate, key, request, extensions = (self._folder / f"{name}.{kind}" for kind in ("pem", "key", "csr", "ext"))
        extensions.write_text("extendedKeyUsage=clientAuth" if host is None else f"subjectAltName=DNS:{host}")
        self._openssl("req", *EC, "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        signing = ["-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial", "-days", days, "-extfile", extensions]
        self._openssl("x509", "-req", "-in", request, *signing, "-out", certificate)
        return certificate, key

    def _openssl(self, *arguments: object) -> None:
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
