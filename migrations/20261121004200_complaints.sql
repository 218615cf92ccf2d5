-- What recipients reported as unwanted, by way of SES. The notification may be in its history by then.
create table complaints (
    id uuid primary key,
    notification_id uuid not null, -- live or archived, so no foreign key
    service_id uuid not null references services (id),
    ses_feedback_id text, -- SES' id of the report: told twice, it is one
    complaint_type text, -- abuse, fraud, not-spam …: the mailbox provider's word, where it has one
    complaint_date timestamp, -- when the report reached SES
    created_at timestamp not null,
    constraint uq_complaints_feedback unique (notification_id, ses_feedback_id)
);

-- Pages of all complaints, newest first; the complaints of a service.
create index ix_complaints_created_at on complaints (created_at);
create index ix_complaints_service_id on complaints (service_id);
