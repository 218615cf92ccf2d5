-- Readers who want no more emails of a service, until the service has seen to it.
create table unsubscribe_request (
    id uuid primary key,
    notification_id uuid not null, -- live or archived, so no foreign key
    service_id uuid not null references services (id),
    template_id uuid not null,
    template_version integer not null,
    email_address text not null, -- as the email was addressed
    created_at timestamp not null,
    unsubscribe_request_report_id uuid, -- its foreign key comes with the table unsubscribe_request_report
    constraint fk_unsubscribe_request_template foreign key (template_id, template_version)
        references templates_history (id, version)
);
-- A reader who clicks twice has asked once.
create unique index uq_unsubscribe_request_waiting on unsubscribe_request (notification_id)
    where unsubscribe_request_report_id is null;

-- Users are found by their address however they typed it.
create index ix_users_lower_email_address on users (lower(email_address));
