-- Flow control, control by people, and what a look at a run needs.
--
-- A run's `due_at` keeps its meaning, the next instant at which a worker has to look at it, in three partial indexes of
-- which a row is in one at most. What is ready has no instant: there `due_at` is its turn, by which services share a
-- queue fairly; a turn may lie ahead, and does not hold back a worker that has nothing else to do.
alter table engine.run
    add column tenant uuid, -- whose run it is: the unit of fair shares
    add column key text, -- at most key_limit runs of a key are ready or running at once; the others are blocked
    add column key_limit integer check (key_limit > 0),
    add column start_by timestamptz, -- a run that has not begun by then makes no attempt
    add column expires_at timestamptz, -- no attempt is made after this
    add column control text check (control in ('paused', 'cancelled')), -- what people want of it
    add column control_reason text,
    add column was_due timestamptz, -- due_at as it will be when the pause ends
    add constraint run_key_has_its_limit check ((key is null) = (key_limit is null)),
    drop constraint run_state_check,
    -- blocked: its key is taken. parked: no worker so far could read it; looked at again once a minute.
    add constraint run_state_check
        check (state in ('ready', 'blocked', 'running', 'waiting', 'sleeping', 'parked', 'failed'));

drop index engine.run_due;
create index run_ready on engine.run (queue, due_at) where state = 'ready';
create index run_held on engine.run (queue, due_at) where state = 'running';
create index run_timer on engine.run (queue, due_at) where state in ('waiting', 'sleeping', 'parked');
create index run_failed on engine.run (queue, id) where state = 'failed';
create index run_blocked on engine.run (key, due_at) where state = 'blocked';
create index run_keyed on engine.run (key) where key is not null and state in ('ready', 'running');

-- Which claim wrote a checkpoint.
alter table engine.journal add column owner uuid, add column claimed_at timestamptz;

-- What people decided about queues. A queue without a row runs freely. The row '*' speaks for queues that say nothing
-- of their own, so that everything can be paused and then opened queue by queue.
create table engine.queue (
    name text primary key,
    paused boolean, -- null: as '*' says
    max_running integer check (max_running > 0), -- over all workers
    rate double precision check (rate > 0), -- starts a second over all workers: a token bucket
    burst double precision check (burst >= 1),
    tokens double precision not null default 0,
    refilled_at timestamptz not null default now(),
    constraint queue_rate_has_its_burst check ((rate is null) = (burst is null))
);

-- Who did what to runs and queues by hand.
create table engine.audit (
    id bigint generated always as identity primary key,
    at timestamptz not null default now(),
    actor text not null,
    action text not null,
    target jsonb not null,
    reason text not null,
    changed integer not null -- how many runs or queues
);
create index audit_at on engine.audit (at);

-- Lets the next blocked runs of these keys become ready, as far as their limits allow. Call it whenever a run of a key
-- has stopped being ready or running, or a blocked one was added. The lock makes the counting exact.
create function engine.promote(keys text[]) returns setof text language plpgsql as $$
declare
    the_key text;
    free bigint;
begin
    for the_key in select distinct k from unnest(keys) k where k is not null order by k loop
        perform pg_advisory_xact_lock(hashtext('engine.key'), hashtext(the_key));
        select key_limit into free from engine.run where key = the_key and state = 'blocked' order by due_at limit 1;
        continue when not found;
        free := free - (select count(*) from engine.run where key = the_key and state in ('ready', 'running'));
        continue when free <= 0;
        return query
        update engine.run set state = 'ready'
        where id = any (array(
            select id from engine.run
            where key = the_key and state = 'blocked' and due_at < 'infinity'
            order by due_at limit free for update))
        returning queue;
    end loop;
end $$;

