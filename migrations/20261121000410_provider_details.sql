-- Ways out, with the weights by which one is drawn. Each change is a version, kept whole with its reason.
create table provider_details (
    id uuid primary key,
    display_name varchar not null,
    identifier varchar not null,
    priority integer not null, -- weight: 0 to 100
    notification_type notification_type not null,
    active boolean not null,
    updated_at timestamp,
    version integer not null,
    created_by_id uuid references users (id),
    supports_international boolean not null,
    reason varchar
);

create table provider_details_history (
    like provider_details,
    primary key (id, version)
);
