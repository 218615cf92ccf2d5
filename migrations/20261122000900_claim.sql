-- What sleeps, by share: tenants with the same hash share theirs.
create index run_asleep on engine.run (queue, uuid_hash(tenant), due_at)
where state = 'sleeping' and tenant is not null and key is null;

-- Its answer has one column more than before, for which it must be made anew; the columns that earlier versions of the program
-- ask for are all there.
drop function engine.claim(text, uuid, double precision, bigint, timestamptz, timestamptz, timestamptz);

-- Takes up to `room` due runs of a queue, and begins a new lease of each: first those whose lease has ended, then timers
-- that ran out, which get half of what is left at most (of a single place it is drawn whose it is), then those that
-- are ready. The limits of the queue hold.
--
-- Timers are taken by age. Where more have run out than there is room for, the runs that sleep, most of them between two
-- attempts, are taken by tenant for up to half of that room: a service whose million texts are to be repeated does not hold up
-- the one of another. Whose turn it is, is drawn, so that a claim looks at few tenants, however many there are. Their order by
-- share and instant leaves the planner one index only. While the whole way is too dear to be walked, all are taken by age.
--
-- The last three are what a walk before has `seen` through, and where this one may begin, since the index entries before are
-- dead; without them it goes the whole way. What is null in the answer was not walked. Where nothing is due, a row without a
-- run tells how the walk went; of a paused queue there is none. Leases and timers were seen up to `since`; of the ready, whose turns may lie ahead of the present, those up to `turn` and those from the present to
-- `ahead`: what comes in between is found when its turn has come. Urgent runs, whose turns are put a day back, are looked for
-- there. What turns up elsewhere, such as a resumed run, is for a whole walk to find.
--
-- What is due is remembered by its place in the table, not by its id: its row is locked, so the place stays, and the
-- update need not look for each id in the primary key.
--
-- Its statements are planned once, not anew with the limits of each call. They go through their indexes in order, whatever
-- the planner believes: with statistics of an empty table it would fetch and sort all that is ready, for each claim.
--
-- Of the runs that two workers have died with before, one of a queue is taken up at a time, any of them, while no other is
-- held: whichever kills its worker, or stops a batch, does not drag those along again and again that were only beside it.
--
-- A rate holds for ended leases too, since they are begun again. The bucket is filled and emptied as of one instant, so
-- that what comes in while the claim walks is not lost. Where it is empty, `rest` tells in how many seconds it holds a token.
--
-- The function of the same name with one bound less is for processes of an earlier version.
create function engine.claim(
    the_queue text, the_owner uuid, lease double precision, room bigint, since timestamptz, turn timestamptz, ahead timestamptz)
returns table (
    id uuid, workflow text, input jsonb, epoch bigint, attempt integer, deaths smallint, created_at timestamptz,
    claimed_at timestamptz, start_by timestamptz, expires_at timestamptz, control text, control_reason text,
    walked double precision, seen timestamptz, turns_seen timestamptz, ahead_seen timestamptz, rest double precision)
language plpgsql set plan_cache_mode = force_generic_plan set enable_bitmapscan = off set enable_sort = off as $$
#variable_conflict use_column
declare
    is_paused boolean;
    is_limited boolean;
    at timestamptz;
    limits engine.queue;
    fresh bigint := room;
    startable bigint := room; -- as the rate allows
    held tid[];
    first_suspect timestamptz;
    is_of_the_ready boolean; -- the only place
    timers_room bigint;
    is_crowded boolean;
    timers tid[] := '{}';
    by_age tid[];
    shared bigint;
    share integer;
    first_share integer;
    asleep_until timestamptz;
    shares integer[] := '{}';
    ready tid[];
    keys text[];
    keyed uuid[];
    last timestamptz;
    leases_to timestamptz;
    timers_to timestamptz;
    turns_to timestamptz := now();
    ahead_to timestamptz := greatest(ahead, now());
    began timestamptz;
    stopped timestamptz;
