-- What services may ask for beyond Notify: see openapi/README.md.
insert into service_permission_types values
    ('schedule_messages'), -- scheduled_for is kept, not only checked
    ('idempotent_references'); -- a repeated client reference is the same request

alter table notifications add column scheduled_for timestamp; -- null: it was to be sent at once

-- Which message a request made that may come again. A row outlives its request by a day.
create table idempotency_keys (
    service_id uuid not null,
    digest bytea not null, -- SHA-256 of the key's type and the client's key or reference: these may be long, or personal
    request bytea not null, -- SHA-256 of what was asked for: a key that is used for something else is refused
    notification_id uuid not null, -- reserved; whether the message was accepted stands in notifications
    expires_at timestamptz not null,
    primary key (service_id, digest),
    constraint ck_idempotency_keys_sha256 check (length(digest) = 32 and length(request) = 32)
);
create index ix_idempotency_keys_expires_at on idempotency_keys (expires_at);
