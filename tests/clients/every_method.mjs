// Every method of the official Node.js client, in success and in error, against a running Herald.
//
// Takes the address and the fixture, and is run where the client is installed. Prints the ids of a text and an email that
// were delivered, or what is not as it should be.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";
import { isDeepStrictEqual, inspect } from "node:util";

const require = createRequire(`${process.cwd()}/`);
const { NotifyClient } = require("notifications-node-client");
const axios = require("axios");

const [url, fixtureFile] = process.argv.slice(2);
const { services } = JSON.parse(readFileSync(fixtureFile));
const [library, trial] = services;
const [overdue, opening, card] = library.templates.map((template) => template.id);
const nowhere = "00000000-0000-4000-8000-00000000000a";

const wrong = [];
const called = new Set();

// A client that notes which of its methods were called.
function watched(...address) {
  return new Proxy(new NotifyClient(...address), {
    get(client, name) {
      called.add(name);
      return client[name].bind(client);
    },
  });
}

function key(label) {
  for (const service of services) {
    const found = service.keys.find((key) => key.label === label);
    if (found) return `the ${label} key-${service.id}-${found.secret}`;
  }
  throw new Error(`there is no key ${label}`);
}

function same(what, got, wanted) {
  if (!isDeepStrictEqual(got, wanted)) {
    wrong.push(`${what}:\n  got    ${inspect(got, { depth: 9 })}\n  wanted ${inspect(wanted, { depth: 9 })}`);
  }
}

// The error tells its status, and the answer with its list of errors.
async function refused(what, status, errors, promise) {
  try {
    const answer = await promise;
    wrong.push(`${what}: answered ${inspect(answer.data)}`);
  } catch (error) {
    if (!error.response) throw error;
    errors = errors.map(([error, message]) => ({ error, message }));
    same(`${what}: response.status`, error.response.status, status);
    same(`${what}: response.data`, error.response.data, { errors, status_code: status });
    same(`${what}: message`, error.message, `Request failed with status code ${status}`);
  }
}

async function follow(id) {
  for (let look = 0; look < 600; look++) {
    const { data } = await client.getNotificationById(id);
    if (data.status === "delivered") return data;
    await sleep(50);
  }
  throw new Error(`${id} was not delivered`);
}

const client = watched(url, key("live"));

// Texts.

const sent = await client.sendSms(overdue, "07700 900123", {
  personalisation: { name: "Ada", book: "Emma" },
  reference: "loan 2",
  smsSenderId: library.sms_senders[1].id,
});
const text = sent.data;
same("the status of sendSms", sent.status, 201);
same("sendSms", text, {
  content: { body: "Dear Ada, please bring back Emma.", from_number: "READERS" },
  id: text.id,
  reference: "loan 2",
  scheduled_for: null,
  template: { id: overdue, uri: `${url}/services/${library.id}/templates/${overdue}`, version: 2 },
  uri: `${url}/v2/notifications/${text.id}`,
});
const plain = await client.sendSms(opening, "+447700900123");
same("a text with the default sender", plain.data.content, { body: "We open at ten.", from_number: "LIBRARY" });

const delivered = await follow(text.id);
same("getNotificationById", delivered, {
  body: "Dear Ada, please bring back Emma.",
  completed_at: delivered.completed_at,
  cost_details: { billable_sms_fragments: 1, international_rate_multiplier: 1, sms_rate: 0.024 },
  cost_in_pounds: 0.024,
  created_at: delivered.created_at,
  created_by_name: null,
  email_address: null,
  id: text.id,
  is_cost_data_ready: true,
  line_1: null,
  line_2: null,
  line_3: null,
  line_4: null,
  line_5: null,
  line_6: null,
  one_click_unsubscribe_url: null,
  phone_number: "07700 900123",
  postage: null,
  postcode: null,
  reference: "loan 2",
  scheduled_for: null,
  sent_at: delivered.sent_at,
  status: "delivered",
  subject: null,
  template: { id: overdue, uri: `${url}/v2/template/${overdue}/version/2`, version: 2 },
  type: "sms",
});

