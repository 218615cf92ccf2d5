"""Every method of the official Python client, in success and in error, against a running Herald.

Takes the address and the fixture. Prints the ids of a text and an email that were delivered, or what is not as it
should be.
"""

import io
import json
import re
import sys
import time
import uuid

import requests
from notifications_python_client import NotificationsAPIClient, prepare_upload
from notifications_python_client.errors import HTTPError

URL, FIXTURE = sys.argv[1], json.load(open(sys.argv[2]))
NOWHERE = "00000000-0000-4000-8000-00000000000a"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")

library = FIXTURE["services"][0]
templates = {template["label"]: template for template in library["templates"]}
OVERDUE, OPENING, CARD = (templates[label]["id"] for label in ("overdue", "opening", "card"))
SENDER = library["sms_senders"][1]
REPLY_TO = library["reply_to"][1]

wrong = []
called = set()


class Watched:
    """A client that notes which of its methods were called."""

    def __init__(self, *key):
        self.client = NotificationsAPIClient("-".join(key), base_url=URL)

    def __getattr__(self, name):
        called.add(name)
        return getattr(self.client, name)


def key(label):
    for service in FIXTURE["services"]:
        for key in service["keys"]:
            if key["label"] == label:
                return f"the {label} key", service["id"], key["secret"]
    raise KeyError(label)


def same(what, got, wanted):
    if got != wanted:
        wrong.append(f"{what}:\n  got    {got!r}\n  wanted {wanted!r}")


def refused(what, status, errors, call, *arguments, **named):
    """The error tells its status, its list of errors, and both as text."""
    try:
        answer = call(*arguments, **named)
    except HTTPError as error:
        errors = [{"error": kind, "message": message} for kind, message in errors]
        same(f"{what}: status_code", error.status_code, status)
        same(f"{what}: message", error.message, errors)
        same(f"{what}: as text", str(error), f"{status} - {errors}")
        same(f"{what}: response", error.response.json(), {"status_code": status, "errors": errors})
    else:
        wrong.append(f"{what}: answered {answer!r}")


def follow(answer):
    seen = []
    for _ in range(600):
        notification = client.get_notification_by_id(answer["id"])
        if notification["status"] not in seen:
            seen.append(notification["status"])
        if notification["status"] == "delivered":
            break
        time.sleep(0.05)
    known = ["created", "sending", "delivered"]
    same("statuses, in order", seen, [status for status in known if status in seen])
    same("the last status", seen[-1], "delivered")
    return notification


client = Watched(*key("live"))

# Texts.

text = client.send_sms_notification(
    "07700 900123", OVERDUE, {"name": "Ada", "book": "Emma"}, reference="loan 1", sms_sender_id=SENDER["id"]
)
uuid.UUID(text["id"])
same(
    "send_sms_notification",
    text,
    {
        "id": text["id"],
        "reference": "loan 1",
        "content": {"body": "Dear Ada, please bring back Emma.", "from_number": "READERS"},
        "uri": f"{URL}/v2/notifications/{text['id']}",
        "template": {
            "id": OVERDUE,
            "version": 2,
            "uri": f"{URL}/services/{library['id']}/templates/{OVERDUE}",
        },
        "scheduled_for": None,
    },
)
plain = client.send_sms_notification("+447700900123", OPENING)
same("a text with the default sender", plain["content"], {"body": "We open at ten.", "from_number": "LIBRARY"})
same("a text without a reference", plain["reference"], None)

delivered = follow(text)
for moment in ("created_at", "sent_at", "completed_at"):
    same(f"the form of {moment}", bool(TIME.fullmatch(delivered[moment])), True)
same(
    "get_notification_by_id",
    delivered,
    {
        "id": text["id"],
        "reference": "loan 1",
        "type": "sms",
        "status": "delivered",
        "phone_number": "07700 900123",
        "email_address": None,
        **{f"line_{line}": None for line in range(1, 7)},
        "postcode": None,
        "postage": None,
        "template": {"id": OVERDUE, "version": 2, "uri": f"{URL}/v2/template/{OVERDUE}/version/2"},
        "body": "Dear Ada, please bring back Emma.",
        "subject": None,
        "created_at": delivered["created_at"],
        "created_by_name": None,
        "sent_at": delivered["sent_at"],
        "completed_at": delivered["completed_at"],
        "scheduled_for": None,
        "one_click_unsubscribe_url": None,
        "cost_details": {"billable_sms_fragments": 1, "international_rate_multiplier": 1.0, "sms_rate": 0.024},
        "cost_in_pounds": 0.024,
        "is_cost_data_ready": True,
    },
)

