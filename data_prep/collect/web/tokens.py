"""Signed and dated tokens, and the owner's password.

    link      an invitation, or the entrance of a platform; in the address
    session   an annotator's requests; in the Authorization header
    pictures  the pictures of one page; in their addresses, since an <img> sends no header
    login     the cookie of the form in which the owner logs in; everybody gets one with the form
    owner     the owner's cookie; csrf the token that the owner's requests repeat

Each kind has its own salt, so that none passes for another.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError
from itsdangerous import BadData, SignatureExpired, TimestampSigner, URLSafeTimedSerializer

from data_prep.collect.config import SIMULATED
from data_prep.collect.visits import Session

_DAY_S = 86_400
SESSION_DAYS = 30
PICTURE_DAYS = 7
OWNER_HOURS = 12


_ROUND_S = 6 * 3600


class _Rounded(TimestampSigner):
    """Dates that change every six hours, so that a picture keeps its address, and the browser's cache knows it."""

    def get_timestamp(self) -> int:
        return int(time.time()) // _ROUND_S * _ROUND_S


class TokenError(Exception):
    """`code` is `bad_token` or `expired_token`."""

    def __init__(self, code: str):
        super().__init__("the link has expired; ask for a new one" if code == "expired_token" else "not a valid token")
        self.code = code


class Tokens:
    """All tokens of one project, signed with its secret; they hold over restarts."""

    def __init__(self, secret: bytes, *, link_days: int):
        def signer(salt: str) -> URLSafeTimedSerializer:
            return URLSafeTimedSerializer(secret.hex(), salt=f"collect-{salt}")

        self._link, self._session = signer("link"), signer("session")
        self._pictures = URLSafeTimedSerializer(secret.hex(), salt="collect-pictures", signer=_Rounded)
        self._secret = secret
        self._login, self._owner, self._csrf = signer("login"), signer("owner"), signer("csrf")
        self._link_s = link_days * _DAY_S

    def invitation(self, name: str) -> str:
        return _text(self._link.dumps({"i": name}))

    def rehearsal(self, name: str) -> str:
        """An invitation of a simulated annotator."""
        return _text(self._link.dumps({"s": name}))

    def entrance(self, platform: str) -> str:
        return _text(self._link.dumps({"p": platform}))

    def read_link(self, token: str) -> tuple[str, str]:
        """Platform, and the name of the invitation (empty for a platform's entrance)."""
        found = _load(self._link, token, self._link_s)
        if isinstance(found, dict) and isinstance(found.get("i"), str):
            return "none", found["i"]
        if isinstance(found, dict) and isinstance(found.get("s"), str):
            return SIMULATED, found["s"]
        if isinstance(found, dict) and isinstance(found.get("p"), str):
            return found["p"], ""
        raise TokenError("bad_token")

    def session(self, session: Session) -> str:
        return _text(self._session.dumps([session.worker, session.visit]))

    def read_session(self, token: str) -> Session:
        found = _load(self._session, token, SESSION_DAYS * _DAY_S)
        if isinstance(found, list) and len(found) == 2:
            return Session(*found)
        raise TokenError("bad_token")

    def pictures(self, assignment: str) -> str:
        return _text(self._pictures.dumps(assignment))

    def read_pictures(self, token: str) -> str:
        found = _load(self._pictures, token, PICTURE_DAYS * _DAY_S)
        if not isinstance(found, str):
            raise TokenError("bad_token")
        return found

    def login(self) -> str:
        """Of one sight of the form."""
        return _text(self._login.dumps(secrets.token_hex(8)))

    def read_login(self, token: str) -> str:
        return str(_load(self._login, token, OWNER_HOURS * 3600))

    def owner(self, password_hash: str, epoch: str) -> str:
        """Holds as long as the password, and until the next logout, which begins an epoch."""
        return _text(self._owner.dumps([secrets.token_hex(8), self._period(password_hash, epoch)]))

    def read_owner(self, token: str, password_hash: str, epoch: str) -> str:
        """The id of the login."""
        found = _load(self._owner, token, OWNER_HOURS * 3600)
        if not (isinstance(found, list) and len(found) == 2):
            raise TokenError("bad_token")
        login, period = map(str, found)
        if not hmac.compare_digest(period, self._period(password_hash, epoch)):
            raise TokenError("expired_token")
        return login

    def _period(self, password_hash: str, epoch: str) -> str:
        return hmac.new(self._secret, f"owner\0{password_hash}\0{epoch}".encode(), hashlib.sha256).hexdigest()[:32]

    def csrf(self, login: str) -> str:
        return _text(self._csrf.dumps(login))

    def is_csrf(self, token: str, login: str) -> bool:
        try:
            return _load(self._csrf, token, OWNER_HOURS * 3600) == login
        except TokenError:
            return False


def _text(token: str | bytes) -> str:
    return token if isinstance(token, str) else token.decode()


def _load(signer: URLSafeTimedSerializer, token: str, max_age_s: int) -> Any:
    try:
        return signer.loads(token, max_age=max_age_s)
    except SignatureExpired as e:
        raise TokenError("expired_token") from e
    except BadData as e:
        raise TokenError("bad_token") from e


_HASHER = PasswordHasher()


def hash_password(password: str) -> str:
    """Argon2id with the library's parameters."""
    return _HASHER.hash(password)


def is_password(hashed: str, password: str) -> bool:
    try:
        return _HASHER.verify(hashed, password)
    except (Argon2Error, InvalidHashError):
        return False
