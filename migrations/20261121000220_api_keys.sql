-- Keys of services. The secret is sealed, not hashed: it has to check signatures.
create table api_keys (
    id uuid primary key,
    name varchar(255) not null,
    secret varchar(255) not null unique,
    service_id uuid not null references services (id),
    expiry_date timestamp, -- set when revoked
    created_at timestamp not null,
    created_by_id uuid not null references users (id),
    updated_at timestamp,
    version integer not null,
    key_type varchar(255) not null references key_types (name)
);
create index ix_api_keys_service_id on api_keys (service_id);
create unique index uix_service_to_key_name on api_keys (service_id, name) where expiry_date is null;

create table api_keys_history (
    like api_keys,
    primary key (id, version)
);
