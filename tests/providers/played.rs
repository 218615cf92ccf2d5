//! golden/providers.json against the built program: what goes out for a message, from its `input` on, and what becomes of
//! the message and of its run with each answer.

use mail_parser::Message;

use super::{
    recorded::{cases, recorded_answer},
    *,
};
use crate::harness::{Admin, Client, Herald, Process, SERVICE, eventually};

/// Answers after which a message may have been taken all the same. Where the recorded system sends it again at once, Herald
/// waits for a receipt first; the row is the same.
const IN_DOUBT: &[(&str, &[&str])] = &[
    (
        "firetext",
        &[
            "200 number",
            "200 null",
            "200 text",
            "200 NaN",
            "200 bom",
            "502 html",
            "connection closed",
            "truncated body",
        ],
    ),
    (
        "mmg",
        &[
            "200 empty",
            "200 html",
            "200 NaN",
            "200 bom",
            "204",
            "502 html",
            "connection closed",
        ],
    ),
    ("ses", &["200 no MessageId", "200 not json"]),
];

/// An answer in doubt that the recorded system took for a yes: NaN is no JSON.
const NO_YES: (&str, &str) = ("mmg", "200 NaN");

/// Emails that Herald writes differently on purpose.
const SENDER_EXCEPTIONS: &[(&str, &str)] = &[(
    "custom sender name",
    "quotes within a sender's name are escaped, and what is not ASCII is encoded",
)];

