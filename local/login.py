"""Google's sign-in on a laptop: says who somebody of people.csv is, and signs it, so that `tally` works in a demo.

    python -m local.login --port 8027 --people policy/people.csv --person ada@example.com --audience tally-local

`/token/<secret>` gives an ID token away to whoever knows the secret in TALLY_LOGIN_SECRET, which stands in run.json;
with `?person=…` one of somebody else: whoever started this may be anybody here. `/certs` has the key to check tokens
with; it is drawn anew at each start.
"""

from __future__ import annotations

import argparse
import hmac
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from google.auth import crypt, jwt

from governance.policy import Person, read_people

AUDIENCE: Final = "tally-local"
TOKEN_S: Final = 3_600
KEY_ID: Final = "local"
_HERE: Final = {"127.0.0.1", "localhost", "[::1]"}


class Login:
    """Signs for these people, with a key of its own."""

    def __init__(self, people: tuple[Person, ...], person: str, audience: str, secret: str) -> None:
        self._people, self._person, self._audience = {p.email: p for p in people}, person, audience
        self._secret = secret
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self._signer = crypt.RSASigner.from_string(private, KEY_ID)  # type: ignore[no-untyped-call]
        self._public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def sign(self, email: str, **claims: Any) -> str:
        """An ID token as Google makes one."""
        now = int(time.time())
        said: Mapping[str, Any] = {
            "iss": "https://accounts.google.com",
            "aud": self._audience,
            "sub": email,
            "email": email,
            "email_verified": True,
            "iat": now,
            "exp": now + TOKEN_S,
        }
        token: bytes = jwt.encode(self._signer, {**said, **claims})  # type: ignore[no-untyped-call]
        return token.decode()

    async def token(self, request: web.Request) -> web.Response:
        """{"token": …} for the person of the run, or the one asked for."""
        host = request.host.rpartition(":")[0] or request.host
        known = hmac.compare_digest(request.match_info["secret"].encode(), self._secret.encode())
        if not known or host not in _HERE or "Origin" in request.headers:
            return web.json_response({"error": "only for programs on this machine that read run.json"}, status=403)
        email = request.query.get("person", self._person).lower()
        if email not in self._people:
            return web.json_response({"error": "nobody in people.csv has that e-mail"}, status=404)
        return web.json_response({"token": self.sign(email)}, headers={"Cache-Control": "no-store"})

    async def certs(self, _: web.Request) -> web.Response:
        """The public key by its id, as Google publishes its own."""
        return web.json_response({KEY_ID: self._public})


def application(login: Login) -> web.Application:
    """Both addresses."""
    app = web.Application()
    app.router.add_get("/token/{secret}", login.token)
    app.router.add_get("/certs", login.certs)
    return app


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m local.login", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--people", type=Path, required=True)
    parser.add_argument("--person", required=True)
    parser.add_argument("--audience", default=AUDIENCE)
    given = parser.parse_args()
    secret = os.environ["TALLY_LOGIN_SECRET"]  # not on the command line, which everybody here can read
    app = application(Login(read_people(given.people), given.person, given.audience, secret))
    web.run_app(app, host="127.0.0.1", port=given.port, access_log=None, print=None)


if __name__ == "__main__":
    main()
