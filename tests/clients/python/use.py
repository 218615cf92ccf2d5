"""A day with a client that was made from the document: sends, reads, previews, and is refused, all of it typed."""

import json
import sys
import time
from uuid import UUID

import jwt
from herald_client import AuthenticatedClient
from herald_client.api.notifications import get_notification, list_notifications
from herald_client.api.received_texts import list_received_text_messages
from herald_client.api.send import send_email, send_sms
from herald_client.api.templates import get_template_version, list_templates, preview_template
from herald_client.models import (
    AcceptedEmail,
    AcceptedSms,
    EmailRequest,
    EmailRequestPersonalisation,
    Error,
    Errors,
    ListNotificationsStatusItem,
    ListNotificationsTemplateTypeItem,
    ListTemplatesType,
    Notification,
    Notifications,
    Preview,
    PreviewRequest,
    PreviewRequestPersonalisation,
    ReceivedTextMessages,
    SmsRequest,
    SmsRequestPersonalisation,
    Template,
    Templates,
)

URL, FIXTURE = sys.argv[1], json.load(open(sys.argv[2]))
library = FIXTURE["services"][0]
overdue, _, card = (UUID(template["id"]) for template in library["templates"])


def sign(request):
    claims = {"iss": library["id"], "iat": int(time.time())}
    request.headers["Authorization"] = "Bearer " + jwt.encode(claims, library["keys"][0]["secret"], "HS256")
    return request


client = AuthenticatedClient(base_url=URL, token="a new one for each request", httpx_args={"auth": sign})


def follow(notification_id):
    for _ in range(600):
        notification = get_notification.sync(notification_id, client=client)
        assert isinstance(notification, Notification), notification
        if notification.status == "delivered":
            return notification
        time.sleep(0.05)
    raise SystemExit(f"{notification_id} was not delivered")


text = send_sms.sync(
    client=client,
    body=SmsRequest(
        phone_number="07700900123",
        template_id=overdue,
        personalisation=SmsRequestPersonalisation.from_dict({"name": "Ada", "book": "Emma"}),
    ),
)
assert isinstance(text, AcceptedSms), text
assert text.content.body == "Dear Ada, please bring back Emma.", text
delivered = follow(text.id)
assert delivered.cost_details.billable_sms_fragments == 1, delivered
assert delivered.completed_at >= delivered.created_at, delivered

email = send_email.sync(
    client=client,
    body=EmailRequest(
        email_address="ada@example.com",
        template_id=card,
        personalisation=EmailRequestPersonalisation.from_dict({"name": "Ada", "card": 7}),
    ),
)
assert isinstance(email, AcceptedEmail), email
assert follow(email.id).subject == "A card for Ada"

page = list_notifications.sync(
    client=client,
    template_type=[ListNotificationsTemplateTypeItem.SMS],
    status=[ListNotificationsStatusItem.DELIVERED],
    older_than=email.id,
)
assert isinstance(page, Notifications), page
assert page.notifications[0].id == text.id, page
assert "older_than=" in page.links.next_, page

received = list_received_text_messages.sync(client=client)
assert isinstance(received, ReceivedTextMessages), received
assert received.received_text_messages[0].user_number == "447700900123", received

template = get_template_version.sync(overdue, 1, client=client)
assert isinstance(template, Template), template
assert template.personalisation["book"].required, template

texts = list_templates.sync(client=client, type_=ListTemplatesType.SMS)
assert isinstance(texts, Templates), texts
assert [template.name for template in texts.templates] == ["Opening times", "Overdue"], texts

preview = preview_template.sync(
    card,
    client=client,
    body=PreviewRequest(personalisation=PreviewRequestPersonalisation.from_dict({"name": "Ada", "card": 7})),
)
assert isinstance(preview, Preview), preview
assert "Your card: 7" in preview.html, preview

refused = send_sms.sync_detailed(client=client, body=SmsRequest(phone_number="12", template_id=overdue))
assert refused.status_code == 400, refused
assert isinstance(refused.parsed, Errors), refused
assert refused.parsed.errors == [Error(error="ValidationError", message="phone_number Not enough digits")], refused

print(text.id)
print(email.id)
