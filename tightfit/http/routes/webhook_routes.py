"""Webhooks: addresses that hear of the ends of their user's jobs."""

import secrets
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import JSONResponse

from space.errors import QuotaError
from storage.people import Webhook, webhook_not_found
from tightfit.http.callers import Caller, Reader, ServiceOfApp, Submitter
from tightfit.http.people_shapes import DeliveryList, NewWebhook, WebhookList, WebhookRequest
from tightfit.http.problems import problem_responses
from tightfit.http.waiting import in_turn
from tightfit.service import Service
from tightfit.webhooks.destinations import Destinations
from tightfit.webhooks.signing import new_secret

router = APIRouter(prefix="/v1/webhooks", tags=["people"], responses=problem_responses(400, 401, 403, 404, 413, 422))
HookId = Annotated[str, Path(description="The webhook's id.", max_length=100)]
_MOST = 10  # of a user


@router.post("", status_code=201, response_model=NewWebhook, responses=problem_responses(429))
async def add_webhook(request: Request, caller: Submitter, service: ServiceOfApp, asked: WebhookRequest) -> Response:
    """Have the end of each of one's jobs told to an address from now on; its secret is shown once."""
    destinations: Destinations = request.app.state.destinations
    url = await in_turn(destinations.check, asked.url)
    return JSONResponse(await in_turn(_made, service, caller, url), 201)


@router.get("", response_model=WebhookList)
def list_webhooks(caller: Reader, service: ServiceOfApp) -> Response:
    """List the addresses that the caller may see."""
    return JSONResponse({"webhooks": [_json(h) for h in service.store.list_webhooks() if caller.sees(h.user)]})


@router.get("/{webhook}/deliveries", response_model=DeliveryList)
def list_deliveries(caller: Reader, service: ServiceOfApp, webhook: HookId) -> Response:
    """List what an address was told, or is to be."""
    found = _seen(service, caller, webhook)
    told = [
        {
            "delivery": news.delivery_id,
            "job": news.job_id,
            "created_at": news.created_at.isoformat(),
            "attempts": news.attempts,
            "next_at": news.next_at.isoformat() if news.next_at else None,
            "delivered_at": news.delivered_at.isoformat() if news.delivered_at else None,
            "error": news.error,
        }
        for news in service.store.list_deliveries(found.hook_id)
    ]
    return JSONResponse({"deliveries": told})


@router.delete("/{webhook}", status_code=204)
def delete_webhook(caller: Submitter, service: ServiceOfApp, webhook: HookId) -> Response:
    """Tell an address nothing any more."""
    service.store.delete_webhook(_seen(service, caller, webhook).hook_id)
    return Response(status_code=204)


def _made(service: Service, caller: Caller, url: str) -> dict[str, object]:
    if sum(hook.user == caller.user for hook in service.store.list_webhooks()) >= _MOST:
        raise QuotaError(f"{caller.user} has {_MOST} webhooks, which is the most. Delete one.")
    hook = Webhook(f"w{secrets.token_hex(4)}", caller.user, url, new_secret(), datetime.now(UTC))
    service.store.create_webhook(hook)
    return _json(hook) | {"secret": hook.secret}


def _seen(service: Service, caller: Caller, hook_id: str) -> Webhook:
    for hook in service.store.list_webhooks():
        if hook.hook_id == hook_id and caller.sees(hook.user):
            return hook
    raise webhook_not_found(hook_id)


def _json(hook: Webhook) -> dict[str, object]:
    return {
        "webhook": hook.hook_id,
        "user": hook.user,
        "url": hook.url,
        "created_at": hook.created_at.isoformat(),
    }
