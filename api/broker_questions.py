"""Brokers that ask who may do what: EMQX 5's HTTP authenticator and authorizer, and VerneMQ's webhooks.

Every answer has status 200, denials too, and also where something is wrong: with any other status EMQX goes on as if it
had not asked, and may then allow. Shapes: docs.emqx.com, "Use HTTP Service" of authentication and authorization;
docs.vernemq.com, "Webhooks". These routes are no part of the read side, and not in its description.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from api.changing import proven_as
from api.problems import ApiError
from api.wiring import STATE_KEY, Wiring
from store.access import Action
from store.gatekeeper import Gatekeeper
from store.interface import StoreUnreachableError

NOT_AUTHORIZED: Final = 135
"""Reason code of MQTT 5 for a subscription refused."""
FAILURE: Final = 128
"""The same of MQTT 3.1.1."""
VERNEMQ_KEEPS: Final = "max-age=10"
"""How long VerneMQ may keep a right to publish, so that it need not ask at each message."""
_HOOKS: Final = {
    f"auth_on_{hook}{version}": question
    for hook, question in (("register", "connect"), ("publish", "publish"), ("subscribe", "subscribe"))
    for version in ("", "_m5")
}

log = logging.getLogger(__name__)


class Answer(NamedTuple):
    """What a broker is told, and how it is counted."""

    question: str
    name: str
    body: dict[str, Any]
    keep: str = "no-store"
    """``Cache-Control`` of the answer."""


class _EmqxConnect(msgspec.Struct):
    username: str | None = None
    password: str | None = None


class _EmqxTopic(msgspec.Struct):
    topic: str
    action: str
    username: str | None = None


class _VerneConnect(msgspec.Struct):
    username: str | None = None
    password: str | None = None


class _VernePublish(msgspec.Struct):
    topic: str
    username: str | None = None


class _VerneSubscribe(msgspec.Struct):
    topics: list[dict[str, Any]]
    username: str | None = None


_EMQX_DENIES: Final = {"result": "deny"}
_VERNE_DENIES: Final = {"result": {"error": "not_allowed"}}
_EMQX_ACTIONS: Final[dict[str, Action]] = {"publish": "write", "subscribe": "read"}
Decide = Callable[[Gatekeeper, Wiring, Request, bytes], Awaitable[Answer]]


async def _emqx_authentication(keeper: Gatekeeper, wiring: Wiring, _: Request, body: bytes) -> Answer:
    asked = msgspec.json.decode(body, type=_EmqxConnect)
    allowed = await wiring.stores.ask(keeper.admits, asked.username or "", asked.password or "", "emqx")
    if not allowed:
        return Answer("connect", "denied", _EMQX_DENIES)
    return Answer("connect", "allowed", {"result": "allow", "is_superuser": False})


async def _emqx_authorization(keeper: Gatekeeper, wiring: Wiring, _: Request, body: bytes) -> Answer:
    asked = msgspec.json.decode(body, type=_EmqxTopic)
    action = _EMQX_ACTIONS.get(asked.action)
    if action is None:
        raise msgspec.ValidationError(f"action is {asked.action!r}; expected publish or subscribe")
    (allowed,) = await wiring.stores.ask(keeper.permits, asked.username or "", action, [asked.topic], "emqx")
    return Answer(asked.action, "allowed", {"result": "allow"}) if allowed else _denied(asked.action, _EMQX_DENIES)


async def _vernemq(keeper: Gatekeeper, wiring: Wiring, request: Request, body: bytes) -> Answer:
    hook = request.headers.get("vernemq-hook", "")
    question = _HOOKS.get(hook, "unknown")
    if question == "connect":
        register = msgspec.json.decode(body, type=_VerneConnect)
        user, password = register.username or "", register.password or ""
        allowed = await wiring.stores.ask(keeper.admits, user, password, "vernemq")
        return Answer(question, "allowed", {"result": "ok"}) if allowed else _denied(question, _VERNE_DENIES)
    if question == "publish":
        publish = msgspec.json.decode(body, type=_VernePublish)
        user = publish.username or ""
        (allowed,) = await wiring.stores.ask(keeper.permits, user, "write", [publish.topic], "vernemq")
        kept = Answer(question, "allowed", {"result": "ok"}, VERNEMQ_KEEPS)
        return kept if allowed else _denied(question, _VERNE_DENIES)
    if question == "subscribe":
        subscribe = msgspec.json.decode(body, type=_VerneSubscribe)
        topics = [_topic_of(each) for each in subscribe.topics]
        found = await wiring.stores.ask(keeper.permits, subscribe.username or "", "read", topics, "vernemq")
        return _vernemq_subscription(subscribe.topics, found, five=hook.endswith("_m5"))
    raise msgspec.ValidationError(f"vernemq-hook is {hook[:64]!r}; expected one of {', '.join(_HOOKS)}")


def _vernemq_subscription(topics: Sequence[dict[str, Any]], found: Sequence[bool], *, five: bool) -> Answer:
    """Grant what may be read; the rest of the same request gets the code of a refusal in the place of its QoS."""
    if not any(found):
        return _denied("subscribe", _VERNE_DENIES)
    if all(found):
        return Answer("subscribe", "allowed", {"result": "ok"})
    refused = NOT_AUTHORIZED if five else FAILURE
    granted = [
        each if allowed else {"topic": each["topic"], "qos": refused}
        for each, allowed in zip(topics, found, strict=True)
    ]
    # For MQTT 3.1.1 the topics stand beside the result, for MQTT 5 among the modifiers.
    body: dict[str, Any] = {"modifiers": {"topics": granted}} if five else {"topics": granted}
    return Answer("subscribe", "in_part", {"result": "ok", **body})


def broker_questions(secret: str) -> list[Route]:
    """Return the routes on which brokers ask, each with the secret as ``Bearer``, or as the password of ``Basic``."""
    return [
        Route(
            "/broker/emqx/authentication", _route(secret, "emqx", _EMQX_DENIES, _emqx_authentication), methods=["POST"]
        ),
        Route(
            "/broker/emqx/authorization", _route(secret, "emqx", _EMQX_DENIES, _emqx_authorization), methods=["POST"]
        ),
        Route("/broker/vernemq", _route(secret, "vernemq", _VERNE_DENIES, _vernemq), methods=["POST"]),
    ]


def _route(
    secret: str, broker: str, denial: dict[str, Any], decide: Decide
) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        wiring: Wiring = getattr(request.app.state, STATE_KEY)
        found = await _answer(request, wiring)
        wiring.instruments.broker_questions.labels(broker, found.question, found.name).inc()
        return Response(
            msgspec.json.encode(found.body), headers={"Cache-Control": found.keep}, media_type="application/json"
        )

    async def _answer(request: Request, wiring: Wiring) -> Answer:
        if wiring.gatekeeper is None or proven_as(request, secret) is None:
            log.warning("%s asked at %s without the secret, and was denied", broker, request.url.path)
            return Answer("unknown", "wrong_secret", denial)
        try:
            return await decide(wiring.gatekeeper, wiring, request, await request.body())
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            log.warning("%s asked at %s what cannot be understood, and was denied: %s", broker, request.url.path, error)
            return Answer("unknown", "malformed", denial)
        except ClientDisconnect:
            return Answer("unknown", "malformed", denial)
        except (ApiError, StoreUnreachableError) as error:
            log.warning("%s was denied at %s, because there is no answer: %s", broker, request.url.path, error)
            return Answer("unknown", "failed", denial)
        except Exception:
            log.exception("%s was denied at %s, because the answer failed", broker, request.url.path)
            return Answer("unknown", "failed", denial)

    return answer


def _topic_of(entry: dict[str, Any]) -> str:
    topic = entry.get("topic")
    if not isinstance(topic, str):
        raise msgspec.ValidationError("Expected `str` - at `$.topics[...].topic`")
    return topic


def _denied(question: str, body: dict[str, Any]) -> Answer:
    return Answer(question, "denied", body)
