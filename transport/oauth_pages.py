"""The pages a customer sees on the way to an app: log-in, sign-up, consent, and what went wrong. Plain HTML, no script."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import urlsplit

from starlette.responses import HTMLResponse

STYLE = (Path(__file__).parent / "oauth_page" / "page.css").read_text()
_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()

# What each scope is to the customer who gives it; one without a sentence cannot be asked for.
SENTENCES: Mapping[str, str] = {
    "devices:read": "See your devices and their state",
    "devices:call": "Control your devices: call their functions and read their variables",
    "devices:claim": "Add devices to your account and give them back",
    "events:read": "See the events your devices publish",
}


@dataclass(frozen=True, slots=True)
class Asking:
    """What all pages of one request share. `query` is the app's request, which every form sends along."""

    product: str
    app: str
    query: str
    redirect_uri: str
    form_token: str


@dataclass(frozen=True, slots=True)
class LetIn:
    """An app that has access to the customer's account."""

    client_id: str
    name: str
    scopes: Sequence[str]


_HINT = '<p class="hint" id="hint">At least 15 characters; a sentence is good.</p>'


def log_in(asking: Asking, *, username: str = "", error: str = "", status: int = 200) -> HTMLResponse:
    inner = f"""<h1>Log in to {escape(asking.product)}</h1>
<p>to go on to <strong>{escape(asking.app)}</strong></p>
{_error(error)}{
        _form(
            "authorize",
            asking,
            f'''{_name_and_password(username, "current-password")}
<button name="step" value="log_in">Log in</button>''',
        )
    }
<p>No account yet? <a href="/oauth/sign-up?{escape(asking.query)}">Sign up</a></p>
<p>Forgotten the password? <a href="/oauth/forgotten?{escape(asking.query)}">Set a new one</a></p>
{_cancel(asking)}"""
    return _page(f"Log in to {asking.product}", inner, asking.redirect_uri, status)


def sign_up(asking: Asking, *, username: str = "", error: str = "", status: int = 200) -> HTMLResponse:
    inner = f"""<h1>Sign up for {escape(asking.product)}</h1>
<p>to go on to <strong>{escape(asking.app)}</strong></p>
{_error(error)}{
        _form(
            "sign-up",
            asking,
            f'''{_name_and_password(username, "new-password")}
{_HINT}
<button name="step" value="sign_up">Sign up</button>''',
        )
    }
<p>Have an account? <a href="/oauth/authorize?{escape(asking.query)}">Log in</a></p>
{_cancel(asking)}"""
    return _page(f"Sign up for {asking.product}", inner, asking.redirect_uri, status)


def forgotten(asking: Asking, *, username: str = "", error: str = "", note: str = "", status: int = 200) -> HTMLResponse:
    """Both steps on one page: nothing has to be kept between them."""
    sending = f"""<label for="username">E-mail or user name</label>
<input id="username" name="username" value="{escape(username)}" autocomplete="username" autocapitalize="none" spellcheck="false" required>
<button name="step" value="send">Send me a code</button>"""
    setting = f"""<label for="code">The code out of the letter</label>
<input id="code" name="code" autocomplete="one-time-code" autocapitalize="none" spellcheck="false" required>
<label for="password">New password</label>
<input id="password" name="password" type="password" autocomplete="new-password" required minlength="15" aria-describedby="hint">
{_HINT}
<button name="step" value="reset">Set the password</button>"""
    told = f'<p role="status">{escape(note)}</p>\n' if note else ""
    inner = f"""<h1>A new password for {escape(asking.product)}</h1>
{_error(error)}{told}{_form("forgotten", asking, sending)}
{_form("forgotten", asking, setting)}
<p>Remembered it? <a href="/oauth/authorize?{escape(asking.query)}">Log in</a></p>"""
    return _page(f"A new password for {asking.product}", inner, asking.redirect_uri, status)