await refused(
  "two faults at once",
  400,
  [
    ["ValidationError", "phone_number Not enough digits"],
    ["ValidationError", "template_id is not a valid UUID"],
  ],
  client.sendSms("no template", "12"),
);
await refused(
  "values missing",
  400,
  [["BadRequestError", "Missing personalisation: name, book"]],
  client.sendSms(overdue, "07700900123"),
);
await refused(
  "an unknown sender",
  400,
  [["BadRequestError", `sms_sender_id ${nowhere} does not exist in database for service id ${library.id}`]],
  client.sendSms(opening, "07700900123", { smsSenderId: nowhere }),
);
await refused(
  "a stranger, by a team key",
  400,
  [["BadRequestError", "Can’t send to this recipient using a team-only API key"]],
  watched(url, key("team")).sendSms(opening, "07700900123"),
);
await refused(
  "a stranger, in trial mode",
  400,
  [
    [
      "BadRequestError",
      "Can’t send to this recipient when service is in trial mode – see https://www.notifications.service.gov.uk/trial-mode",
    ],
  ],
  watched(url, key("trial")).sendSms(trial.templates[0].id, "07700900123"),
);

// Emails.

const { data: email } = await client.sendEmail(card, "ada@example.com", {
  personalisation: { name: "Ada", card: 7 },
  reference: "card 2",
  emailReplyToId: library.reply_to[1].id,
  oneClickUnsubscribeURL: "https://library.example.gov.uk/leave?reader=1",
});
same("sendEmail", email, {
  content: {
    body: "# Welcome\n\nYour card: 7",
    from_email: "town.library@notify.tools",
    one_click_unsubscribe_url: "https://library.example.gov.uk/leave?reader=1",
    subject: "A card for Ada",
  },
  id: email.id,
  reference: "card 2",
  sanitised_content: {},
  scheduled_for: null,
  template: { id: card, uri: `${url}/services/${library.id}/templates/${card}`, version: 1 },
  uri: `${url}/v2/notifications/${email.id}`,
});
same("an email that was delivered", (await follow(email.id)).email_address, "ada@example.com");

const file = client.prepareUpload(Buffer.from("a card"), {
  filename: "card.txt",
  confirmEmailBeforeDownload: false,
  retentionPeriod: "4 weeks",
});
const simulated = "simulate-delivered@notifications.service.gov.uk";
const linked = await client.sendEmail(card, simulated, { personalisation: { name: "Ada", card: file } });
same(
  "a file becomes a link",
  linked.data.content.body.endsWith(`/services/${library.id}/documents/test-document`),
  true,
);
const whole = Buffer.alloc(2 * 1024 * 1024, "a page ");
const { data: link } = await client.sendEmail(card, "ada@example.com", {
  personalisation: { name: "Ada", card: client.prepareUpload(whole) },
});
const behind = await fetch(link.content.body.replace("# Welcome\n\nYour card: ", ""));
same("a large file behind its link", whole.equals(Buffer.from(await behind.arrayBuffer())), true);
await refused(
  "a file described wrongly",
  400,
  [["ValidationError", "filename `filename` must end with a file extension. For example, filename.csv"]],
  client.sendEmail(card, simulated, {
    personalisation: { name: "Ada", card: client.prepareUpload("a card", { filename: "card" }) },
  }),
);
await refused(
  "an unknown reply-to address",
  400,
  [["BadRequestError", `email_reply_to_id ${nowhere} does not exist in database for service id ${library.id}`]],
  client.sendEmail(card, "ada@example.com", { personalisation: { name: "Ada", card: 7 }, emailReplyToId: nowhere }),
);
await refused(
  "an unsubscribe link without TLS",
  400,
  [["ValidationError", "one_click_unsubscribe_url is not a valid https url"]],
  client.sendEmail(card, "ada@example.com", { oneClickUnsubscribeURL: "http://library.example.gov.uk" }),
);

