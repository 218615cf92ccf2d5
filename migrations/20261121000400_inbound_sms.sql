-- Texts that people sent to a service.
create table inbound_sms (
    id uuid primary key,
    service_id uuid not null references services (id),
    content varchar not null, -- sealed
    notify_number varchar not null,
    user_number varchar not null, -- international digits, or an alphanumeric sender as it came
    created_at timestamp not null,
    provider_date timestamp,
    provider_reference varchar,
    provider varchar not null
);
create index ix_inbound_sms_service_created_at on inbound_sms (service_id, created_at);
