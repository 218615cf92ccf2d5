-- Where answers to a service's emails go. At most one is the default.
create table service_email_reply_to (
    id uuid primary key,
    service_id uuid not null references services (id),
    email_address text not null,
    is_default boolean not null,
    created_at timestamp not null,
    updated_at timestamp,
    archived boolean not null
);
create index ix_service_email_reply_to_service_id on service_email_reply_to (service_id);