// Letters: the service may not send any.

const letters = [["BadRequestError", "Service is not allowed to send letters"]];
const address = { address_line_1: "Ada", address_line_2: "1 High Street", address_line_3: "SW1A 1AA" };
await refused("a letter", 400, letters, client.sendLetter(nowhere, { personalisation: address, reference: "letter 1" }));
await refused(
  "a letter without values",
  400,
  [["ValidationError", "personalisation is a required property"]],
  client.sendLetter(nowhere),
);
await refused("a letter in PDF", 400, letters, client.sendPrecompiledLetter("letter 2", Buffer.from("%PDF"), "second"));
await refused(
  "a letter in PDF, badly stamped",
  400,
  [["ValidationError", "postage invalid. It must be either first, second or economy."]],
  client.sendPrecompiledLetter("letter 3", Buffer.from("%PDF"), "third"),
);
const notFound = [["NoResultFound", "No result found"]];
await refused(
  "the PDF of a text",
  400,
  [["BadRequestError", "Notification is not a letter"]],
  client.getPdfForLetterNotification(text.id),
);
await refused("the PDF of nothing", 404, notFound, client.getPdfForLetterNotification(nowhere));

// Reading.

await refused("an unknown notification", 404, notFound, client.getNotificationById(nowhere));
await refused(
  "no id",
  400,
  [["ValidationError", "notification_id is not a valid UUID"]],
  client.getNotificationById("no-id"),
);

const { notifications, received_texts } = JSON.parse(readFileSync(fixtureFile));
const newestFirst = (rows) => rows.toSorted((a, b) => (a.created_at < b.created_at ? 1 : -1));
const old = newestFirst(notifications.filter((notification) => !notification.from_job));
const ids = (rows) => rows.map(({ id }) => id);
const list = async (...filters) => (await client.getNotifications(...filters)).data;

const page = await list();
const recent = [link.id, email.id, plain.data.id, text.id];
same("getNotifications", ids(page.notifications), [...recent, ...ids(old)].slice(0, 250));
same("its links", page.links, {
  current: `${url}/v2/notifications`,
  next: `${url}/v2/notifications?older_than=${page.notifications.at(-1).id}`,
});
same("a notification in a list", page.notifications[3], delivered);
const rest = await list(undefined, undefined, undefined, page.notifications.at(-1).id);
same("the next page", ids(rest.notifications), [...recent, ...ids(old)].slice(250));
const failedEmails = old.filter(({ status, template }) => status === "permanent-failure" && template === "library.card");
same("by type and status", ids((await list("email", "permanent-failure")).notifications), ids(failedEmails));
same("by reference", ids((await list(undefined, undefined, "loan 2")).notifications), [text.id]);
await refused(
  "wrong filters",
  400,
  [
    ["ValidationError", "template_type fax is not one of [sms, email, letter]"],
    ["ValidationError", "older_than is not a valid UUID"],
  ],
  client.getNotifications("fax", undefined, undefined, "yesterday"),
);

// Received texts.

const texts = newestFirst(received_texts);
const { data: received } = await client.getReceivedTexts();
same("getReceivedTexts", ids(received.received_text_messages), ids(texts).slice(0, 250));
same("a received text", received.received_text_messages[0], {
  content: texts[0].content,
  created_at: received.received_text_messages[0].created_at,
  id: texts[0].id,
  notify_number: "07700900999",
  service_id: library.id,
  user_number: "447700900123",
});
const earlier = await client.getReceivedTexts(texts[249].id);
same("getReceivedTexts, older", ids(earlier.data.received_text_messages), ids(texts).slice(250));
await refused(
  "received texts older than nothing",
  400,
  [["ValidationError", "older_than is not a valid UUID"]],
  client.getReceivedTexts("yesterday"),
);

