-- The engine's own schema: durable runs, their append-only journal, and the signals sent to them.
-- It knows nothing of notifications. All instants are the database's.
create schema engine;

-- One row a live run. Whatever its state, `due_at` is the next instant at which a worker has to look at it:
-- ready: when it may start; running: when its lease ends; waiting: when its patience ends; sleeping: when it
-- wakes; failed: never. So one index serves new work, retries, timers, timeouts and the recovery of dead workers.
create table engine.run (
    id uuid primary key, -- version 7: its time chooses the partition of the journal
    workflow text not null, -- frozen name of the story
    queue text not null,
    state text not null check (state in ('ready', 'running', 'waiting', 'sleeping', 'failed')),
    due_at timestamptz not null,
    epoch bigint not null default 0, -- the fence: grows with each claim, and every later write names it
    owner uuid, -- the process that holds the lease; to look at, never to decide by
    attempt integer not null default 0, -- of the step that is being retried
    deaths smallint not null default 0, -- times a process died, or a story panicked, while it held this run
    waits_for text, -- name of the signal that wakes it
    last_error text,
    input jsonb not null,
    created_at timestamptz not null default now(),
    constraint run_has_an_owner_while_running check ((state = 'running') = (owner is not null)),
    constraint run_names_its_signal_while_waiting check ((state = 'waiting') = (waits_for is not null))
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);

create index run_due on engine.run (queue, due_at);

-- What happened, one row a checkpoint; never updated. `events` is an array of the engine's event objects.
create table engine.journal (
    run_id uuid not null,
    seq integer not null, -- 1, 2, 3 … within the run
    epoch bigint not null, -- the claim that wrote it
    at timestamptz not null default now(),
    events jsonb not null,
    primary key (run_id, seq)
) partition by range (run_id);

create sequence engine.signal_order;

-- First write wins by (run, name, key). A signal may come before its run waits, twice, or after the end.
create table engine.signal (
    run_id uuid not null,
    name text not null,
    key text not null,
    n bigint not null default nextval('engine.signal_order'), -- order of arrival
    at timestamptz not null default now(),
    payload jsonb not null,
    primary key (run_id, name, key)
) partition by range (run_id);

create table engine.journal_default partition of engine.journal default;
create table engine.signal_default partition of engine.signal default;

-- Makes the partitions of today and the days ahead; harmless to repeat. A partition holds the runs that began
-- on its day: version 7 ids sort by time, so the bounds are the ids of midnight, UTC.
create function engine.make_partitions(days_ahead integer) returns void language plpgsql as $$
declare
    day date;
    bound text[];
    kind text;
begin
    perform pg_advisory_xact_lock(hashtext('engine.make_partitions'));
    for day in select d::date from generate_series(
        (now() at time zone 'utc')::date, (now() at time zone 'utc')::date + days_ahead, interval '1 day') d
    loop
        select array_agg(substr(h, 1, 8) || '-' || substr(h, 9, 4) || '-0000-0000-000000000000' order by i) into bound
        from (select i, lpad(to_hex((extract(epoch from (day + i)::timestamp) * 1000)::bigint), 12, '0') as h
              from generate_series(0, 1) i) bounds;
        foreach kind in array array['journal', 'signal'] loop
            begin
                if to_regclass(format('engine.%I', kind || to_char(day, '_YYYYMMDD'))) is null then
                    execute format('create table engine.%I partition of engine.%I for values from (%L) to (%L)',
                        kind || to_char(day, '_YYYYMMDD'), kind, bound[1], bound[2]);
                end if;
            exception when check_violation then
                -- Nobody made this one in time: its rows are in the default partition, and may stay there.
                raise warning 'the partition %_% was not made in time', kind, day;
            end;
        end loop;
    end loop;
end $$;

select engine.make_partitions(7);

-- Keys by which a caller makes a start happen once. Outlives the run.
create table engine.run_key (
    workflow text not null,
    key text not null,
    run_id uuid not null,
    created_at timestamptz not null default now(),
    primary key (workflow, key)
);
