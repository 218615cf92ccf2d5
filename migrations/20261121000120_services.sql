-- The tenants. Each change is kept whole in services_history.
create table services (
    id uuid primary key,
    name varchar(255) not null unique,
    created_at timestamp not null,
    updated_at timestamp,
    active boolean not null,
    restricted boolean not null, -- in trial mode
    created_by_id uuid not null references users (id),
    version integer not null,
    organisation_type varchar(255) references organisation_types (name),
    prefix_sms boolean not null, -- texts begin with the service's name
    crown boolean,
    rate_limit integer not null default 3000, -- requests a minute and key type
    contact_link varchar(255),
    consent_to_research boolean,
    volume_email integer,
    volume_letter integer,
    volume_sms integer,
    count_as_live boolean not null,
    go_live_at timestamp,
    go_live_user_id uuid references users (id),
    organisation_id uuid, -- its foreign key comes with the table organisation
    notes text,
    billing_contact_email_addresses text,
    billing_contact_names text,
    billing_reference varchar(255),
    purchase_order_number varchar(255),
    letter_message_limit bigint not null default 999999999, -- a UTC day
    sms_message_limit bigint not null default 999999999,
    email_message_limit bigint not null default 999999999,
    has_active_go_live_request boolean not null default false,
    normalised_service_name varchar not null unique,
    custom_email_sender_name varchar(255), -- null: the service's name
    email_sender_local_part varchar(255) not null,
    international_sms_message_limit bigint not null default 250000,
    confirmed_unique boolean not null default false,
    confirmed_email_sender_name boolean
);
create index ix_services_created_by_id on services (created_by_id);
create index ix_services_organisation_id on services (organisation_id);

create table services_history (
    like services,
    primary key (id, version)
);