// Templates.

const { data: latest } = await client.getTemplateById(overdue);
same("getTemplateById", latest, {
  body: "Dear ((name)), please bring back ((book)).",
  created_at: latest.created_at,
  created_by: "grace.librarian@example.gov.uk",
  id: overdue,
  letter_contact_block: null,
  name: "Overdue",
  personalisation: { name: { required: true }, book: { required: true } },
  postage: null,
  subject: null,
  type: "sms",
  updated_at: latest.updated_at,
  version: 2,
});
const { data: first } = await client.getTemplateByIdAndVersion(overdue, 1);
same("getTemplateByIdAndVersion", [first.version, first.name, first.body], [1, "Late", "((book)) is late."]);
const names = async (...type) => (await client.getAllTemplates(...type)).data.templates.map(({ name }) => name);
same("getAllTemplates", await names(), ["Opening times", "Overdue", "Your card"]);
same("getAllTemplates of emails", await names("email"), ["Your card"]);
await refused("an unknown template", 404, notFound, client.getTemplateById(nowhere));
await refused("an unknown version", 404, notFound, client.getTemplateByIdAndVersion(overdue, 3));
await refused(
  "templates of no type",
  400,
  [["ValidationError", "type orange is not one of [sms, email, letter]"]],
  client.getAllTemplates("orange"),
);

const { data: preview } = await client.previewTemplateById(card, { name: "Ada", card: 7 });
same("the preview's HTML", preview.html.includes("Your card: 7"), true);
same("previewTemplateById", { ...preview, html: null }, {
  body: "# Welcome\n\nYour card: 7",
  html: null,
  id: card,
  postage: null,
  subject: "A card for Ada",
  type: "email",
  version: 1,
});
same("the HTML of a text", (await client.previewTemplateById(opening)).data.html, null);
await refused(
  "a preview without values",
  400,
  [["BadRequestError", "Missing personalisation: name, card"]],
  client.previewTemplateById(card),
);

// Keys, and other ways to Herald.

const secret = library.keys[0].secret;
for (const [what, address, message] of [
  ["a wrong secret", [url, library.id, nowhere], "Invalid token: API key not found"],
  ["an unknown service", [url, nowhere, secret], "Invalid token: service not found"],
  ["a revoked key", [url, key("revoked")], "Invalid token: API key revoked"],
]) {
  await refused(what, 403, [["AuthError", message]], watched(...address).getAllTemplates());
}

// A proxy is asked with the whole address of what is wanted; here Herald itself plays the proxy.
const throughProxy = watched("http://herald.example", key("live"));
const { hostname: host, port } = new URL(url);
throughProxy.setProxy({ protocol: "http", host, port: Number(port) });
same("through a proxy", (await throughProxy.getTemplateById(overdue)).data, latest);

let requests = 0;
const counting = axios.create();
counting.interceptors.request.use((request) => {
  requests += 1;
  return request;
});
const withClient = watched(url, key("live"));
withClient.setClient(counting);
same("with another client", (await withClient.getTemplateById(overdue)).data, latest);
same("requests of the other client", requests, 1);

// Limits.

for (const [label, kind, message] of [
  ["slow", "RateLimitError", "Exceeded rate limit for key type LIVE of 1 requests per 60 seconds"],
  ["sparing", "TooManyRequestsError", "Exceeded send limits (sms: 1) for today"],
]) {
  const branch = watched(url, key(label));
  const template = services.find((service) => service.label === label).templates[0].id;
  await branch.sendSms(template, "07700900123");
  await refused(`a ${label} service`, 429, [[kind, message]], branch.sendSms(template, "07700900123"));
}

same("methods that were called", [...called].sort(), Object.keys(NotifyClient.prototype).sort());

if (wrong.length > 0) {
  console.error(wrong.join("\n"));
  process.exit(1);
}
console.log(text.id);
console.log(email.id);
