"""What HubSpot shall have: our mark, and how what is there is held against what is wanted (rules D)."""

from __future__ import annotations

from typing import Any

import pytest

from flask_hubspot_hitl.hubspot.setup import wanted

URL = "https://bot.example.test/hubspot/webhook"
WANT = wanted.Channel(deployment_id="0f1e", webhook_urls=[URL], redirect_url="https://bot.example.test/hubspot/connect")


def there(**changes: Any) -> dict[str, Any]:
    """The channel as HubSpot has it after it was made."""
    return {**WANT.body(), "id": "100458", **changes}


def test_what_was_just_made_is_as_wanted() -> None:
    assert wanted.channel_drift(there(), WANT) == {}
    assert wanted.mark_of_channel(there()) == "0f1e"


def test_the_body_of_a_new_channel_has_what_hubspot_requires() -> None:
    body = WANT.body()
    assert body["name"] == wanted.NAME
    assert body["webhookUrl"] == URL
    assert body["capabilities"]["allowOutgoingMessages"] is True
    assert "channelLogoUrl" not in body


@pytest.mark.parametrize(
    ("changes", "drift"),
    [
        ({"webhookUrl": "https://old.example.test/hook"}, {"webhookUrl": URL}),
        ({"webhookUrl": None}, {"webhookUrl": URL}),
        ({"channelAccountConnectionRedirectUrl": ""}, {"channelAccountConnectionRedirectUrl": WANT.redirect_url}),
        ({"name": "Renamed by hand", "channelLogoUrl": "https://x.test/a.png"}, {}),
        ({"channelDescription": "Ours."}, {"channelDescription": "Ours. [flask-hubspot-hitl 0f1e]"}),
        (
            {"channelDescription": "Ours. [flask-hubspot-hitl another]"},
            {"channelDescription": "Ours. [flask-hubspot-hitl 0f1e]"},
        ),
        ({"channelDescription": "Ours, reworded. [flask-hubspot-hitl 0f1e] Hi."}, {}),
    ],
)
def test_only_what_differs_is_changed(changes: dict[str, Any], drift: dict[str, Any]) -> None:
    assert wanted.channel_drift(there(**changes), WANT) == drift


def test_a_configured_name_and_logo_are_kept_true() -> None:
    want = wanted.Channel(
        deployment_id="0f1e",
        webhook_urls=[URL],
        redirect_url=WANT.redirect_url,
        name="Acme",
        logo_url="https://acme.test/logo.png",
    )
    assert wanted.channel_drift(there(), want) == {"name": "Acme", "channelLogoUrl": "https://acme.test/logo.png"}


def test_capabilities_that_are_not_ours_are_left_alone() -> None:
    have = {**wanted.CAPABILITIES, "allowedFileAttachmentMimeTypes": ["image/*"]}
    assert wanted.channel_drift(there(capabilities=have), WANT) == {}
    changed = wanted.channel_drift(there(capabilities={**have, "allowOutgoingMessages": False}), WANT)
    assert changed == {"capabilities": have}


def test_capabilities_are_compared_without_order_and_with_hubspots_defaults() -> None:
    have = {**wanted.CAPABILITIES, "richText": ["ITALIC", "BOLD", "HYPERLINK"], "allowInlineImages": None}
    del have["allowConversationStart"]
    assert wanted.capability_drift(have, wanted.CAPABILITIES) == {}
    del have["allowOutgoingMessages"]
    assert wanted.capability_drift(have, wanted.CAPABILITIES) == {"allowOutgoingMessages": (None, True)}


def test_m4_capabilities_follow_what_is_switched_on() -> None:
    on = wanted.capabilities_of(quick_replies=True, inline_images=True)
    assert wanted.capability_drift(wanted.CAPABILITIES, on) == {
        "allowInlineImages": (False, True),
        "outgoingAttachmentTypes": (["FILE"], ["FILE", "QUICK_REPLIES"]),
    }
    assert wanted.capability_drift(on, on) == wanted.capability_drift(wanted.CAPABILITIES) == {}
    assert wanted.capabilities_of() == wanted.CAPABILITIES


def test_the_mark_of_an_account() -> None:
    identifier = wanted.account_identifier("0f1e", "424242", "700200300")
    assert wanted.mark_of_account({"deliveryIdentifier": identifier}) == "0f1e"
    again = wanted.account_identifier("0f1e", "424242", "700200300", again="b2")
    assert again != identifier
    assert wanted.mark_of_account({"deliveryIdentifier": again}) == "0f1e"


@pytest.mark.parametrize("value", [None, "acme-700200300", {"type": "X"}, {"value": None}, {"value": "acme.0f1e.1.2"}])
def test_what_bears_no_mark_is_not_ours(value: Any) -> None:
    assert wanted.mark_of_account({"deliveryIdentifier": value}) is None
    assert wanted.mark_of_channel({"channelDescription": value}) is None


def test_an_account_is_to_be_authorised() -> None:
    assert wanted.account_drift({"authorized": True, "name": "Renamed by hand"}) == {}
    assert wanted.account_drift({"authorized": False}) == {"authorized": True}


def test_subscriptions_that_are_missing_or_paused_are_found() -> None:
    have: list[dict[str, Any]] = [
        {"id": str(number), **one.fields(), "active": True} for number, one in enumerate(wanted.SUBSCRIPTIONS)
    ]
    others = [{"id": "77", "eventType": "contact.creation", "active": True}]
    assert wanted.subscription_drift([*have, *others]) == wanted.SubscriptionDrift((), ())
    have[1]["active"] = False
    drift = wanted.subscription_drift([*have[1:], *others])
    assert drift.missing == (wanted.Subscription("conversation.newMessage"),)
    assert drift.paused == (("1", wanted.Subscription("conversation.propertyChange", "assignedTo")),)


def test_a_paused_twin_of_an_active_subscription_does_not_matter() -> None:
    have = [{"id": "1", **one.fields(), "active": on} for one in wanted.SUBSCRIPTIONS for on in (False, True)]
    assert wanted.subscription_drift(have) == wanted.SubscriptionDrift((), ())


def test_the_throttling_that_is_there_stays() -> None:
    have = {"targetUrl": "https://old.test", "throttling": {"maxConcurrentRequests": 40}}
    assert wanted.webhook_settings(URL, have) == {"targetUrl": URL, "throttling": {"maxConcurrentRequests": 40}}
    assert wanted.webhook_settings(URL)["throttling"] == {"maxConcurrentRequests": 10}
