"""A page about the API for people, made of its document: no script, and nothing that is loaded from elsewhere."""

from __future__ import annotations

from html import escape
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

router = APIRouter(include_in_schema=False)

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.4rem .8rem .4rem 0;"
    "border-bottom:1px solid #8884;vertical-align:top}code{font-size:.9em}"
)


@router.get("/docs")
async def show_docs(request: Request) -> Response:
    headers = {"content-type": "text/html; charset=utf-8", "content-security-policy": _POLICY}
    return Response(_page(request.app.openapi()), headers=headers)


def _page(document: dict[str, Any]) -> str:
    about = document["info"]
    rows = "".join(
        _row(method, path, operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    )
    paragraphs = "".join(f"<p>{escape(text)}</p>" for text in about["description"].split("\n\n"))
    title = f"{escape(about['title'])} {escape(about['version'])}"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"<h1>{title}</h1>{paragraphs}"
        '<p>The whole of it, with every field and every error: <a href="/openapi.json">/openapi.json</a></p>'
        f"<table><tr><th>Request<th>What it does<th>Scope</tr>{rows}</table></html>"
    )


def _row(method: str, path: str, operation: dict[str, Any]) -> str:
    scope = operation.get("x-required-scope", "")
    does = operation.get("description", "")
    return f"<tr><td><code>{method.upper()} {escape(path)}</code><td>{escape(does)}<td>{escape(scope)}</tr>"
