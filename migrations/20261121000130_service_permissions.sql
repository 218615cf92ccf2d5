-- What a service may do.
create table service_permissions (
    service_id uuid not null references services (id),
    permission varchar(255) not null references service_permission_types (name),
    created_at timestamp not null,
    primary key (service_id, permission)
);