send = client.send_sms_notification
refused(
    "two faults at once",
    400,
    [("ValidationError", "phone_number Not enough digits"), ("ValidationError", "template_id is not a valid UUID")],
    send,
    "12",
    "no template",
)
refused("an unknown template", 400, [("BadRequestError", "Template not found")], send, "07700900123", NOWHERE)
MISSING = [("BadRequestError", "Missing personalisation: name, book")]
refused("values missing", 400, MISSING, send, "07700900123", OVERDUE)
refused(
    "a template of another type",
    400,
    [("BadRequestError", "email template is not suitable for sms notification")],
    send,
    "07700900123",
    CARD,
)
refused(
    "an unknown sender",
    400,
    [("BadRequestError", f"sms_sender_id {NOWHERE} does not exist in database for service id {library['id']}")],
    send,
    "07700900123",
    OPENING,
    sms_sender_id=NOWHERE,
)
refused(
    "a file in a text",
    400,
    [("BadRequestError", "Can only send a file by email")],
    send,
    "07700900123",
    OVERDUE,
    {"name": "Ada", "book": prepare_upload(io.BytesIO(b"a book"))},
)
same("a text of a test key", Watched(*key("test")).send_sms_notification("07700900123", OPENING)["reference"], None)
same("a text of a team key", Watched(*key("team")).send_sms_notification("07700900002", OPENING)["reference"], None)
refused(
    "a stranger, by a team key",
    400,
    [("BadRequestError", "Can’t send to this recipient using a team-only API key")],
    Watched(*key("team")).send_sms_notification,
    "07700900123",
    OPENING,
)
refused(
    "a stranger, in trial mode",
    400,
    [
        (
            "BadRequestError",
            "Can’t send to this recipient when service is in trial mode"
            " – see https://www.notifications.service.gov.uk/trial-mode",
        )
    ],
    Watched(*key("trial")).send_sms_notification,
    "07700900123",
    FIXTURE["services"][1]["templates"][0]["id"],
)

# Emails.

email = client.send_email_notification(
    "ada@example.com",
    CARD,
    {"name": "Ada", "card": "# a.b"},
    reference="card 1",
    email_reply_to_id=REPLY_TO["id"],
    one_click_unsubscribe_url="https://library.example.gov.uk/leave?reader=1",
    sanitise_content_for=["card"],
)
same(
    "send_email_notification",
    email,
    {
        "id": email["id"],
        "reference": "card 1",
        "content": {
            "subject": "A card for Ada",
            "body": "# Welcome\n\nYour card: \\# a\\.b",
            "from_email": "town.library@notify.tools",
            "one_click_unsubscribe_url": "https://library.example.gov.uk/leave?reader=1",
        },
        "sanitised_content": {"card": {"sanitised": "\\# a\\.b", "unsanitised": "# a.b"}},
        "uri": f"{URL}/v2/notifications/{email['id']}",
        "template": {"id": CARD, "version": 1, "uri": f"{URL}/services/{library['id']}/templates/{CARD}"},
        "scheduled_for": None,
    },
)
received = follow(email)
same(
    "an email that was delivered",
    {name: received[name] for name in ("type", "email_address", "phone_number", "subject", "cost_in_pounds")},
    {
        "type": "email",
        "email_address": "ada@example.com",
        "phone_number": None,
        "subject": "A card for Ada",
        "cost_in_pounds": 0.0,
    },
)

