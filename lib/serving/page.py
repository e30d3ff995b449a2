"""The pages for people: `/`, one HTML file, and `/docs`, Swagger UI. Neither loads anything from elsewhere."""

import hashlib
import re
from base64 import b64encode
from functools import cache
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles

router = APIRouter()
router.mount("/docs/files", StaticFiles(packages=[("fastapi_offline", "static")]))


@router.get("/", include_in_schema=False)
def page(request: Request) -> HTMLResponse:
    """Respond with the page, which knows how large a body the service accepts."""
    html, policy = _page()
    html = html.replace("$max_body", str(int(request.app.state.service.settings.max_body)))
    return HTMLResponse(html, headers={"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"})


@router.get("/docs", include_in_schema=False)
def docs(request: Request) -> HTMLResponse:
    """Respond with Swagger UI. Its addresses are relative, so that it works behind a proxy's prefix as well."""
    return get_swagger_ui_html(
        openapi_url="openapi.json", title=request.app.title, swagger_js_url="docs/files/swagger-ui-bundle.js",
        swagger_css_url="docs/files/swagger-ui.css", swagger_favicon_url="docs/files/favicon.png",
    )  # fmt: skip


@router.get("/docs/", include_in_schema=False)
def docs_with_a_slash() -> RedirectResponse:
    """Redirect to the address without the slash, to which Swagger UI's addresses are relative."""
    return RedirectResponse("../docs")


@cache
def _page() -> tuple[str, str]:
    """Return the page, and a policy that allows its own script and style, by their hashes, and no others."""
    html = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    sources = (re.search(f"<{tag}>(.*?)</{tag}>", html, re.S)[1].encode() for tag in ("script", "style"))
    script, style = (f"'sha256-{b64encode(hashlib.sha256(source).digest()).decode()}'" for source in sources)
    return html, (
        f"default-src 'none'; script-src {script}; style-src {style}; img-src blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