def apps(asking: Asking, *, username: str, let_in: Sequence[LetIn], error: str = "", status: int = 200) -> HTMLResponse:
    """What the customer lets apps do, each with a way to take it back."""
    shown = "\n".join(f"<h2>{escape(each.name)}</h2>\n{_can(each.scopes)}{_form('apps', asking, _taking_back(each))}" for each in let_in)
    inner = f"""<h1>Apps with access to your {escape(asking.product)} account</h1>
<p>You are logged in as <strong>{escape(username)}</strong>.</p>
{_error(error)}{shown or "<p>There are none.</p>"}
<p><a href="/oauth/authorize?{escape(asking.query)}">Back to {escape(asking.app)}</a></p>"""
    return _page(f"Apps with access to {asking.product}", inner, asking.redirect_uri, status)


def consent(asking: Asking, *, username: str, scopes: tuple[str, ...], error: str = "", status: int = 200) -> HTMLResponse:
    # Nothing has the focus: one Enter too many at the log-in must not allow it.
    buttons = """<button name="step" value="allow">Allow</button>
<button name="step" value="deny" class="quiet">Deny</button>
<button name="step" value="leave" class="link">Use another account</button>"""
    inner = f"""<h1>{escape(asking.app)} asks for access to your {escape(asking.product)} account</h1>
<p>You are logged in as <strong>{escape(username)}</strong>. If you allow it, {escape(asking.app)} can:</p>
{_can(scopes)}<p class="hint">Then you return to {escape(_place(asking.redirect_uri))}.</p>
{_error(error)}{_form("authorize", asking, buttons)}
<p><a href="/oauth/apps?{escape(asking.query)}">Apps you have let in</a></p>"""
    return _page(f"Allow {asking.app}?", inner, asking.redirect_uri, status)


def failed(sentence: str, status: int = 400, headers: Mapping[str, str] | None = None) -> HTMLResponse:
    """For whoever sits there, where sending them back to an app would not be safe."""
    inner = f'<h1>This cannot go on</h1>\n<p role="alert">{escape(sentence)}</p>\n<p>Go back to the app and try again.</p>'
    page = _page("This cannot go on", inner, "", status)
    page.headers.update(headers or {})
    return page


def _can(scopes: Sequence[str]) -> str:
    return "<ul>\n" + "".join(f"<li>{escape(SENTENCES[scope])}</li>\n" for scope in scopes) + "</ul>\n"


def _taking_back(app: LetIn) -> str:
    name = escape(app.name)
    return f"""<input type="hidden" name="app" value="{escape(app.client_id)}">
<button name="step" value="take_back" class="quiet" aria-label="Take back the access of {name}">Take it back</button>"""


def _form(path: str, asking: Asking, inner: str) -> str:
    return f"""<form method="post" action="/oauth/{path}?{escape(asking.query)}">
<input type="hidden" name="form_token" value="{escape(asking.form_token)}">
{inner}
</form>"""


def _name_and_password(username: str, kind: str) -> str:
    typed, focus = escape(username), (" autofocus", "") if not username else ("", " autofocus")
    least = ' minlength="15" aria-describedby="hint"' if kind == "new-password" else ""
    return f"""<label for="username">E-mail or user name</label>
<input id="username" name="username" value="{typed}" autocomplete="username" autocapitalize="none" spellcheck="false" required{focus[0]}>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="{kind}" required{least}{focus[1]}>"""


def _cancel(asking: Asking) -> str:
    return _form("authorize", asking, '<button name="step" value="deny" class="link">Cancel</button>')


def _error(sentence: str) -> str:
    return f'<p role="alert" class="error">{escape(sentence)}</p>\n' if sentence else ""


def _page(title: str, inner: str, redirect_uri: str, status: int) -> HTMLResponse:
    html = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
{inner}
</main>
</body>
</html>
"""
    # Browsers hold `form-action` against the redirect that answers a form too: without the app's place nobody gets back to it.
    forms = f"form-action 'self' {_origin(redirect_uri)}".rstrip()
    policy = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; {forms}; base-uri 'none'; frame-ancestors 'none'"
    return HTMLResponse(html, status, {"Content-Security-Policy": policy, **HEADERS})


HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def _origin(redirect_uri: str) -> str:
    parts = urlsplit(redirect_uri)
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else f"{parts.scheme}:" if parts.scheme else ""


def _place(redirect_uri: str) -> str:
    return urlsplit(redirect_uri).netloc or "the app"