begin
    select coalesce(bool_or(q.paused) filter (where q.name = the_queue), bool_or(q.paused) filter (where q.name = '*'), false),
        coalesce(bool_or(q.max_running is not null or q.rate is not null) filter (where q.name = the_queue), false)
    into is_paused, is_limited
    from engine.queue q where q.name in (the_queue, '*');
    if is_paused then
        return;
    end if;
    if is_limited then
        -- Where the bucket is empty, nobody need wait for anybody, nor write; unless the clock has been set back.
        select * into strict limits from engine.queue q where q.name = the_queue;
        at := clock_timestamp();
        limits.tokens := least(limits.burst, limits.tokens
            + limits.rate * greatest(0, extract(epoch from at - limits.refilled_at)));
        if limits.tokens < 1 and limits.refilled_at <= at then
            walked := 0;
            rest := (1 - limits.tokens) / limits.rate;
            return next;
            return;
        end if;
        -- Claimers of a limited queue go one after the other, which makes its limits exact.
        select * into strict limits from engine.queue q where q.name = the_queue for update;
        at := clock_timestamp();
        if limits.rate is not null then
            limits.tokens := least(limits.burst, limits.tokens
                + limits.rate * greatest(0, extract(epoch from at - limits.refilled_at)));
            startable := least(room, greatest(0, floor(limits.tokens)::bigint));
        end if;
        if limits.max_running is not null then
            fresh := least(fresh, limits.max_running
                - (select count(*) from engine.run r where r.queue = the_queue and r.state = 'running'));
        end if;
        fresh := greatest(fresh, 0);
    end if;
    began := clock_timestamp();
    select coalesce(array_agg(t.place), '{}'), min(t.due_at) filter (where t.deaths >= 2),
        case when count(*) < startable then now() else coalesce(max(t.due_at), since) end
    into held, first_suspect, leases_to
    from (select r.ctid as place, r.deaths, r.due_at from engine.run r
        where r.queue = the_queue and r.state = 'running' and r.due_at <= now() and r.due_at >= coalesce(since, '-infinity')
        order by r.due_at limit startable for update skip locked) t;
    if first_suspect is not null then
        leases_to := first_suspect;
        held := array(
            select r.ctid from engine.run r
            where r.queue = the_queue and r.state = 'running' and r.due_at <= now() and r.due_at >= coalesce(since, '-infinity')
                and r.deaths < 2
            order by r.due_at limit startable for update skip locked);
        if cardinality(held) < startable and not exists (
            select from engine.run r
            where r.queue = the_queue and r.state = 'running' and r.due_at > now() and r.deaths > 2)
        then
            held := held || array(
                select r.ctid from engine.run r
                where r.queue = the_queue and r.state = 'running' and r.due_at <= now() and r.deaths >= 2
                order by random() limit 1 for update skip locked);
        end if;
    end if;
    fresh := least(fresh, startable - cardinality(held));
    is_of_the_ready := fresh = 1 and random() < 0.5;
    timers_room := case when is_of_the_ready then 0 else (fresh + 1) / 2 end;
    if since is null and timers_room > 0 then
        stopped := clock_timestamp();
        is_crowded := exists (
            select from engine.run r
            where r.queue = the_queue and r.state in ('waiting', 'sleeping', 'parked') and r.due_at <= now()
            order by r.due_at offset timers_room limit 1);
        if is_crowded and clock_timestamp() < stopped + interval '2 milliseconds' then
            shared := (timers_room + floor(2 * random())::bigint) / 2;
            share := floor(4294967296 * random())::bigint - 2147483648;
            for look in 1 .. 32 loop
                exit when cardinality(shares) >= least(shared, 16);
                select uuid_hash(r.tenant), r.due_at into share, asleep_until
                from engine.run r
                where r.queue = the_queue and r.state = 'sleeping' and r.tenant is not null and r.key is null
                    and uuid_hash(r.tenant) > share
                order by uuid_hash(r.tenant), r.due_at limit 1;
                if not found then
                    select uuid_hash(r.tenant), r.due_at into share, asleep_until
                    from engine.run r
                    where r.queue = the_queue and r.state = 'sleeping' and r.tenant is not null and r.key is null
                    order by uuid_hash(r.tenant), r.due_at limit 1;
                end if;
                first_share := coalesce(first_share, share);
                exit when share is null or look > 1 and share = first_share or share = any (shares);
                if asleep_until <= now() then
                    shares := shares || share;
                end if;
            end loop;
            for look in 1 .. cardinality(shares) loop
                timers := timers || array(
                    select r.ctid from engine.run r
                    where r.queue = the_queue and r.state = 'sleeping' and r.tenant is not null and r.key is null
                        and (uuid_hash(r.tenant), r.due_at) >= (shares[look], '-infinity')
                        and (uuid_hash(r.tenant), r.due_at) <= (shares[look], now())
                    order by uuid_hash(r.tenant), r.due_at
                    limit (shared - cardinality(timers)) / (cardinality(shares) - look + 1) for update skip locked);
            end loop;
        end if;
        began := began + (clock_timestamp() - stopped); -- Only the walk by age tells whether the way is dear.
    end if;
    timers_room := timers_room - cardinality(timers);
    select coalesce(array_agg(t.place) filter (where t.key is null), '{}'), array_agg(t.key), array_agg(t.id) filter (where t.key is not null),
        case when count(*) < timers_room then now() else coalesce(max(t.due_at), since) end
    into by_age, keys, keyed, timers_to
    from (select r.id, r.ctid as place, r.key, r.due_at from engine.run r
        where r.queue = the_queue and r.state in ('waiting', 'sleeping', 'parked') and r.due_at <= now()
            and r.due_at >= coalesce(since, '-infinity') and r.ctid <> all (timers)
        order by r.due_at limit timers_room for update skip locked) t;
    timers := timers || by_age;
    if keyed is not null then
        update engine.run r set state = 'blocked', waits_for = null where r.id = any (keyed);
        perform engine.promote(keys);
    end if;
    fresh := fresh - cardinality(timers);
    if turn is null then
        select coalesce(array_agg(t.place), '{}'), max(t.due_at) into ready, last
        from (select r.ctid as place, r.due_at from engine.run r
            where r.queue = the_queue and r.state = 'ready' and r.due_at < 'infinity'
            order by r.due_at limit fresh for update skip locked) t;
        if cardinality(ready) >= fresh then
            turns_to := case when last is not null then least(last, now()) end;
        end if;
    else
        ready := array(
            select r.ctid from engine.run r
            where r.queue = the_queue and r.state = 'ready' and r.due_at >= turn - interval '24 hours' and r.due_at < turn - interval '12 hours'
            order by r.due_at limit fresh for update skip locked);
        select ready || coalesce(array_agg(t.place), '{}'), case when count(*) < fresh - cardinality(ready) then now() else coalesce(max(t.due_at), turn) end
        into ready, turns_to
        from (select r.ctid as place, r.due_at from engine.run r
            where r.queue = the_queue and r.state = 'ready' and r.due_at >= turn and r.due_at <= now()
            order by r.due_at limit fresh - cardinality(ready) for update skip locked) t;
        select ready || coalesce(array_agg(t.place), '{}'), max(t.due_at) into ready, last
        from (select r.ctid as place, r.due_at from engine.run r
            where r.queue = the_queue and r.state = 'ready' and r.due_at < 'infinity' and r.due_at >= ahead_to and r.due_at > now()
            order by r.due_at limit fresh - cardinality(ready) for update skip locked) t;
    end if;
    ahead_to := greatest(ahead_to, last);
    if limits.rate is not null then
        update engine.queue q set refilled_at = at,
            tokens = limits.tokens - cardinality(held) - cardinality(timers) - cardinality(ready)
        where q.name = the_queue;
    end if;
    walked := extract(epoch from clock_timestamp() - began);
    seen := case when leases_to is not null and timers_to is not null then least(leases_to, timers_to) end;
    turns_seen := turns_to;
    ahead_seen := ahead_to;
    if cardinality(held) + cardinality(timers) + cardinality(ready) = 0 then
        if is_of_the_ready then
            -- There is none that could be had: perhaps a timer is.
            return query select * from engine.claim(the_queue, the_owner, lease, room, since, turn, ahead);
            return;
        end if;
        rest := case when limits.tokens < 1 then (1 - limits.tokens) / limits.rate end;
        return next;
        return;
    end if;
    return query
    update engine.run r
    set deaths = r.deaths + (r.state = 'running')::int::smallint,
        state = 'running', epoch = r.epoch + 1, owner = the_owner, waits_for = null,
        due_at = clock_timestamp() + lease * interval '1 second'
    where r.ctid = any (held || timers || ready)
    returning r.id, r.workflow, r.input, r.epoch, r.attempt, r.deaths, r.created_at, clock_timestamp(), r.start_by, r.expires_at,
        r.control, r.control_reason, walked, seen, turns_seen, ahead_seen, rest;
end $$;
