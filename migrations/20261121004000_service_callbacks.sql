-- Callbacks to services: where each service wants to be told of which kind of event.
create table service_callback_type (name varchar primary key);
insert into service_callback_type values ('delivery_status'), ('complaint'), ('returned_letter'), ('inbound_sms');

create table service_callback_api (
    id uuid primary key,
    service_id uuid not null references services (id),
    url varchar not null,
    bearer_token varchar not null, -- sealed
    created_at timestamp not null,
    updated_at timestamp,
    updated_by_id uuid not null references users (id),
    version integer not null,
    callback_type varchar references service_callback_type (name),
    signing_secret text, -- ours: sealed, in the form of Standard Webhooks; null: calls are not signed
    constraint uix_service_callback_type unique (service_id, callback_type)
);

create table service_callback_api_history (
    like service_callback_api,
    primary key (id, version)
);

-- Ours from here on. Rows are written in batches with what happened: no foreign keys, which would lock the services.

-- The number of a service's last event. Its row is locked until the event is committed, so no number is left out.
create table service_callback_sequence (
    service_id uuid primary key,
    last bigint not null
) with (fillfactor = 50);

-- What a service is still to be told of, or could not be told of. What it has been told of goes.
create table service_callback_event (
    id uuid primary key, -- version 7; the same in every repetition
    service_id uuid not null,
    callback_type varchar not null,
    sequence bigint not null, -- 1, 2, 3 … within the service
    payload text not null, -- sealed: the body, frozen when it happened
    created_at timestamptz not null default now(),
    give_up_at timestamptz not null, -- no call is repeated after this
    attempts integer not null default 0, -- calls that failed
    last_error text,
    undeliverable_at timestamptz, -- null: it waits
    constraint service_callback_event_number unique (service_id, sequence)
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);

create index service_callback_event_waiting on service_callback_event (service_id, callback_type, sequence)
    where undeliverable_at is null;
create index service_callback_event_undeliverable on service_callback_event (service_id, sequence)
    where undeliverable_at is not null;

-- A service's events of one kind: they are told in order because one run at a time tells them.
create table service_callback_lane (
    service_id uuid not null,
    callback_type varchar not null,
    run_id uuid, -- null: nothing waits
    primary key (service_id, callback_type)
) with (fillfactor = 50);
