"""One browser on its way through the log-in pages: who it has shown to be, in a sealed cookie, and the token its forms carry."""

import hashlib
import hmac
import json
import secrets
import time
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from auth.keys import derive_key
from auth.sealing import SealBroken, Sealer
from models.customer import Customer

LASTS_S = 600  # from the log-in to the decision; nobody stays logged in here
_CONTEXT = "oauth/visit"


@dataclass(frozen=True, slots=True)
class Visit:
    """`customer_id` None: nobody has logged in yet. `proof` changes with the password."""

    name: str
    until: int
    customer_id: int | None = None
    proof: str = ""


class Visits:
    """Over TLS the cookie is Secure and bound to this very host."""

    def __init__(self, secret_key: str, public_url: str) -> None:
        self._sealer = Sealer(secret_key)
        self._key = derive_key(secret_key, "oauth forms")
        self._is_secure = public_url.startswith("https:")
        self._cookie = "__Host-flotilla-visit" if self._is_secure else "flotilla-visit"

    def begin(self, customer: Customer | None = None) -> Visit:
        """A new one, with a new name: what was known of the browser before it logged in is worth nothing afterwards."""
        known = (customer.id, _proof(customer)) if customer else (None, "")
        return Visit(secrets.token_urlsafe(24), int(time.time()) + LASTS_S, *known)

    def of(self, request: Request) -> Visit | None:
        """The one this browser is on."""
        try:
            visit = Visit(**json.loads(self._sealer.unseal(request.cookies.get(self._cookie, ""), context=_CONTEXT)))
        except SealBroken:
            return None
        return visit if visit.until > time.time() else None

    def keep(self, visit: Visit, response: Response) -> None:
        fields = {"name": visit.name, "until": visit.until, "customer_id": visit.customer_id, "proof": visit.proof}
        sealed = self._sealer.seal(json.dumps(fields), context=_CONTEXT)
        response.set_cookie(self._cookie, sealed, max_age=LASTS_S, path="/", secure=self._is_secure, httponly=True, samesite="lax")

    def form_token(self, visit: Visit, query: str) -> str:
        """Only this browser can send it, and only for this request of an app."""
        return hmac.new(self._key, f"{visit.name} {query}".encode(), hashlib.sha256).hexdigest()

    def is_form_token(self, token: str, visit: Visit, query: str) -> bool:
        return hmac.compare_digest(token.encode(), self.form_token(visit, query).encode())


def is_proven(visit: Visit, customer: Customer) -> bool:
    """Whether the visit is this customer's, whose password is what it was at the log-in."""
    return customer.id == visit.customer_id and hmac.compare_digest(_proof(customer), visit.proof)


def _proof(customer: Customer) -> str:
    return hashlib.sha256((customer.password_hash or "").encode()).hexdigest()[:16]
