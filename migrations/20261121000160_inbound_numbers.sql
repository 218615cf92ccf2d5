-- Numbers that people can write to; a free one has no service.
create table inbound_numbers (
    id uuid primary key,
    number varchar(11) not null unique,
    provider varchar not null,
    service_id uuid unique references services (id),
    active boolean not null,
    created_at timestamp not null,
    updated_at timestamp
);
