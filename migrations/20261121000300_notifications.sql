-- Live messages, until the end of their retention: the hot table. A row is inserted once and updated about twice
-- (sending; then delivered or failed), each time in a batch. Figures: 100,000 texts in batches of 200, one connection,
-- Postgres 15, two cores.
--
-- Left out on purpose, against Notify's table:
-- - Foreign keys (service, template version, key, job, status, key type). Each costs a look-up and a lock on the parent
--   row at every insert, and all messages of a service would share one. Inserts fell from 95,000 to 40,000 rows/s with
--   five of them. Parents are never deleted, and the API has read them before it inserts. The two closed sets of words
--   are checks here.
-- - Indexes with notification_status (id with status; type, status and time; service, type and time where not
--   delivered): each status update would write every index anew instead of staying in its page. With all of Notify's
--   indexes: no update stays, 794 bytes of index and 3,784 of log a row, 14,000 messages/s through all three steps;
--   with these: all stay, 72 and 1,197 bytes, 36,000 messages/s.
-- - Timeouts need none: each message's own run wakes up for it.
-- - created_at, job_id, template_id alone, and trigrams: no read of ours needs them yet. A migration that brings such a
--   read measures again; for spans of time over all services try brin first.
create table notifications (
    id uuid primary key,
    "to" varchar not null, -- as typed
    job_id uuid,
    service_id uuid,
    template_id uuid,
    created_at timestamp not null,
    sent_at timestamp,
    sent_by varchar, -- identifier of the provider
    updated_at timestamp,
    reference varchar, -- the provider's message id, for emails; a text's receipt names the id
    template_version integer not null,
    job_row_number integer,
    _personalisation varchar, -- a sealed JSON object
    api_key_id uuid,
    key_type varchar(255) not null,
    notification_type notification_type not null,
    billable_units integer not null,
    client_reference varchar,
    international boolean,
    phone_prefix varchar,
    rate_multiplier numeric,
    notification_status text not null,
    normalised_to varchar, -- digits without plus, or the lower-case address
    created_by_id uuid,
    reply_to_text varchar,
    postage varchar,
    document_download_count integer,
    unsubscribe_link varchar,
    constraint ck_notifications_key_type check (key_type in ('normal', 'team', 'test')),
    constraint ck_notifications_status check (notification_status in (
        'created', 'sending', 'sent', 'delivered', 'pending', 'failed', 'technical-failure', 'temporary-failure',
        'permanent-failure', 'pending-virus-check', 'validation-failed', 'virus-scan-failed', 'returned-letter',
        'cancelled')),
    constraint ck_unsubscribe_link_is_null_if_not_email check (notification_type = 'email' or unsubscribe_link is null)
) with (
    -- A batch updates all rows of a page at once, and its old versions cannot go before it commits: a page needs room
    -- for each row twice. Updates that stay in their page: 2% at 100, 55% at 70, 96% at 50, all at 45.
    fillfactor = 45,
    -- A fifth of the table, the default, is days of messages.
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_insert_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.02
);
-- Sealed text does not compress; do not try.
alter table notifications alter column _personalisation set storage external;

-- Lists, statistics and retention of one service.
create index ix_notifications_service_created_at on notifications (service_id, created_at);

-- Receipts of emails. It makes an email's update to `sending` a full one, which writes every index.
create index ix_notifications_reference on notifications (reference) where reference is not null;

-- Lists by the client's own reference, which many messages may share.
create index ix_notifications_client_reference on notifications (service_id, client_reference, created_at)
    where client_reference is not null;

-- A row of an uploaded list becomes one message.
create unique index uq_notifications_job_row_number on notifications (job_id, job_row_number) where job_id is not null;
