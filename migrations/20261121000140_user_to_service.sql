-- Who belongs to which service.
create table user_to_service (
    user_id uuid not null references users (id),
    service_id uuid not null references services (id),
    constraint uix_user_to_service unique (user_id, service_id)
);
create index ix_user_to_service_service_id on user_to_service (service_id);