card = prepare_upload(
    io.BytesIO(b"a card"), filename="card.txt", confirm_email_before_download=False, retention_period="4 weeks"
)
SIMULATED = "simulate-delivered@notifications.service.gov.uk"
linked = client.send_email_notification(SIMULATED, CARD, {"name": "Ada", "card": card})
same(
    "a file becomes a link",
    linked["content"]["body"].endswith(f"/services/{library['id']}/documents/test-document"),
    True,
)
whole = b"a page " * (2 * 1024 * 1024 // 7)
card = prepare_upload(io.BytesIO(whole))
link = client.send_email_notification("ada@example.com", CARD, {"name": "Ada", "card": card})
address = link["content"]["body"].removeprefix("# Welcome\n\nYour card: ")
same("a large file behind its link", requests.get(address).content == whole, True)
send = client.send_email_notification
refused(
    "files described wrongly",
    400,
    [
        (
            "ValidationError",
            "retention_period Unsupported value for retention_period: 79 weeks."
            " Supported periods are from 1 to 78 weeks.",
        ),
        ("ValidationError", "filename `filename` must end with a file extension. For example, filename.csv"),
    ],
    send,
    SIMULATED,
    CARD,
    {"name": "Ada", "card": prepare_upload(io.BytesIO(b"a card"), filename="card", retention_period="79 weeks")},
)
refused(
    "an unknown reply-to address",
    400,
    [("BadRequestError", f"email_reply_to_id {NOWHERE} does not exist in database for service id {library['id']}")],
    send,
    "ada@example.com",
    CARD,
    {"name": "Ada", "card": "7"},
    email_reply_to_id=NOWHERE,
)
refused(
    "an unsubscribe link without TLS",
    400,
    [("ValidationError", "one_click_unsubscribe_url is not a valid https url")],
    send,
    "ada@example.com",
    CARD,
    {"name": "Ada", "card": "7"},
    one_click_unsubscribe_url="http://library.example.gov.uk",
)
refused("no address", 400, [("ValidationError", "email_address Not a valid email address")], send, "ada", CARD)

# Letters: the service may not send any.

LETTERS = [("BadRequestError", "Service is not allowed to send letters")]
refused("a letter", 400, LETTERS, client.send_letter_notification, NOWHERE, {"address_line_1": "Ada"}, "letter 1")
pdf = client.send_precompiled_letter_notification
refused("a letter in PDF", 400, LETTERS, pdf, "letter 2", io.BytesIO(b"%PDF"), postage="second")
refused(
    "a letter in PDF, badly stamped",
    400,
    [("ValidationError", "postage invalid. It must be either first, second or economy.")],
    pdf,
    "letter 3",
    io.BytesIO(b"%PDF"),
    postage="third",
)
NOT_FOUND = [("NoResultFound", "No result found")]
pdf = client.get_pdf_for_letter
refused("the PDF of a text", 400, [("BadRequestError", "Notification is not a letter")], pdf, text["id"])
refused("the PDF of nothing", 404, NOT_FOUND, pdf, NOWHERE)

# Reading.

get = client.get_notification_by_id
refused("an unknown notification", 404, NOT_FOUND, get, NOWHERE)
refused("no id", 400, [("ValidationError", "notification_id is not a valid UUID")], get, "no-id")
refused("a foreign notification", 404, NOT_FOUND, Watched(*key("trial")).get_notification_by_id, text["id"])

old = sorted(FIXTURE["notifications"], key=lambda notification: notification["created_at"], reverse=True)
from_list = old.pop()
recent = [link["id"], email["id"], plain["id"], text["id"]]


def ids(rows):
    return [row["id"] for row in rows]


page = client.get_all_notifications()
same("get_all_notifications", ids(page["notifications"]), (recent + ids(old))[:250])
same(
    "its links",
    page["links"],
    {
        "current": f"{URL}/v2/notifications",
        "next": f"{URL}/v2/notifications?older_than={page['notifications'][-1]['id']}",
    },
)
same("a notification in a list", page["notifications"][3], delivered)
everything = ids(client.get_all_notifications_iterator())
same("get_all_notifications_iterator", everything, recent + ids(old))
same("those of uploaded lists too", ids(client.get_all_notifications(include_jobs=True)["notifications"])[:4], recent)
last = client.get_all_notifications(older_than=old[-1]["id"], include_jobs=True)
same("the last page", ids(last["notifications"]), [from_list["id"]])
FAILED = [notification["id"] for notification in old if notification["status"] == "permanent-failure"]
same("by status", ids(client.get_all_notifications_iterator(status="permanent-failure")), FAILED)
same("by what a status stands for", ids(client.get_all_notifications_iterator(status=["failed", "cancelled"])), FAILED)
emails = [notification["id"] for notification in old if notification["template"] == "library.card"]
same("by type", ids(client.get_all_notifications_iterator(template_type="email")), [link["id"], email["id"], *emails])
same("by reference", ids(client.get_all_notifications(reference="loan 1")["notifications"]), [text["id"]])
one = next(notification for notification in old if notification["id"] in FAILED and notification["id"] in emails)
same(
    "by everything",
    ids(client.get_all_notifications("permanent-failure", "email", one["client_reference"])["notifications"]),
    [one["id"]],
)
nothing = client.get_all_notifications(reference="nothing has it")
current = f"{URL}/v2/notifications?reference=nothing+has+it"
same("no notifications", nothing, {"links": {"current": current}, "notifications": []})
test_key = Watched(*key("test")).get_all_notifications()
same("of a test key", [row["body"] for row in test_key["notifications"]], ["We open at ten."])
refused(
    "wrong filters",
    400,
    [
        ("ValidationError", "template_type fax is not one of [sms, email, letter]"),
        ("ValidationError", "older_than is not a valid UUID"),
    ],
    client.get_all_notifications,
    template_type="fax",
    older_than="yesterday",
)

# Received texts.

texts = sorted(FIXTURE["received_texts"], key=lambda text: text["created_at"], reverse=True)
page = client.get_received_texts()
same("get_received_texts", ids(page["received_text_messages"]), ids(texts)[:250])
same(
    "its links",
    page["links"],
    {
        "current": f"{URL}/v2/received-text-messages",
        "next": f"{URL}/v2/received-text-messages?older_than={texts[249]['id']}",
    },
)
first = page["received_text_messages"][0]
same(
    "a received text",
    first,
    {
        "id": texts[0]["id"],
        "created_at": first["created_at"],
        "service_id": library["id"],
        "notify_number": "07700900999",
        "user_number": "447700900123",
        "content": texts[0]["content"],
    },
)
last = client.get_received_texts(older_than=texts[-2]["id"])
same("get_received_texts, older", ids(last["received_text_messages"]), [texts[-1]["id"]])
same("get_received_texts_iterator", ids(client.get_received_texts_iterator()), ids(texts))
NOT_A_UUID = [("ValidationError", "older_than is not a valid UUID")]
refused("received texts older than nothing", 400, NOT_A_UUID, client.get_received_texts, "yesterday")

# Templates.

latest = client.get_template(OVERDUE)
same(
    "get_template",
    latest,
    {
        "id": OVERDUE,
        "type": "sms",
        "name": "Overdue",
        "version": 2,
        "body": "Dear ((name)), please bring back ((book)).",
        "subject": None,
        "personalisation": {"name": {"required": True}, "book": {"required": True}},
        "created_at": latest["created_at"],
        "created_by": "grace.librarian@example.gov.uk",
        "updated_at": latest["updated_at"],
        "postage": None,
        "letter_contact_block": None,
    },
)
first = client.get_template_version(OVERDUE, 1)
same(
    "get_template_version",
    {name: first[name] for name in ("id", "version", "name", "body", "personalisation")},
    {
        "id": OVERDUE,
        "version": 1,
        "name": "Late",
        "body": "((book)) is late.",
        "personalisation": {"book": {"required": True}},
    },
)
names = [template["name"] for template in client.get_all_templates()["templates"]]
same("get_all_templates", names, ["Opening times", "Overdue", "Your card"])
names = [template["name"] for template in client.get_all_templates(template_type="email")["templates"]]
same("get_all_templates of emails", names, ["Your card"])
refused("an unknown template", 404, NOT_FOUND, client.get_template, NOWHERE)
refused("an unknown version", 404, NOT_FOUND, client.get_template_version, OVERDUE, 3)
refused(
    "templates of no type",
    400,
    [("ValidationError", "type orange is not one of [sms, email, letter]")],
    client.get_all_templates,
    "orange",
)
try:
    client.get_all_template_versions(OVERDUE)
except HTTPError as error:
    # It is of the internal API: no service's key gets in, here or at GOV.UK Notify.
    same("get_all_template_versions", error.status_code in (401, 404), True)
    same("an error in the legacy shape", set(error.response.json()), {"result", "message"})
    same("its message", error.message, error.response.json()["message"])
else:
    wrong.append("get_all_template_versions was answered")

preview = client.post_template_preview(CARD, {"name": "Ada", "card": "7"})
html = preview.pop("html")
same("the preview's HTML", "Your card: 7" in html and "<h2" in html, True)
same(
    "post_template_preview",
    preview,
    {
        "id": CARD,
        "type": "email",
        "version": 1,
        "body": "# Welcome\n\nYour card: 7",
        "subject": "A card for Ada",
        "postage": None,
    },
)
same("the HTML of a text", client.post_template_preview(OPENING, {})["html"], None)
refused(
    "a preview without values",
    400,
    [("BadRequestError", "Missing personalisation: name, card")],
    client.post_template_preview,
    CARD,
    {},
)

# Keys.

_, service, secret = key("live")
for what, watched, message in [
    ("a wrong secret", Watched("x", service, NOWHERE), "Invalid token: API key not found"),
    ("an unknown service", Watched("x", NOWHERE, secret), "Invalid token: service not found"),
    ("a revoked key", Watched(*key("revoked")), "Invalid token: API key revoked"),
]:
    refused(what, 403, [("AuthError", message)], watched.get_all_templates)

# Limits.

for label, kind, message in [
    ("slow", "RateLimitError", "Exceeded rate limit for key type LIVE of 1 requests per 60 seconds"),
    ("sparing", "TooManyRequestsError", "Exceeded send limits (sms: 1) for today"),
]:
    branch = Watched(*key(label))
    template = next(service for service in FIXTURE["services"] if service["label"] == label)["templates"][0]["id"]
    branch.send_sms_notification("07700900123", template)
    refused(f"a {label} service", 429, [(kind, message)], branch.send_sms_notification, "07700900123", template)

methods = {name for name in vars(NotificationsAPIClient) if not name.startswith("_")}
same("methods that were called", called, methods)

if wrong:
    sys.exit("\n".join(wrong))
print(text["id"])
print(email["id"])
