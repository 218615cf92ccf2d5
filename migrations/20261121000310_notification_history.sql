-- What is left of a message after its retention: nothing personal.
create table notification_history (
    id uuid primary key,
    job_id uuid,
    job_row_number integer,
    service_id uuid,
    template_id uuid,
    template_version integer not null,
    api_key_id uuid,
    key_type varchar not null,
    notification_type notification_type not null,
    created_at timestamp not null,
    sent_at timestamp,
    sent_by varchar,
    updated_at timestamp,
    reference varchar,
    billable_units integer not null,
    client_reference varchar,
    international boolean,
    phone_prefix varchar,
    rate_multiplier numeric,
    notification_status text,
    created_by_id uuid,
    postage varchar,
    document_download_count integer
);
-- Reports read a service and a span of time; late receipts of emails come by reference. Notify's indexes on
-- created_at, job_id and service_id alone are left to the migrations that bring a read for them.
create index ix_notification_history_service_id_composite
    on notification_history (service_id, key_type, notification_type, created_at);
create index ix_notification_history_reference on notification_history (reference) where reference is not null;
