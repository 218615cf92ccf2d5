"""Sends a text and an email with the official client, unmodified, and follows both until they are delivered."""

import sys
import time

from notifications_python_client import NotificationsAPIClient
from notifications_python_client.errors import HTTPError

url, key, sms_template, email_template = sys.argv[1:]
client = NotificationsAPIClient(key, base_url=url)


def follow(answer):
    seen = []
    for _ in range(600):
        notification = client.get_notification_by_id(answer["id"])
        if notification["status"] not in seen:
            seen.append(notification["status"])
        if notification["status"] == "delivered":
            return seen
        time.sleep(0.05)
    raise SystemExit(f"not delivered: {seen}")


text = client.send_sms_notification(
    phone_number="07700900123", template_id=sms_template, personalisation={"name": "Ada"}, reference="a text"
)
assert text["content"]["body"] == "Hello Ada, this is a text from Herald.", text
assert text["reference"] == "a text", text
email = client.send_email_notification(
    email_address="ada@example.com", template_id=email_template, personalisation={"name": "Ada"}
)
assert email["content"]["subject"] == "An email from Herald", email
print(text["id"], *follow(text))
print(email["id"], *follow(email))

try:
    client.send_sms_notification(phone_number="12", template_id=sms_template)
except HTTPError as error:
    assert error.status_code == 400, error.status_code
    assert error.message == [{"error": "ValidationError", "message": "phone_number Not enough digits"}], error.message
else:
    raise SystemExit("a wrong number was accepted")
