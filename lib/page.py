"""The page at `/`: one HTML file that loads nothing, and the policy that holds it to that."""

import hashlib
import re
from base64 import b64encode
from functools import cache
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

router = APIRouter()


@router.get("/", include_in_schema=False)
def page() -> HTMLResponse:
    """Answer with the page."""
    html, policy = _page()
    return HTMLResponse(html, headers={"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"})


@cache
def _page() -> tuple[str, str]:
    """Return the page, and a policy that allows its own script and style, by their hashes, and no others."""
    html = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    script, style = (_hash(re.search(f"<{tag}>(.*?)</{tag}>", html, re.S)[1]) for tag in ("script", "style"))
    return html, (
        f"default-src 'none'; script-src {script}; style-src {style}; img-src blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
