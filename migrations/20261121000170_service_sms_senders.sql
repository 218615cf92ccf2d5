-- The names and numbers in which a service's texts come. One is the default.
create table service_sms_senders (
    id uuid primary key,
    sms_sender varchar(11) not null,
    service_id uuid not null references services (id),
    is_default boolean not null,
    inbound_number_id uuid unique references inbound_numbers (id),
    created_at timestamp not null,
    updated_at timestamp,
    archived boolean not null
);
create index ix_service_sms_senders_service_id on service_sms_senders (service_id);
