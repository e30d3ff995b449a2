"""The description of the interface at `/docs`: Swagger UI, with files of this machine alone."""

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

router = APIRouter()
router.mount("/docs/files", StaticFiles(packages=[("fastapi_offline", "static")]))


@router.get("/docs", include_in_schema=False)
def docs(request: Request) -> HTMLResponse:
    """Answer with the page. Its addresses are relative, so that it works behind a proxy's prefix as well."""
    return get_swagger_ui_html(
        openapi_url="openapi.json",
        title=request.app.title,
        swagger_js_url="docs/files/swagger-ui-bundle.js",
        swagger_css_url="docs/files/swagger-ui.css",
        swagger_favicon_url="docs/files/favicon.png",
    )
