-- The guest list: whom a service in trial mode may write to besides its team.
create table service_whitelist (
    id uuid primary key,
    service_id uuid not null references services (id),
    recipient_type recipient_type not null,
    recipient varchar(255) not null, -- as typed
    created_at timestamp
);
create index ix_service_whitelist_service_id on service_whitelist (service_id);