-- Takes up to `room` runs of a queue under a new lease. First those whose lease has ended: a dead worker's, whose death
-- is counted; they hold their place in every limit already. Then timers that have run out, for half of the room at
-- most, so that an hour's worth of them cannot starve what is new. Then the ready, in the order of their turns.
--
-- Where `since` and `turn` are given, only timers that ran out after the one are looked for, and only the ready from the
-- other on, and no ended leases. What was due before was found before, and its index entries are dead: while an old
-- transaction keeps them from being cleaned, a claim walks over all of them. Claimers give the bounds when `walked`, the
-- seconds it took to find what is due, says that they are worth it. `last_turn` is that of the last ready run.
--
-- Each array walks its partial index and locks as it goes, 0.1 ms for 100 runs; joined to the update instead of
-- gathered in an array, the planner may run it once a row. Skipping locked rows keeps claimers apart.
create function engine.claim(
    the_queue text, the_owner uuid, lease double precision, room bigint, since timestamptz, turn timestamptz)
returns table (
    id uuid, workflow text, input jsonb, epoch bigint, attempt integer, deaths smallint, created_at timestamptz,
    claimed_at timestamptz, start_by timestamptz, expires_at timestamptz, control text, control_reason text,
    last_turn timestamptz, walked double precision)
language plpgsql as $$
#variable_conflict use_column
declare
    is_paused boolean;
    is_limited boolean;
    limits engine.queue;
    fresh bigint := room;
    held uuid[];
    timers uuid[];
    ready uuid[];
    keys text[];
    keyed uuid[];
    the_turn timestamptz;
    began timestamptz;
    the_walk double precision;
begin
    select coalesce(bool_or(q.paused) filter (where q.name = the_queue), bool_or(q.paused) filter (where q.name = '*'), false),
        coalesce(bool_or(q.max_running is not null or q.rate is not null) filter (where q.name = the_queue), false)
    into is_paused, is_limited
    from engine.queue q where q.name in (the_queue, '*');
    if is_paused then
        return;
    end if;
    if is_limited then
        -- Claimers of a limited queue go one after the other, which makes its limits exact.
        select * into strict limits from engine.queue q where q.name = the_queue for update;
        if limits.rate is not null then
            limits.tokens := least(limits.burst, limits.tokens
                + limits.rate * greatest(0, extract(epoch from clock_timestamp() - limits.refilled_at)));
            fresh := least(fresh, floor(limits.tokens)::bigint);
        end if;
        if limits.max_running is not null then
            fresh := least(fresh, limits.max_running
                - (select count(*) from engine.run r where r.queue = the_queue and r.state = 'running'));
        end if;
        fresh := greatest(fresh, 0);
    end if;
    began := clock_timestamp();
    held := '{}';
    if since is null then
        held := array(
            select r.id from engine.run r
            where r.queue = the_queue and r.state = 'running' and r.due_at <= now()
            order by r.due_at limit room for update skip locked);
    end if;
    fresh := least(fresh, room - cardinality(held));
    select coalesce(array_agg(t.id) filter (where t.key is null), '{}'), array_agg(t.key), array_agg(t.id) filter (where t.key is not null)
    into timers, keys, keyed
    from (select r.id, r.key from engine.run r
        where r.queue = the_queue and r.state in ('waiting', 'sleeping', 'parked') and r.due_at <= now()
            and r.due_at >= coalesce(since, '-infinity')
        order by r.due_at limit (fresh + 1) / 2 for update skip locked) t;
    if keyed is not null then
        update engine.run r set state = 'blocked', waits_for = null where r.id = any (keyed);
        perform engine.promote(keys);
    end if;
    select coalesce(array_agg(t.id), '{}'), max(t.due_at) into ready, the_turn
    from (select r.id, r.due_at from engine.run r
        where r.queue = the_queue and r.state = 'ready' and r.due_at < 'infinity' and r.due_at >= coalesce(turn, '-infinity')
        order by r.due_at limit fresh - cardinality(timers) for update skip locked) t;
    if limits.rate is not null then
        update engine.queue q set refilled_at = clock_timestamp(),
            tokens = limits.tokens - cardinality(held) - cardinality(timers) - cardinality(ready)
        where q.name = the_queue;
    end if;
    if cardinality(held) + cardinality(timers) + cardinality(ready) = 0 then
        return;
    end if;
    the_walk := extract(epoch from clock_timestamp() - began);
    return query
    update engine.run r
    set deaths = r.deaths + (r.state = 'running')::int::smallint,
        state = 'running', epoch = r.epoch + 1, owner = the_owner, waits_for = null,
        due_at = clock_timestamp() + lease * interval '1 second'
    where r.id = any (held || timers || ready)
    returning r.id, r.workflow, r.input, r.epoch, r.attempt, r.deaths, r.created_at, clock_timestamp(), r.start_by, r.expires_at,
        r.control, r.control_reason, the_turn, the_walk;
