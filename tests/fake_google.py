"""Google's two signers, with keys of their own: people's ID tokens, and the assertions of IAP."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

API, IAP = "https://tally.example.com", "/projects/1/global/backendServices/7"


class FakeGoogle(ThreadingHTTPServer):
    """Serves its public keys at /google and /iap."""

    daemon_threads = True

    def __init__(self) -> None:
        self.person_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.iap_key = ec.generate_private_key(ec.SECP256R1())
        self.asked = 0
        published = {"/google": {"g1": _pem(self.person_key)}, "/iap": {"i1": _pem(self.iap_key)}}
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                fake.asked += 1
                body = json.dumps(published[self.path]).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def token(self, email: str = "ada@example.com", *, key: Any = None, **claims: Any) -> str:
        """A person's ID token."""
        now = int(time.time())
        said = {
            "iss": "https://accounts.google.com", "aud": API, "sub": "1", "email": email, "email_verified": True,
            "iat": now - 5, "exp": now + 3600,
        }  # fmt: skip
        return jwt.encode(said | claims, key or self.person_key, "RS256", headers={"kid": "g1"})

    def assertion(self, email: str = "ada@example.com", *, key: Any = None, **claims: Any) -> str:
        """What IAP adds to a request."""
        now = int(time.time())
        said = {
            "iss": "https://cloud.google.com/iap", "aud": IAP, "sub": "1", "email": email, "iat": now - 5,
            "exp": now + 600,
        }  # fmt: skip
        return jwt.encode(said | claims, key or self.iap_key, "ES256", headers={"kid": "i1"})

    def settings(self) -> dict[str, str]:
        """What makes a keys function believe it."""
        return {
            "TALLY_API_AUDIENCE": f"32555940559.apps.googleusercontent.com, {API}",
            "TALLY_API_CERTS_URL": f"{self.url}/google",
            "TALLY_IAP_AUDIENCES": f"/projects/1/global/backendServices/6,{IAP}",
            "TALLY_IAP_CERTS_URL": f"{self.url}/iap",
        }

    def close(self) -> None:
        """Stop."""
        self.shutdown()
        self.server_close()


def _pem(key: Any) -> str:
    return str(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())
