-- What is left of a request to unsubscribe that no service has taken up for long: no address. Those that a report has taken
-- up go here once it was processed; that comes with reports.
create table unsubscribe_request_history (
    id uuid primary key,
    notification_id uuid not null,
    service_id uuid not null,
    template_id uuid not null,
    template_version integer not null,
    created_at timestamp not null,
    unsubscribe_request_report_id uuid
);
-- The oldest are looked for every hour.
create index ix_unsubscribe_request_waiting_since on unsubscribe_request (created_at)
    where unsubscribe_request_report_id is null;