end $$;

-- Makes the partitions of today and the days ahead; harmless to repeat. A partition holds the runs that began on its
-- day: version 7 ids sort by time, so the bounds are the ids of midnight, UTC. A table that is made apart and then
-- attached locks nobody out, unlike one that is made as a partition.
create or replace function engine.make_partitions(days_ahead integer) returns void language plpgsql as $$
declare
    day date;
    kind text;
    name text;
begin
    perform pg_advisory_xact_lock(hashtext('engine.make_partitions'));
    for day in select d::date from generate_series(
        (now() at time zone 'utc')::date, (now() at time zone 'utc')::date + days_ahead, interval '1 day') d
    loop
        foreach kind in array array['journal', 'signal'] loop
            name := kind || to_char(day, '_YYYYMMDD');
            continue when to_regclass(format('engine.%I', name)) is not null;
            begin
                execute format('create table engine.%I (like engine.%I including defaults including constraints)', name, kind);
                execute format('alter table engine.%I attach partition engine.%I for values from (%L) to (%L)',
                    kind, name, engine.first_id_of(day), engine.first_id_of(day + 1));
            exception when check_violation then
                -- Nobody made this one in time: its rows are in the default partition, and may stay there.
                raise warning 'the partition % was not made in time', name;
            end;
        end loop;
    end loop;
end $$;

-- The smallest version 7 id of a day, UTC.
create function engine.first_id_of(day date) returns uuid language sql immutable as $$
    select (substr(h, 1, 8) || '-' || substr(h, 9, 4) || '-0000-0000-000000000000')::uuid
    from lpad(to_hex((extract(epoch from day::timestamp) * 1000)::bigint), 12, '0') h
$$;

-- Drops the oldest partition whose day lies more than `keep_days` back and of whose runs none lives any more; null when
-- there is none. Emptying it locks that partition alone; taking it away locks its parent, for which nobody has to wait
-- longer than a tenth of a second: if that is too short, the empty partition goes another time.
create function engine.drop_partition(keep_days integer) returns text language plpgsql as $$
declare
    last_day date := (now() at time zone 'utc')::date - keep_days;
    child record;
    day date;
begin
    for child in
        select c.oid::regclass::text as old, i.inhparent::regclass as parent, to_date(right(c.relname, 8), 'YYYYMMDD') as day
        from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent in ('engine.journal'::regclass, 'engine.signal'::regclass) and c.relname ~ '_\d{8}$'
        order by 3, 1
    loop
        exit when child.day >= last_day;
        continue when exists (
            select from engine.run where id >= engine.first_id_of(child.day) and id < engine.first_id_of(child.day + 1));
        execute format('truncate %s', child.old);
        perform set_config('lock_timeout', '100ms', true);
        begin
            execute format('alter table %s detach partition %s', child.parent, child.old);
            execute format('drop table %s', child.old);
            return child.old;
        exception when lock_not_available then
            continue;
        end;
    end loop;
    return null;
end $$;

create index run_key_age on engine.run_key using brin (created_at);

-- How many live runs of a queue are in a state, as the planner believes: for numbers that are too large to count.
create function engine.estimate(the_queue text, the_state text) returns bigint language plpgsql as $$
declare
    plan json;
begin
    execute format('explain (format json) select from engine.run where queue = %L and state = %L', the_queue, the_state)
    into plan;
    return (plan -> 0 -> 'Plan' ->> 'Plan Rows')::bigint;
end $$;
