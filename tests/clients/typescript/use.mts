// A day with a client that was made from the document: sends, reads, previews, and is refused, all of it typed.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

import { SignJWT } from "jose";
import createClient from "openapi-fetch";

import type { components, paths } from "./herald.js";

const [url = "", fixture = ""] = process.argv.slice(2);
const [library] = JSON.parse(readFileSync(fixture, "utf8")).services;
const [overdue, , card]: string[] = library.templates.map((template: { id: string }) => template.id);
assert(overdue && card);
const secret = new TextEncoder().encode(library.keys[0].secret);

const herald = createClient<paths>({ baseUrl: url });
herald.use({
  async onRequest({ request }) {
    const token = new SignJWT().setProtectedHeader({ alg: "HS256", typ: "JWT" }).setIssuer(library.id).setIssuedAt();
    request.headers.set("Authorization", `Bearer ${await token.sign(secret)}`);
  },
});

type Notification = components["schemas"]["Notification"];

async function follow(notification_id: string): Promise<Notification> {
  for (let look = 0; look < 600; look++) {
    const { data, error } = await herald.GET("/v2/notifications/{notification_id}", {
      params: { path: { notification_id } },
    });
    assert(data, error?.errors[0]?.message);
    if (data.status === "delivered") return data;
    await sleep(50);
  }
  throw new Error(`${notification_id} was not delivered`);
}

const text = await herald.POST("/v2/notifications/sms", {
  body: { phone_number: "07700900123", template_id: overdue, personalisation: { name: "Ada", book: "Emma" } },
});
assert(text.data);
assert.equal(text.data.content.body, "Dear Ada, please bring back Emma.");
const delivered = await follow(text.data.id);
assert.equal(delivered.cost_details.billable_sms_fragments, 1);
assert.equal(delivered.phone_number, "07700900123");

const email = await herald.POST("/v2/notifications/email", {
  body: { email_address: "ada@example.com", template_id: card, personalisation: { name: "Ada", card: 7 } },
});
assert(email.data);
assert.equal((await follow(email.data.id)).subject, "A card for Ada");

const list = await herald.GET("/v2/notifications", {
  params: { query: { template_type: ["sms"], status: ["delivered"], older_than: email.data.id } },
});
assert.equal(list.data?.notifications[0]?.id, text.data.id);
assert.match(list.data?.links.next ?? "", /older_than=/);

const received = await herald.GET("/v2/received-text-messages");
assert.equal(received.data?.received_text_messages[0]?.user_number, "447700900123");

const template = await herald.GET("/v2/template/{template_id}/version/{version}", {
  params: { path: { template_id: overdue, version: 1 } },
});
assert.deepEqual(template.data?.personalisation, { book: { required: true } });

const texts = await herald.GET("/v2/templates", { params: { query: { type: "sms" } } });
assert.deepEqual(
  texts.data?.templates.map(({ name }) => name),
  ["Opening times", "Overdue"],
);

const preview = await herald.POST("/v2/template/{template_id}/preview", {
  params: { path: { template_id: card } },
  body: { personalisation: { name: "Ada", card: 7 } },
});
assert.match(preview.data?.html ?? "", /Your card: 7/);

const refused = await herald.POST("/v2/notifications/sms", {
  body: { phone_number: "12", template_id: overdue },
});
assert(refused.error);
const errors: components["schemas"]["Errors"] = refused.error;
assert.deepEqual(errors, {
  errors: [{ error: "ValidationError", message: "phone_number Not enough digits" }],
  status_code: 400,
});

// What the document does not allow does not compile.
// @ts-expect-error: the number is missing
await herald.POST("/v2/notifications/sms", { body: { template_id: overdue } });
// @ts-expect-error: there is no such type
await herald.GET("/v2/templates", { params: { query: { type: "fax" } } });

console.log(text.data.id);
console.log(email.data.id);
