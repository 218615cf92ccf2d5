"""How requests get further than the first check: with a fresh token each, and to recipients and from templates that exist."""

import json
import time
from pathlib import Path
from uuid import UUID

import jwt
import schemathesis

ROOT = Path(__file__).parents[3]
service = json.loads((ROOT / "src/dev.json").read_text())["services"][0]
templates = {template["template_type"]: template["id"] for template in service["templates"]}


@schemathesis.auth(refresh_interval=None)
class ServiceKey:
    def get(self, case, ctx):
        claims = {"iss": service["id"], "iat": int(time.time())}
        return jwt.encode(claims, service["keys"][0]["secret"], "HS256")

    def set(self, case, data, ctx):
        case.headers = {**(case.headers or {}), "Authorization": f"Bearer {data}"}


@schemathesis.hook
def map_body(ctx, body):
    """A message that can be sent, in all that the fuzzer left well formed."""
    if not isinstance(body, dict):
        return body
    known = {"phone_number": "07700900123", "email_address": "ada@example.com"}
    if "phone_number" in body or "email_address" in body:
        known["template_id"] = templates["email" if "email_address" in body else "sms"]
    changed = {name: value for name, value in known.items() if isinstance(body.get(name), str)}
    if isinstance(body.get("personalisation"), dict):
        changed["personalisation"] = {"name": "Ada", **body["personalisation"]}
    return {**body, **changed}


@schemathesis.hook
def map_path_parameters(ctx, parameters):
    try:
        UUID(parameters["template_id"])
    except (KeyError, TypeError, ValueError, AttributeError):
        return parameters
    return {**parameters, "template_id": templates["sms"]}