#[tokio::test]
async fn messages_go_out_and_answers_count_as_recorded() {
    let golden = Golden::start().await;
    let (mut played, mut in_doubt, mut differences) = (0, 0, Vec::new());
    for (provider, has_url) in [
        ("firetext", false),
        ("firetext", true),
        ("mmg", false),
        ("mmg", true),
        ("ses", false),
    ] {
        let _worker = golden.worker_of(provider, has_url).await;
        for case in golden.cases.iter().filter(|case| case.is_for(provider, has_url)) {
            let name = &*case.name;
            let found = golden.play(case).await;
            let mut recorded = [&case.recorded["task"], &case.recorded["result"]].map(Value::clone);
            if IN_DOUBT
                .iter()
                .any(|(p, names)| *p == provider && names.contains(&name))
            {
                recorded[0] = json!("in doubt");
                in_doubt += 1;
            }
            if NO_YES == (provider, name) {
                recorded[1] = json!({
                    "status": "created", "sent_by": null, "billable_units": 1, "sent_at_set": false, "reference": null,
                });
            }
            if found != recorded {
                differences.push(format!("{provider} {name}: {found:?}, recorded {recorded:?}"));
            }
            played += 1;
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    let exceptions: usize = IN_DOUBT.iter().map(|(_, names)| names.len()).sum();
    assert_eq!((played, in_doubt), (golden.cases.len(), exceptions));
}

/// One of the recorded senders is longer than a service's can be: it was written into the message.
const LONGEST_SENDER: usize = 11;

/// A message of the recording.
struct Case {
    name: String,
    input: Value,
    template: Uuid,
    /// The text's sender or the address that answers to the email go to, if it is one that a service can have.
    sender: Option<Uuid>,
    recorded: Value,
}

impl Case {
    fn new(recorded: Value) -> Self {
        let provider = recorded["provider"].as_str().unwrap_or_default();
        let plain = json!({
            "provider": provider, "template_type": if provider == "ses" { "email" } else { "sms" },
            "to": if provider == "ses" { "someone@example.com" } else { "07411000001" },
            "content": "Hello", "subject": "Hello", "service_name": "Golden Plain", "prefix_sms": false,
            "email_sender_local_part": "golden.plain",
        });
        let input = recorded.get("input").cloned().unwrap_or(plain);
        Self {
            name: recorded["name"].as_str().unwrap().to_owned(),
            template: Uuid::new_v4(),
            sender: input["sender_or_reply_to"]
                .as_str()
                .filter(|sender| input["template_type"] == "email" || sender.len() <= LONGEST_SENDER)
                .map(|_| Uuid::new_v4()),
            input,
            recorded,
        }
    }

    /// Whether the provider was to post its receipts to a URL of ours.
    fn is_for(&self, provider: &str, has_url: bool) -> bool {
        self.input["provider"] == provider && self.name.contains("receipt url") == has_url
    }

    fn is_email(&self) -> bool {
        self.input["template_type"] == "email"
    }
}

struct Golden {
    herald: Herald,
    server: Server,
    cases: Vec<Case>,
}

impl Golden {
    async fn start() -> Self {
        let cases: Vec<Case> = cases().into_iter().map(Case::new).collect();
        let mut fixture: Value = serde_json::from_str(include_str!("../../src/dev.json")).unwrap();
        let service = &mut fixture["services"][0];
        for case in &cases {
            let input = &case.input;
            let template = json!({
                "label": case.template, "id": case.template, "name": "A template", "version": 1,
                "template_type": input["template_type"], "content": input["content"], "subject": input["subject"],
                "has_unsubscribe_link": input["has_unsubscribe_link"] == true,
                "created_by": "developer@example.gov.uk",
            });
            service["templates"].as_array_mut().unwrap().push(template);
            if let Some(id) = case.sender {
                let (list, name) = if case.is_email() {
                    ("reply_to", "email_address")
                } else {
                    ("sms_senders", "sms_sender")
                };
                let sender = json!({"id": id, name: input["sender_or_reply_to"]});
                service[list].as_array_mut().unwrap().push(sender);
            }
        }
        let herald = Herald::start_api_only(&fixture).await;
        let server = Server::start(Answer::Close).await;
        let golden = Self { herald, server, cases };
        // What is to be tried again stays where it is.
        for queue in ["retry", "retry-email", "receipts"] {
            golden.queue(queue, "pause").await;
        }
        golden
    }

    async fn queue(&self, queue: &str, deed: &str) {
        let path = format!("/engine/queues/{queue}/{deed}");
        let done = Admin::new(&self.herald).post(&path, &json!({"reason": "a test"})).await;
        assert_eq!(done.0, 200);
    }

    /// A worker that sends every text by one provider.
    async fn worker_of(&self, provider: &str, has_url: bool) -> Process {
        let only = "update provider_details set active = (identifier = $1), supports_international = true
            where notification_type = 'sms'";
        sqlx::query(only)
            .bind(provider)
            .execute(&*self.herald.database)
            .await
            .unwrap();
        let url = |party: &str| format!("http://{}/{party}", self.server.address);
        let (receipts, credentials) = if has_url { (RECEIPT_URL, "user:pass") } else { ("", "") };
        let settings = [
            ("FIRETEXT_URL", &*url("firetext")),
            ("FIRETEXT_API_KEY", "ftkey"),
            ("FIRETEXT_INTERNATIONAL_API_KEY", "ftintkey"),
            ("FIRETEXT_RECEIPT_URL", receipts),
            ("FIRETEXT_RECEIPT_CREDENTIALS", credentials),
            ("MMG_URL", &*url("mmg")),
            ("MMG_API_KEY", "mmgkey"),
            ("MMG_RECEIPT_URL", receipts),
            ("MMG_RECEIPT_CREDENTIALS", credentials),
            ("SES_STUB_URL", &*url("ses")),
            ("SES_CONFIGURATION_SET", "emails"),
            ("NOTIFY_EMAIL_DOMAIN", "notify.tools"),
            ("ADMIN_BASE_URL", "https://admin.example.gov.uk"),
        ];
        self.herald.worker_with("all", &settings)
    }

    /// Sends the message of a case, compares what went out if that was recorded, and says what became of it: the end of the
    /// task and the row, in the words of the recording.
    async fn play(&self, case: &Case) -> [Value; 2] {
        let (name, provider) = (&case.name, case.input["provider"].as_str().unwrap());
        self.server.play(match case.recorded.get("answer") {
            Some(answer) => recorded_answer(provider, answer),
            None => Answer::success(provider),
        });
        let id = self.send(case).await;
        let end = self.end(&id).await;
        let is_it = |request: &Request| String::from_utf8_lossy(&request.body).contains(&id);
        let requests: Vec<Request> = self.server.requests().into_iter().filter(is_it).collect();
        let [request] = &requests[..] else {
            panic!("{provider} {name}: {} requests", requests.len());
        };
        let recorded = &case.recorded["requests"][0];
        if case.is_email() && recorded.is_object() {
            let from = sender(request);
            let is_exception = SENDER_EXCEPTIONS.iter().any(|(exception, _)| exception == name);
            assert_eq!(
                recorded["json"]["FromEmailAddress"] == *from,
                !is_exception,
                "{name}: {from}"
            );
            assert_eq!(facts(request, &id), recorded_facts(case, &id), "{name}");
        } else if recorded.is_object() {
            assert_same_request(request, recorded, name, &id);
        }
        end
    }

    async fn send(&self, case: &Case) -> String {
        let input = &case.input;
        let service = "update services set name = $1, prefix_sms = $2, custom_email_sender_name = $3,
            email_sender_local_part = $4 where id = $5::uuid";
        sqlx::query(service)
            .bind(input["service_name"].as_str())
            .bind(input["prefix_sms"].as_bool())
            .bind(input["custom_email_sender_name"].as_str())
            .bind(input["email_sender_local_part"].as_str())
            .bind(SERVICE)
            .execute(&*self.herald.database)
            .await
            .unwrap();
        let (kind, to, sender) = if case.is_email() {
            ("email", "email_address", "email_reply_to_id")
        } else {
            ("sms", "phone_number", "sms_sender_id")
        };
        let mut message = json!({to: input["to"], "template_id": case.template});
        for (key, value) in [
            ("personalisation", input.get("pers").cloned()),
            ("one_click_unsubscribe_url", input.get("unsub").cloned()),
            (sender, case.sender.map(|id| json!(id))),
        ] {
            if let Some(value) = value {
                message[key] = value;
            }
        }
        let path = format!("/v2/notifications/{kind}");
        self.queue(&format!("send-{kind}"), "pause").await;
        let (status, answer) = Client::live(&self.herald).post(&path, &[], &message).await;
        assert_eq!(status, 201, "{}: {answer}", case.name);
        let id = answer["id"].as_str().unwrap().to_owned();
        if let (Some(sender), None) = (input["sender_or_reply_to"].as_str(), case.sender) {
            sqlx::query("update notifications set reply_to_text = $1 where id = $2::uuid")
                .bind(sender)
                .bind(&id)
                .execute(&*self.herald.database)
                .await
                .unwrap();
        }
        self.queue(&format!("send-{kind}"), "resume").await;
        id
    }

    async fn end(&self, id: &str) -> [Value; 2] {
        let row = "select jsonb_build_object('status', notification_status, 'sent_by', sent_by,
                'billable_units', billable_units, 'sent_at_set', sent_at is not null, 'reference', n.reference),
                r.state, r.queue, extract(epoch from r.due_at - now())::float8
            from notifications n join engine.run r using (id)
            where id = $1::uuid and r.state in ('waiting', 'sleeping')";
        let (result, state, queue, left): (Value, String, String, f64) =
            eventually("the run waits for something", || async {
                sqlx::query_as(row)
                    .bind(id)
                    .fetch_optional(&*self.herald.database)
                    .await
                    .unwrap()
            })
            .await;
        let task = match (&*state, &*queue) {
            ("waiting", _) if result["status"] == "created" => "in doubt".to_owned(),
            ("waiting", _) => "done".to_owned(),
            ("sleeping", "retry" | "retry-email") if left < 1.0 => {
                r#"retry {"queue": "retry-tasks", "countdown": 0}"#.to_owned()
            }
            // Celery's own delay of these tasks: 300 s, and what jitter may add.
            ("sleeping", "retry" | "retry-email") if (290.0..331.0).contains(&left) => {
                r#"retry {"queue": "retry-tasks"}"#.to_owned()
            }
            _ => format!("{state} in {queue} for {left} s"),
        };
        [json!(task), result]
    }
}

fn assert_same_request(request: &Request, recorded: &Value, name: &str, id: &str) {
    for (header, value) in recorded["headers"].as_object().unwrap() {
        assert_eq!(request.header(header), value.as_str(), "{name}: {header}");
    }
    let with_id = |text: &str| text.replace("<id>", id);
    if let Some(order) = recorded["form_order"].as_array() {
        // Compared decoded, in order: `~` may stand as it is or as %7E.
        let expected: Vec<(String, String)> = order
            .iter()
            .map(|key| key.as_str().unwrap())
            .map(|key| (key.to_owned(), with_id(recorded["form"][key].as_str().unwrap())))
            .collect();
        assert_eq!(request.form(), expected, "{name}");
    } else {
        let body = String::from_utf8(request.body.clone()).unwrap();
        assert_eq!(body, with_id(&recorded["json"].to_string()), "{name}");
    }
}

/// The recorded system spoke SES v2 (JSON); we speak v1 (a form with the whole message in it). The facts are the same. The
/// HTML part is a design of our own.
fn recorded_facts(case: &Case, id: &str) -> Value {
    let (input, recorded) = (&case.input, &case.recorded["requests"][0]["json"]);
    let content = &recorded["Content"]["Simple"];
    let from = format!("{}@notify.tools", input["email_sender_local_part"].as_str().unwrap());
    let custom = input["custom_email_sender_name"].as_str();
    json!({
        "from_name": custom.or(input["service_name"].as_str()),
        "from": from,
        "source": from,
        "to": recorded["Destination"]["ToAddresses"],
        "header_to": recorded["Destination"]["ToAddresses"][0],
        "reply_to": recorded["ReplyToAddresses"][0],
        "subject": content["Subject"]["Data"],
        "text": content["Body"]["Text"]["Data"],
        "headers": content["Headers"],
        "tag": [ses::REFERENCE_TAG, id],
    })
}

fn field(request: &Request, name: &str) -> Option<String> {
    let mut form = request.form().into_iter();
    form.find(|(key, _)| key == name).map(|(_, value)| value)
}

fn raw_message(request: &Request) -> Vec<u8> {
    STANDARD.decode(field(request, "RawMessage.Data").unwrap()).unwrap()
}

/// As it stands in the message.
fn sender(request: &Request) -> String {
    let raw = raw_message(request);
    let message = MessageParser::default().parse(&raw).unwrap();
    message.header_raw("From").unwrap().trim().to_owned()
}

fn facts(request: &Request, id: &str) -> Value {
    let field = |name: &str| field(request, name);
    assert_eq!(field("Action").as_deref(), Some("SendRawEmail"));
    assert_eq!(field("ConfigurationSetName").as_deref(), Some("emails"));
    let raw = raw_message(request);
    let message = MessageParser::default().parse(&raw).unwrap();
    let header = |name: &str| message.header_raw(name).map(|value| value.trim().to_owned());
    let headers: Vec<Value> = ["List-Unsubscribe", "List-Unsubscribe-Post"]
        .into_iter()
        .filter_map(|name| header(name).map(|value| json!({"Name": name, "Value": value})))
        .collect();
    let from = message.from().and_then(|from| from.first()).unwrap();
    json!({
        "from_name": from.name(),
        "from": from.address(),
        "source": field("Source"),
        "to": [field("Destinations.member.1")],
        "header_to": message.to().and_then(|to| to.first()).and_then(|to| to.address()),
        "reply_to": message.reply_to().and_then(|to| to.first()).and_then(|to| to.address()),
        "subject": message.subject(),
        "text": text_of(&message, id),
        "headers": headers,
        "tag": [field("Tags.member.1.Name"), field("Tags.member.1.Value")],
    })
}

/// The plain text, with the words of the recording for what is another one in each email.
fn text_of(message: &Message<'_>, id: &str) -> String {
    let text = message.body_text(0).unwrap().replace("\r\n", "\n").replace(id, "<id>");
    let Some((before, rest)) = text.split_once("https://admin.example.gov.uk/unsubscribe/<id>/") else {
        return text;
    };
    let after = rest.trim_start_matches(|c: char| !c.is_whitespace());
    format!("{before}<admin_host>/unsubscribe/<id>/<token>{after}")
}
